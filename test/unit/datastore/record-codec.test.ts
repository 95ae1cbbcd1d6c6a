/** Records as they stand on disk: those of older versions too. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeRecord, encodeRecord } from '../../../src/datastore/record-codec.js';
import {
  directiveKey,
  messageKey,
  metadataFrom,
  type InboundRecord,
  type OutboundRecord,
} from '../../../src/message/index.js';
import { directive, workerName } from '../../support/messages.js';

const message: InboundRecord = {
  kind: 'inbound',
  key: messageKey(7),
  state: 'accepted',
  messageId: 'm-1',
  responseTo: '',
  directive: directive('my-echo'),
  directiveKey: directiveKey(directive('my-echo')),
  metadata: metadataFrom([]),
  content: { kind: 'inline', bytes: Buffer.from('"hello"') },
  isFetched: false,
  priority: 5,
  arrivedAt: 1_764_208_000_000,
  expiresAt: undefined,
  attempts: 0,
  fetches: 0,
  dueAt: 0,
  replyTopic: undefined,
  replayOf: undefined,
};
const rare: InboundRecord = {
  ...message,
  key: messageKey(8),
  responseTo: 'é"',
  metadata: metadataFrom([['a', 'ü']]),
  content: { kind: 'file', path: '/c/f1', size: 70_000, crc32: 5 },
  isFetched: true,
  priority: 9,
  expiresAt: 1_764_209_000_000,
  attempts: 2,
  fetches: 1,
  dueAt: 1_764_208_000_500,
  replyTopic: { kind: 'topic', topic: 't/1', correlationData: Buffer.from([1, 2, 255]) },
  replayOf: messageKey(3),
};
const result: OutboundRecord = {
  kind: 'outbound',
  key: messageKey(9),
  state: 'queued',
  worker: workerName('echo-worker'),
  messageId: 'r-1',
  responseTo: 'm-1',
  directive: 'my-echo',
  metadata: metadataFrom([]),
  content: { kind: 'inline', bytes: Buffer.from('"out"') },
  destination: { kind: 'data-out' },
  idKey: 'o/echo-worker/r-1/abc',
  arrivedAt: 1_764_208_000_001,
  attempts: 0,
  dueAt: 0,
  replayOf: undefined,
};

/** The bytes that the version of format 3 wrote for them. */
const OLDER: readonly [InboundRecord | OutboundRecord, string][] = [
  [
    message,
    'gxkIQ+gAAAAAAAAAAAAAAHsia2luZCI6ImluYm91bmQiLCJrZXkiOjcsInN0YXRlIjoiYWNjZXB0ZWQiLCJtZXNzYWdlSWQiOiJtLTEiLCJyZXNwb25zZVRvIjoiIiwiZGlyZWN0aXZlIjoibXktZWNobyIsImRpcmVjdGl2ZUtleSI6Im15X2VjaG8iLCJtZXRhZGF0YSI6W10sImlzRmV0Y2hlZCI6ZmFsc2UsInByaW9yaXR5Ijo1LCJhcnJpdmVkQXQiOjE3NjQyMDgwMDAwMDAsImF0dGVtcHRzIjowLCJmZXRjaGVzIjowLCJkdWVBdCI6MH0iaGVsbG8i',
  ],
  [
    rare,
    '/IOfNHABAAAAAAAAABfxQHsia2luZCI6ImluYm91bmQiLCJrZXkiOjgsInN0YXRlIjoiYWNjZXB0ZWQiLCJtZXNzYWdlSWQiOiJtLTEiLCJyZXNwb25zZVRvIjoiw6lcIiIsImRpcmVjdGl2ZSI6Im15LWVjaG8iLCJkaXJlY3RpdmVLZXkiOiJteV9lY2hvIiwibWV0YWRhdGEiOltbImEiLCLDvCJdXSwiaXNGZXRjaGVkIjp0cnVlLCJwcmlvcml0eSI6OSwiYXJyaXZlZEF0IjoxNzY0MjA4MDAwMDAwLCJleHBpcmVzQXQiOjE3NjQyMDkwMDAwMDAsImF0dGVtcHRzIjoyLCJmZXRjaGVzIjoxLCJkdWVBdCI6MTc2NDIwODAwMDUwMCwicmVwbHlUb3BpYyI6eyJ0b3BpYyI6InQvMSIsImNvcnJlbGF0aW9uIjoiQVFMLyJ9LCJyZXBsYXlPZiI6MywiZmlsZSI6ImYxIiwiY3JjMzIiOjV9',
  ],
  [
    result,
    '4GKlfP8AAAAAAAAAAAAAAHsia2luZCI6Im91dGJvdW5kIiwia2V5Ijo5LCJzdGF0ZSI6InF1ZXVlZCIsIndvcmtlciI6ImVjaG8td29ya2VyIiwibWVzc2FnZUlkIjoici0xIiwicmVzcG9uc2VUbyI6Im0tMSIsImRpcmVjdGl2ZSI6Im15LWVjaG8iLCJtZXRhZGF0YSI6W10sImRlc3RpbmF0aW9uIjp7ImtpbmQiOiJkYXRhLW91dCJ9LCJpZEtleSI6Im8vZWNoby13b3JrZXIvci0xL2FiYyIsImFycml2ZWRBdCI6MTc2NDIwODAwMDAwMSwiYXR0ZW1wdHMiOjAsImR1ZUF0IjowfSJvdXQi',
  ],
];

const headerOf = (bytes: Buffer): string => bytes.toString('utf8', 16, 16 + bytes.readUInt32LE(4));

describe('a record on disk', () => {
  it('is read as format 3 wrote it', () => {
    for (const [record, bytes] of OLDER) assert.deepEqual(decodeRecord(Buffer.from(bytes, 'base64'), '/c'), record);
  });

  it('leaves out what has its default', () => {
    const { directive: name, ...rest } = message;
    const plain: InboundRecord = {
      ...rest,
      directive: directive('echo'),
      directiveKey: directiveKey(directive('echo')),
    };
    assert.equal(name, 'my-echo');
    assert.equal(
      headerOf(encodeRecord(plain)),
      '{"kind":"inbound","key":7,"messageId":"m-1","directive":"echo","arrivedAt":1764208000000}',
    );
    assert.deepEqual(decodeRecord(encodeRecord(plain), '/c'), plain);
    assert.equal(
      headerOf(encodeRecord({ ...result, idKey: undefined })),
      '{"kind":"outbound","key":9,"messageId":"r-1","directive":"my-echo","arrivedAt":1764208000001,"worker":"echo-worker","responseTo":"m-1"}',
    );
  });

  it('comes back whole when nothing in it has its default', () => {
    for (const record of [
      rare,
      { ...rare, state: 'fetching' as const },
      { ...rare, directiveKey: message.directiveKey },
      { ...rare, content: { kind: 'file' as const, path: '/c/f2', size: 70_000, sum: 'a-b_c9.d' } },
    ])
      assert.deepEqual(decodeRecord(encodeRecord(record), '/c'), record);
    for (const destination of [
      { kind: 'url', url: 'https://a/"b"' },
      { kind: 'local' },
      { kind: 'topic', topic: 'ä', correlationData: undefined },
    ] as const) {
      const sent: OutboundRecord = {
        ...result,
        state: 'sending',
        destination,
        attempts: 3,
        dueAt: 4,
        worker: undefined,
      };
      assert.deepEqual(decodeRecord(encodeRecord(sent), '/c'), sent);
    }
  });

  it('holds any text, which is written as JSON has it', () => {
    for (const text of ['"', '\\', '\n', '\0', '\u007f', 'é', '😀', '\ud800', '\u2028', '']) {
      const record: InboundRecord = {
        ...message,
        messageId: text,
        responseTo: text,
        metadata: metadataFrom([
          [text, text],
          ['b', text],
        ]),
      };
      assert.deepEqual(decodeRecord(encodeRecord(record), '/c'), record);
      assert.equal(JSON.stringify(JSON.parse(headerOf(encodeRecord(record)))), headerOf(encodeRecord(record)));
    }
  });
});
