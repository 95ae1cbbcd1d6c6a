/** What is encoded is decoded again; what came is handed on byte for byte. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DataPayload,
  DataPayloads,
  DEFAULT_DECODE_LIMITS,
  decodeCommand,
  decodeData,
  directiveKey,
  encodeData,
  encodeDataInPieces,
  isJson,
  jsonContent,
  LastDirective,
  metadataFrom,
  parseDirective,
  readAttributes,
} from '../../src/message/index.js';

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const directive = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/);
const metadata = fc
  .array(fc.tuple(fc.oneof(text, fc.constant('__proto__'), fc.constant('constructor')), text), { maxLength: 4 })
  .map(metadataFrom);
const contentText = fc.oneof(
  fc.jsonValue().map((value) => JSON.stringify(value)),
  fc.jsonValue().map((value) => JSON.stringify(value, null, 2)),
  fc.constantFrom('12345678901234567890', '1.0', '-0', '{ "b": 1,"a":2 }', '"\\u0041\\/"', '{"__proto__":[]}', '  7 '),
);

test('a data envelope survives the way out and in', () => {
  fc.assert(
    fc.property(
      fc.record({ messageId: text.filter((id) => id !== ''), responseTo: text, directive, metadata }),
      contentText,
      (envelope, content) => {
        const payload = encodeData({ ...envelope, sent: '2026-01-01T00:00:00Z', content: Buffer.from(content) });
        const decoded = decodeData(payload);
        assert.equal(decoded.kind, 'data');
        assert.equal(decoded.envelope.messageId, envelope.messageId);
        assert.equal(decoded.envelope.responseTo, envelope.responseTo);
        assert.equal(decoded.envelope.directive, envelope.directive);
        assert.deepEqual(Object.entries(decoded.envelope.metadata), Object.entries(envelope.metadata));
        assert.equal(decoded.envelope.content.toString(), content.trim());
        assert.doesNotThrow(() => JSON.parse(payload.toString()) as unknown);
      },
    ),
    { numRuns: 300 },
  );
});

test('a directive is read as it stands there, whichever stood in the message before', () => {
  const last = new LastDirective();
  const quoted = fc.oneof(
    fc.constantFrom('"echo"', '"ech_"', '"ec\\u0068o"', '"e"', '""', '"-"', '"é"', 'null', '7'),
    fc.json(),
  );
  fc.assert(
    fc.property(fc.option(quoted), (value) => {
      const field = value === null ? '' : `"directive":${value},`;
      const payload = Buffer.from(`{"type":"data","message_id":"m",${field}"content":1}`);
      assert.deepEqual(decodeData(payload, DEFAULT_DECODE_LIMITS, last), decodeData(payload));
    }),
    { numRuns: 500 },
  );
});

test('a payload that is written where it leaves has the bytes of one that is made', () => {
  const id = fc.oneof(text, fc.uuid(), fc.constantFrom('', 'a"b', 'a\\b', '\u007f', 'é', '\u0080', 'a'.repeat(256)));
  const payloads = new DataPayloads();
  const message = fc.record({
    messageId: id,
    responseTo: id,
    // Few, so that one message has often those of the one before.
    sent: fc.constantFrom('2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.001Z'),
    directive: fc.constantFrom('echo', 'a-b', 'é"'),
    metadata: fc.oneof(fc.constant(metadataFrom([])), metadata),
    content: fc
      .oneof(contentText, fc.constantFrom(`"${'x'.repeat(1022)}"`, `"${'x'.repeat(1021)}"`))
      .map((t) => Buffer.from(t)),
  });
  fc.assert(
    fc.property(message, (data) => {
      const payload = payloads.of(data);
      if (!(payload instanceof DataPayload)) {
        assert.deepEqual(payload, encodeDataInPieces(data));
        return;
      }
      const bytes = Buffer.alloc(payload.size + 10, '.');
      payload.writeTo(bytes, 5);
      assert.equal(bytes.toString(), `.....${encodeData(data).toString()}.....`);
    }),
    { numRuns: 500 },
  );
  const small = { messageId: 'm', responseTo: 'r', sent: 's', directive: 'd', metadata: metadataFrom([]) };
  assert.ok(payloads.of({ ...small, content: Buffer.from('1') }) instanceof DataPayload);
  assert.ok(!(payloads.of({ ...small, content: Buffer.alloc(1024, '1') }) instanceof DataPayload));
});

test('whatever a worker sends goes out as valid JSON, unchanged when it was JSON', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        contentText.map((t) => new Uint8Array(Buffer.from(t))),
      ),
      (array) => {
        const bytes = Buffer.from(array);
        const out = jsonContent(bytes, metadataFrom([]));
        assert.ok(isJson(out.content));
        if (bytes.length === 0) assert.equal(out.content.toString(), 'null');
        else if (isJson(bytes)) assert.equal(out.content, bytes);
        else {
          assert.equal(out.metadata['content-encoding'], 'base64');
          assert.deepEqual(Buffer.from(String(JSON.parse(out.content.toString())), 'base64'), bytes);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('no payload whatever makes a decoder throw', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array)),
    fc
      .record(
        {
          type: fc.constantFrom<unknown>('data', 'command', 1, null),
          message_id: fc.jsonValue(),
          directive: fc.oneof(fc.jsonValue(), directive),
          version: fc.jsonValue(),
          sent: fc.jsonValue(),
          response_to: fc.jsonValue(),
          metadata: fc.jsonValue(),
          content: fc.oneof(fc.jsonValue(), fc.record({ command: fc.jsonValue(), arguments: fc.jsonValue() })),
        },
        { requiredKeys: [] },
      )
      .map((object) => Buffer.from(JSON.stringify(object))),
  );
  fc.assert(
    fc.property(anything, (payload) => {
      for (const decoded of [decodeData(payload), decodeCommand(payload)]) {
        if (decoded.kind === 'malformed') assert.notEqual(decoded.reason, '');
      }
    }),
    { numRuns: 500 },
  );
});

test('a directive’s key knows no difference between hyphen and underscore, and has no hyphen', () => {
  fc.assert(
    fc.property(directive, (name) => {
      const parsed = parseDirective(name);
      const swapped = parseDirective(name.replaceAll('_', '-'));
      assert.ok(parsed && swapped);
      assert.equal(directiveKey(parsed), directiveKey(swapped));
      assert.ok(!directiveKey(parsed).includes('-'));
    }),
  );
});

test('attributes of any text are read without a throw, within their range', () => {
  const value = fc.oneof(text, fc.constantFrom('9', '60', '1e9', '2026-01-01T00:00:00Z', '9999999999'));
  fc.assert(
    fc.property(fc.record({ expires: value, ttl: value, priority: value, 'content-digest': value }), (given) => {
      const read = readAttributes(metadataFrom(Object.entries(given)), 0);
      assert.ok(read.priority >= 0 && read.priority <= 9);
      assert.ok(read.expiresAt === undefined || Number.isFinite(read.expiresAt));
    }),
  );
});
