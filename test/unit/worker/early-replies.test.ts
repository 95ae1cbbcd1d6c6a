import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import { EarlyReplies } from '../../../src/worker/early-replies.js';
import { messageOf } from '../../support/fake-stream-agent.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const reply = (messageId: string): Data => messageOf({ messageId });

test('each reply goes once the one before it is accepted', async () => {
  const sent: string[] = [];
  let accept = (): void => undefined;
  const replies = new EarlyReplies(({ messageId }) => {
    sent.push(messageId);
    return new Promise((resolve) => (accept = resolve));
  });
  const first = replies.add(reply('a'));
  const second = replies.add(reply('b'));
  await turn();
  assert.deepEqual(sent, ['a']);
  accept();
  await first;
  await turn();
  assert.deepEqual(sent, ['a', 'b']);
  accept();
  await second;
});

test('those that the same turn closes are not handed over one by one', async () => {
  const replies = new EarlyReplies(() => assert.fail('nothing was to be sent'));
  void replies.add(reply('a'));
  void replies.add(reply('b'));
  const left = await replies.close();
  assert.deepEqual(
    left.map(({ data }) => data.messageId),
    ['a', 'b'],
  );
});

test('after one that is not taken all others fail with the same, and so does the end', async () => {
  const replies = new EarlyReplies(() => Promise.reject(new Error('never')));
  const all = [replies.add(reply('a')), replies.add(reply('b'))];
  for (const each of all) await assert.rejects(each, /never/);
  await assert.rejects(replies.add(reply('c')), /never/);
  await assert.rejects(replies.close(), /never/);
  await assert.rejects(replies.flush(), /never/);
});
