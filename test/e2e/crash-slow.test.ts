/**
 * The long form of crash.test.ts: dozens of rounds on one state directory, each with a thousand messages in flight, and
 * each with a kill of another kind at another moment. YGG_TEST_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  crashBench,
  crashRound,
  describeOutcome,
  killAgent,
  killWorker,
  startAgent,
  type CrashBench,
  type Moment,
} from '../support/crash.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between, seeded, testSeed } from '../support/seeded.js';
import type { Random } from '../../src/time.js';
import type { Yggd } from '../support/yggd.js';

const COUNT = 1000;
/** Rounds for each concurrency of the worker. */
const ROUNDS = 18;

const MOMENTS: readonly Moment['kind'][] = ['taken', 'acknowledged', 'acknowledged', 'answered', 'answered'];

interface Harm {
  readonly name: string;
  /** How often it is taken, relative to the others. */
  readonly weight: number;
  /** A message may fail by it, and so give up its place. */
  readonly isOrderKept: boolean;
  readonly run: (bench: CrashBench, yggd: Yggd, random: Random) => Promise<Yggd>;
}

const HARMS: readonly Harm[] = [
  { name: 'kill -9 agent', weight: 6, isOrderKept: true, run: killAgent },
  {
    name: 'kill -9 agent, and again while it recovers',
    weight: 4,
    isOrderKept: true,
    run: async (bench, yggd, random) => {
      const second = await killAgent(bench, yggd);
      await pause(between(random, 0, 800));
      return killAgent(bench, second);
    },
  },
  {
    name: 'kill -9 agent while it starts',
    weight: 2,
    isOrderKept: true,
    run: async (bench, yggd, random) => {
      await yggd.kill();
      const second = bench.spawn();
      await pause(between(random, 0, 600));
      return killAgent(bench, second);
    },
  },
  {
    name: 'kill -9 worker',
    weight: 2,
    isOrderKept: false,
    run: (bench, yggd) => {
      killWorker(bench);
      return Promise.resolve(yggd);
    },
  },
  {
    name: 'kill -9 agent and worker',
    weight: 2,
    isOrderKept: true,
    run: (bench, yggd) => {
      yggd.child.kill('SIGKILL');
      killWorker(bench);
      return killAgent(bench, yggd);
    },
  },
  {
    name: 'restart broker',
    weight: 2,
    isOrderKept: true,
    run: async (bench, yggd) => {
      await bench.broker.restart();
      return yggd;
    },
  },
  {
    name: 'restart broker, kill -9 agent',
    weight: 2,
    isOrderKept: true,
    run: async (bench, yggd) => {
      await bench.broker.stop();
      const [next] = await Promise.all([killAgent(bench, yggd), bench.broker.restart()]);
      return next;
    },
  },
  {
    name: 'SIGTERM',
    weight: 2,
    isOrderKept: true,
    run: async (bench, yggd) => {
      assert.equal(await yggd.stop(), 0);
      return bench.start();
    },
  },
];

for (const concurrency of [1, 16]) {
  test(
    `nothing is lost in ${ROUNDS} rounds of crashes, with a worker that takes ${concurrency} at once`,
    { skip: mosquittoMissing },
    async (t) => {
      const seed = testSeed();
      t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
      const random = seeded(seed);
      await using bench = await crashBench(concurrency);
      let yggd = await startAgent(bench);
      const plan = HARMS.flatMap((harm) => Array.from({ length: harm.weight }, () => harm));
      for (let round = 1; round <= ROUNDS; round++) {
        const harm = plan.splice(between(random, 0, plan.length - 1), 1)[0];
        if (harm === undefined) break;
        const moment = MOMENTS[between(random, 0, MOMENTS.length - 1)] ?? 'answered';
        const before = yggd;
        try {
          const { outcome, result } = await crashRound(
            { bench, random, count: COUNT, moment, isOrderKept: harm.isOrderKept && concurrency === 1 },
            () => harm.run(bench, before, random),
          );
          t.diagnostic(`round ${round}, ${harm.name}: ${describeOutcome(outcome)}`);
          yggd = result;
        } catch (error) {
          throw new Error(`seed ${seed}, round ${round}, ${harm.name}`, { cause: error });
        }
      }
      assert.equal(await yggd.stop(), 0);
    },
  );
}

/** A moment by chance: nothing is waited for. */
function pause(span: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, span));
}
