import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WorkerFrame } from '../../../protocol/generated/stream.js';
import { replyMessageId } from '../../../src/message/ids.js';
import { dataFromReply, jsonReply, listOfReplies, messageFromData, Refusal } from '../../../src/worker/message.js';
import { bytesOf } from '../../../src/worker/stream/frame-bytes.js';

const request = messageFromData({
  messageId: 'm',
  directive: 'echo',
  metadata: { a: 'b' },
  responseTo: 'r',
  content: Buffer.from('[1]'),
});

test('a message gives its fields, its bytes and its JSON', () => {
  assert.deepEqual(request.json(), [1]);
  assert.equal(request.content.toString(), '[1]');
  assert.deepEqual([request.messageId, request.directive, request.responseTo], ['m', 'echo', 'r']);
});

test('content that is not JSON is a refusal that names the message', () => {
  const bad = messageFromData({ ...request, metadata: {}, content: Buffer.from('{') });
  assert.throws(
    () => bad.json(),
    (error) => error instanceof Refusal && error.message.includes('message m'),
  );
});

test('a reply answers the request, on its directive, with an id of its index', () => {
  assert.deepEqual(dataFromReply({}, request, 3), {
    messageId: replyMessageId('m', 3),
    directive: 'echo',
    responseTo: 'm',
    metadata: {},
    content: Buffer.alloc(0),
  });
});

test('a reply may say its own id, directive, metadata and bytes', () => {
  const bytes = new Uint8Array([9, 1, 2, 9]).subarray(1, 3);
  const reply = { content: bytes, messageId: 'x', directive: 'https://h/p', metadata: { k: 'v' } };
  assert.deepEqual(dataFromReply(reply, request, 0), {
    messageId: 'x',
    directive: 'https://h/p',
    responseTo: 'm',
    metadata: { k: 'v' },
    content: Buffer.from([1, 2]),
  });
});

test('what a handler in JavaScript gives as a number, or as nothing, goes out as text in a frame that can be read', () => {
  const metadata = { status: 200, ok: true, none: null, text: 'x' } as unknown as Record<string, string>;
  const reply = { messageId: 7 as unknown as string, directive: 8 as unknown as string, metadata };
  const data = dataFromReply(reply, request, 0);
  const frame = bytesOf({
    hello: undefined,
    completions: [{ tag: 1, results: [{ number: 1, data, body: undefined }] }],
    refusals: [],
    results: [],
    pongs: [],
  });
  const read = WorkerFrame.decode(frame.subarray(5)).completions[0]?.results[0]?.data;
  assert.deepEqual([read?.messageId, read?.directive], ['7', '8']);
  assert.deepEqual(
    Object.entries(read?.metadata ?? {}),
    Object.entries({ status: '200', ok: 'true', none: '', text: 'x' }),
  );
});

test('jsonReply makes JSON of any value, also of none', () => {
  assert.deepEqual(jsonReply({ a: 1 }, { k: 'v' }), { content: '{"a":1}', metadata: { k: 'v' } });
  assert.deepEqual(jsonReply(undefined), { content: 'null' });
});

test('nothing, one reply and several become a list', () => {
  const reply = jsonReply(1);
  assert.deepEqual(listOfReplies(undefined), []);
  assert.deepEqual(listOfReplies(reply), [reply]);
  assert.deepEqual(listOfReplies([reply, reply]), [reply, reply]);
});
