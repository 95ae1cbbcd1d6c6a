/**
 * The process of operation-away.test.ts: an agent on a clock that moves when it is told, with its journal on disk and
 * two workers that each have a result now and then. It can be killed at any moment and be followed by another on the
 * same directories; what its workers got a receipt for is reported by then.
 *
 * Arguments: base directory, URL of the broker, wall time at the start.
 */
import { join } from 'node:path';
import { LmdbJournal } from '../../src/datastore/index.js';
import { makeAgent } from './agent.js';
import { FakeClock } from './clock.js';
import { workerName } from './messages.js';
import { SETTINGS } from '../unit/dispatcher/harness.js';
import { TestWorker } from './worker.js';

/** From the test: hand over these results of each worker, one in `period` seconds; or let the clock run. */
export type Order =
  | { readonly kind: 'produce'; readonly from: number; readonly to: number; readonly period: number }
  | { readonly kind: 'run' };

/** To the test. */
export type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'receipt'; readonly id: string }
  | { readonly kind: 'produced' }
  /** So many attempts to connect failed. */
  | { readonly kind: 'failed'; readonly attempts: number };

export const WORKERS = ['red', 'blue'] as const;

/** The id of a worker's result number so and so. */
export function resultId(worker: string, number: number): string {
  return `${worker}-${number}`;
}

const [base = '', broker = '', wall = ''] = process.argv.slice(2);
const clock = new FakeClock(Number(wall));

const tell = (report: Report): void => void process.send?.(report);

async function main(): Promise<void> {
  const argv = [`--broker=${broker}`, '--mqtt-connect-timeout=1h'];
  const agent = await makeAgent(base, argv, { clock, journal: new LmdbJournal(join(base, 'states/journal')) });
  // Its workers live in this process, which no process manager has started.
  Object.defineProperty(agent.processes, 'isMember', { value: () => true });
  let attempts = 0;
  agent.connection.down.connect(() => (attempts += 1), new AbortController().signal);
  await whileTicking(agent.start(), 1);
  const workers = await Promise.all(
    WORKERS.map(async (name) => {
      const { address } = await agent.dispatcher.prepare({ name: workerName(`${name}-worker`), settings: SETTINGS });
      const worker = new TestWorker({ address });
      await worker.join(name);
      return worker;
    }),
  );

  const produce = async (number: number, period: number): Promise<void> => {
    const sends = WORKERS.map(async (name, n) => {
      const messageId = resultId(name, number);
      await workers[n]?.send({ messageId, directive: name, content: Buffer.from(String(number)) });
      tell({ kind: 'receipt', id: messageId });
    });
    // The clock stands meanwhile: the agent gives its journal less than a second.
    await Promise.all(sends);
    await clock.advance(period * 1_000);
  };

  process.on('message', (order: Order) => {
    void (async () => {
      if (order.kind === 'produce') {
        for (let number = order.from; number < order.to; number++) await produce(number, order.period);
        tell({ kind: 'failed', attempts });
        tell({ kind: 'produced' });
        return;
      }
      // The rest of a back-off in leaps; a connection that is up needs a clock that keeps pace with the broker.
      const isUp = agent.connection.up.next(new AbortController().signal);
      if (agent.connection.session === undefined) await whileTicking(isUp, 200);
      await whileTicking(new Promise(() => undefined), 5);
    })();
  });
  tell({ kind: 'ready' });
}

/** Moves the clock by `step` every 5 ms until `work` is done. */
async function whileTicking<T>(work: Promise<T>, step: number): Promise<T> {
  const state = { isDone: false };
  const done = work.finally(() => (state.isDone = true));
  // Told to whoever awaits it below.
  done.catch(() => undefined);
  while (!state.isDone) {
    await clock.advance(step);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return await done;
}

if (process.send !== undefined) await main();
