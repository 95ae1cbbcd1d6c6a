/** Attributes in the metadata, and the metadata of an error answer. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  contentSize,
  DEFAULT_PRIORITY,
  errorMetadata,
  messageKey,
  metadataFrom,
  readAttributes,
  spoolSize,
  type Attributes,
} from '../../../src/message/index.js';

const ARRIVED = Date.parse('2026-01-01T00:00:00Z');
const read = (metadata: Record<string, string>): Attributes =>
  readAttributes(metadataFrom(Object.entries(metadata)), ARRIVED);

describe('readAttributes', () => {
  test('nothing given is nothing asked, with the middle priority', () => {
    assert.deepEqual(read({}), { expiresAt: undefined, priority: DEFAULT_PRIORITY, digest: undefined, unreadable: [] });
  });

  test('the earliest of expires and arrival + ttl holds', () => {
    assert.equal(read({ expires: '2026-01-01T00:01:00Z' }).expiresAt, ARRIVED + 60_000);
    assert.equal(read({ ttl: '30' }).expiresAt, ARRIVED + 30_000);
    assert.equal(read({ ttl: '1.5' }).expiresAt, ARRIVED + 1_500);
    assert.equal(read({ expires: '2026-01-01T00:01:00Z', ttl: '30' }).expiresAt, ARRIVED + 30_000);
    assert.equal(read({ expires: '2026-01-01T00:00:10Z', ttl: '30' }).expiresAt, ARRIVED + 10_000);
  });

  test('expires is read in every form of RFC 3339', () => {
    for (const text of [
      '2026-01-01T01:00:00+01:00',
      '2026-01-01t00:00:00z',
      '2026-01-01 00:00:00Z',
      ' 2026-01-01T00:00:00.000Z ',
    ]) {
      assert.equal(read({ expires: text }).expiresAt, ARRIVED, text);
    }
  });

  test('a priority is one digit, a digest the hex of a SHA-256', () => {
    assert.equal(read({ priority: '9' }).priority, 9);
    assert.equal(read({ 'content-digest': `SHA-256:${'AB'.repeat(32)}` }).digest, 'ab'.repeat(32));
  });

  test('what cannot be read counts as not given, and is named', () => {
    const attributes = read({
      expires: '2026-13-01T00:00:00Z',
      ttl: '-1',
      priority: '10',
      'content-digest': 'md5:00',
    });
    assert.deepEqual(attributes, {
      expiresAt: undefined,
      priority: DEFAULT_PRIORITY,
      digest: undefined,
      unreadable: ['expires', 'ttl', 'priority', 'content-digest'],
    });
    assert.deepEqual(read({ expires: 'tomorrow' }).unreadable, ['expires']);
  });
});

describe('errorMetadata', () => {
  test('says that it is an error, which and why', () => {
    assert.deepEqual(
      { ...errorMetadata({ code: 'expired', text: 'too late' }) },
      {
        status: 'error',
        'error-code': 'expired',
        error: 'too late',
      },
    );
  });

  test('cuts a text that is too long', () => {
    assert.equal(errorMetadata({ code: 'malformed', text: 'x'.repeat(5000) })['error']?.length, 1024);
  });
});

describe('contentSize', () => {
  test('is the number of bytes, wherever they are', () => {
    assert.equal(contentSize({ kind: 'inline', bytes: Buffer.from('abc') }), 3);
    assert.equal(contentSize({ kind: 'file', path: '/x', size: 70_000 }), 70_000);
  });
});

describe('spoolSize', () => {
  test('grows with the content, the ids and the metadata', () => {
    const record = {
      kind: 'outbound',
      key: messageKey(1),
      state: 'queued',
      worker: undefined,
      messageId: '12345678',
      responseTo: '',
      directive: 'echo',
      metadata: metadataFrom([['name', 'value']]),
      content: { kind: 'file', path: '/x', size: 70_000 },
      destination: { kind: 'data-out' },
      idKey: undefined,
      arrivedAt: 0,
      attempts: 0,
      dueAt: 0,
      replayOf: undefined,
    } as const;
    const without = spoolSize({
      ...record,
      metadata: metadataFrom([]),
      content: { kind: 'inline', bytes: Buffer.alloc(0) },
    });
    assert.equal(spoolSize(record), without + 70_000 + 'name'.length + 'value'.length + 8);
    assert.equal(spoolSize({ ...record, messageId: '123456789' }), spoolSize(record) + 1);
  });
});
