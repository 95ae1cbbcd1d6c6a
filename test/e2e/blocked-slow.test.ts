/** The long form of "a blocked worker holds up none of the others": one that truly hangs in Send for 65 s. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeBench } from '../support/bench.js';
import { bookWorker, readBook } from '../support/book-worker.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { answered, assertAllAnswered, describeSpans, roundTrips, sendBurst } from '../support/traffic.js';

const HANG_MS = 65_000;

test('a worker that hangs in Send for 65 s leaves the others as they were', { skip: mosquittoMissing }, async (t) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  // The whole process stands still, its event loop too: no keepalive and no health check is answered.
  const body = `if (String(message.content) === '0') {
    console.log('hanging');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${HANG_MS});
  }
  return { content: message.content };`;
  await home.addProgram('hung-worker', bookWorker(home, 'hung-worker', { body }));
  const yggd = await bench.startWith(['echo', 'hung']);
  await roundTrips(operator, 'echo', 100);
  const before = await roundTrips(operator, 'echo', 500);

  const hung = sendBurst(operator, 'hung', 20);
  await yggd.line('worker.output', (entry) => entry.text === 'hanging');
  const started = performance.now();
  const during: number[] = [];
  while (performance.now() - started < HANG_MS - 2_000) during.push(...(await roundTrips(operator, 'echo', 50)));
  assert.equal(operator.heard.filter((heard) => hung.ids.includes(heard.response_to ?? '')).length, 0);
  t.diagnostic(`${before.length} echoes before: ${describeSpans(before)}`);
  t.diagnostic(`${during.length} echoes while another worker hangs: ${describeSpans(during)}`);

  await answered(operator, hung.ids);
  t.diagnostic(`the hung one answers after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  assert.equal(assertAllAnswered(operator, hung.ids), 0);
  const { handled, starts } = readBook(home, 'hung-worker');
  assert.deepEqual(handled, hung.ids);
  assert.equal(starts.length, 1, 'it was not restarted for being slow');
});
