/** A closed loop, with a clock of the test's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flow, type Load } from '../../../bench/flow.js';

const LOAD: Load = {
  inFlight: 2,
  payload: 10,
  directives: ['one', 'two'],
  warmUp: { seconds: 0, messages: 2 },
  measured: { seconds: 0, messages: 3 },
};

/** The content of an envelope that goes out, and its id. */
function sent(flow: Flow, now: number): { id: string; directive: string; content: string } {
  const { head, tail } = flow.next(now, 1);
  const text = head.toString() + (tail?.toString() ?? '');
  const { message_id, directive, content } = JSON.parse(text.slice(text.indexOf('{'))) as Record<string, string>;
  return { id: message_id ?? '', directive: directive ?? '', content: content ?? '' };
}

test('as many are in flight as the load says, the directives in turn', () => {
  const flow = new Flow(LOAD, 'data/in');
  assert.equal(flow.room, 2);
  const [first, second] = [sent(flow, 0), sent(flow, 0)];
  assert.equal(flow.room, 0);
  assert.deepEqual([first.directive, second.directive], ['one', 'two']);
  assert.notEqual(first.id, second.id);
  assert.equal(first.content, 'xxxxxxxx');
  flow.answer(first.id, 1);
  flow.answer(first.id, 1);
  assert.equal(flow.room, 1);
});

test('only what is answered in the measured part counts, and every message is waited for', async () => {
  const flow = new Flow(LOAD, 'data/in');
  const open: string[] = [];
  for (let now = 0; flow.phase !== 'draining'; now += 10) {
    while (flow.room > 0) open.push(sent(flow, now).id);
    flow.answer(open.shift() ?? '', now + 10);
  }
  assert.equal(flow.room, 0);
  assert.equal(open.length, 1);
  flow.answer(open[0] ?? '', 1_000);
  const { messages, latency } = await flow.done;
  assert.equal(messages, 3);
  assert.equal(latency.p50, 20);
});

test('no more than the total are sent', async () => {
  const none = { seconds: 0, messages: 0 };
  const load = { ...LOAD, inFlight: 10, warmUp: none, measured: { seconds: 0, messages: 3 }, total: 3 };
  const flow = new Flow(load, 'data/in');
  const ids = [sent(flow, 0), sent(flow, 0), sent(flow, 0)].map(({ id }) => id);
  assert.equal(flow.room, 0);
  for (const id of ids) flow.answer(id, 5);
  assert.equal((await flow.done).messages, 3);
});

test('a large content is shared, and the envelope is whole', () => {
  const flow = new Flow({ ...LOAD, payload: 100_000 }, 'data/in');
  assert.equal(sent(flow, 0).content.length, 99_998);
});
