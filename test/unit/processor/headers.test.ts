import assert from 'node:assert/strict';
import { test } from 'node:test';
import { metadataFrom } from '../../../src/message/index.js';
import { headersFromMetadata, idempotencyKey } from '../../../src/processor/headers.js';

test('what frames a request, belongs to its connection or is a credential is left out in silence', () => {
  const names = ['Connection', 'Keep-Alive', 'TE', 'Trailer', 'Transfer-Encoding', 'Upgrade', 'Content-Length', 'Host'];
  const more = ['COOKIE', 'Authorization', 'Proxy-Authorization', 'proxy-connection', 'Expect', 'User-Agent'];
  const metadata = metadataFrom([...names, ...more, 'Idempotency-Key'].map((name) => [name, 'x'] as const));
  assert.deepEqual(headersFromMetadata(metadata), { headers: {}, dropped: [] });
});

test('what cannot be a header is dropped and named', () => {
  const metadata = metadataFrom([
    ['good', 'a\tb'],
    ['', 'x'],
    ['a b', 'x'],
    ['ümlaut', 'x'],
    ['cr', 'a\rb'],
    ['lf', 'a\nb'],
    ['nul', 'a\0b'],
    ['Good', 'again'],
    ['__proto__', 'kept'],
  ]);
  const { headers, dropped } = headersFromMetadata(metadata);
  assert.deepEqual(Object.entries(headers), [
    ['good', 'a\tb'],
    ['__proto__', 'kept'],
  ]);
  assert.deepEqual(dropped, ['', 'a b', 'ümlaut', 'cr', 'lf', 'nul', 'Good']);
});

test('text beyond ASCII is spelled as the bytes of its UTF-8', () => {
  const { headers } = headersFromMetadata(metadataFrom([['word', 'é€😀']]));
  assert.equal(Buffer.from(headers['word'] ?? '', 'latin1').toString('utf8'), 'é€😀');
});

test('an id that cannot be a header value is encoded, always in the same way', () => {
  assert.equal(idempotencyKey('3f2a-1'), '3f2a-1');
  assert.equal(idempotencyKey('a b\r\nc'), 'a%20b%0D%0Ac');
  assert.equal(idempotencyKey('\ud800'), '%EF%BF%BD');
});
