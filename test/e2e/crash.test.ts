/**
 * Nothing acknowledged is ever lost: a thousand messages in flight, and the agent, its worker or the broker is killed
 * in the midst. The long form is test/fault/storage-kills.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { writeFile } from 'node:fs/promises';
import { bookWorker, heldUntil, isRunning, readBook } from '../support/book-worker.js';
import {
  crashBench,
  crashRound,
  describeOutcome,
  killAgent,
  killWorker,
  startAgent,
  type Moment,
} from '../support/crash.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { makeBench, type Bench } from '../support/bench.js';
import { seeded, testSeed } from '../support/seeded.js';
import { answered, assertAllAnswered, orderOfAnswers, sendBurst } from '../support/traffic.js';
import type { Random } from '../../src/time.js';

const COUNT = 1000;

function chance(t: TestContext): Random {
  const seed = testSeed();
  t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
  return seeded(seed);
}

describe('crashes', { skip: mosquittoMissing, concurrency: 1 }, () => {
  test('kill -9 of the agent with 1,000 messages in flight: 1,000 answers after the next start', async (t) => {
    const random = chance(t);
    for (const concurrency of [1, 16]) {
      await using bench = await crashBench(concurrency);
      let yggd = await startAgent(bench);
      const moments: readonly Moment['kind'][] = concurrency === 1 ? ['answered'] : ['taken', 'acknowledged'];
      for (const moment of moments) {
        const before = yggd;
        const { outcome, result } = await crashRound({ bench, random, count: COUNT, moment }, () =>
          killAgent(bench, before),
        );
        t.diagnostic(`concurrency ${concurrency}: ${describeOutcome(outcome)}`);
        yggd = result;
      }
    }
  });

  test('kill -9 of a worker in the midst: every message is answered', async (t) => {
    const random = chance(t);
    // On the stream, what was done and whose completion had not left yet is run again, too.
    await using bench = await crashBench(1, 'unary');
    await startAgent(bench);
    // The message that was in its hands has failed once: it gives up its place.
    const round = { bench, random, count: COUNT, moment: 'answered', isOrderKept: false } as const;
    const { outcome } = await crashRound(round, () => {
      killWorker(bench);
      return Promise.resolve();
    });
    t.diagnostic(describeOutcome(outcome));
    assert.equal(outcome.handledAgain <= 1, true, 'only what was in its hands is run again');
  });

  test('a restart of the broker in the midst: every message is answered', async (t) => {
    const random = chance(t);
    await using bench = await crashBench();
    await startAgent(bench);
    const { outcome } = await crashRound({ bench, random, count: COUNT, moment: 'answered' }, () =>
      bench.broker.restart(),
    );
    t.diagnostic(describeOutcome(outcome));
    assert.equal(outcome.handledAgain, 0);
  });

  test('a second SIGTERM ends the agent at once with 143, and the next start answers', async () => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    const gate = home.path('gate');
    const body = `await context.send({ content: '"begun"' }); ${heldUntil(gate)} return { content: message.content };`;
    await home.addProgram('held-worker', bookWorker(home, 'held-worker', { body }));
    const yggd = await bench.startWith(['held']);
    const burst = sendBurst(operator, 'held', 20);
    await operator.until((heard) => heard.content === 'begun', 'the worker to hold a message');
    yggd.child.kill('SIGTERM');
    await yggd.line('agent.stopping');
    yggd.child.kill('SIGTERM');
    assert.deepEqual(await yggd.ended, { code: 143, signal: null });

    await bench.start();
    assert.equal(readBook(home, 'held-worker').starts.filter(isRunning).length <= 1, true);
    await writeFile(gate, '');
    const isDone = (id: string): Promise<unknown> =>
      operator.until((heard) => heard.response_to === id && heard.content !== 'begun', `the end of ${id}`);
    await Promise.all(burst.ids.map(isDone));
    assert.deepEqual(readBook(home, 'held-worker').overlaps, []);
  });

  test('an agent killed while its worker hangs leaves no second copy after the next start', async () => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    const gate = home.path('gate');
    const body = `if (!existsSync(${JSON.stringify(gate)})) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
    return { content: message.content };`;
    await home.addProgram('hung-worker', bookWorker(home, 'hung-worker', { body }));
    const yggd = await bench.startWith(['hung']);
    const burst = sendBurst(operator, 'hung', 5);
    await yggd.line('dispatcher.registered');
    await burst.acknowledged(5);
    const ping = await operator.command('ping');
    await operator.until((heard) => heard.response_to === ping, 'a pong');
    await untilHanging(bench, 'hung-worker');
    await yggd.kill();
    const [orphan] = readBook(home, 'hung-worker').starts;
    assert.ok(isRunning(orphan ?? 0), 'it outlives the agent');

    await writeFile(gate, '');
    await bench.start();
    assert.ok(!isRunning(orphan ?? 0), 'the next start has ended it');
    await answered(operator, burst.ids);
    assert.equal(assertAllAnswered(operator, burst.ids), 0);
    assert.deepEqual(orderOfAnswers(operator, burst.ids), burst.ids);
    assert.deepEqual(readBook(home, 'hung-worker').overlaps, []);
  });
});

/** It hangs in its first message, which it writes into its book; each ping is a round trip in which it may. */
async function untilHanging({ home, operator }: Bench, worker: string): Promise<void> {
  while (readBook(home, worker).handled.length === 0) await operator.answerTo(await operator.command('ping'));
}
