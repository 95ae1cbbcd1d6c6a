/**
 * Rounds of crashes: many messages in flight, something is killed at a moment taken by chance, and everything must come
 * to its answer all the same. Used by the short form, which every run has, and by the long one.
 */
import assert from 'node:assert/strict';
import type { Random } from '../../src/time.js';
import { makeBench, type Bench } from './bench.js';
import { bookWorker, isRunning, readBook } from './book-worker.js';
import { between } from './seeded.js';
import { answered, answersTo, assertAllAnswered, orderOfAnswers, sendBurst, type Burst } from './traffic.js';
import type { Yggd } from './yggd.js';
import type { TransportChoice } from '../../src/worker/index.js';

export const WORKER = 'book-worker';
const HANDLER = 'book';

/** What a round waits for before it kills; then up to 20 ms more by chance. */
export type Moment =
  /** The broker has taken so many of the messages: the agent begins to take them in. */
  | { readonly kind: 'taken'; readonly count: number }
  /** The agent has acknowledged so many to the broker: what it did not keep safe before is lost. */
  | { readonly kind: 'acknowledged'; readonly count: number }
  /** So many answers have come: it is in the midst of dispatch and results. */
  | { readonly kind: 'answered'; readonly count: number };

export interface Round {
  readonly bench: CrashBench;
  readonly random: Random;
  readonly count: number;
  readonly moment: Moment['kind'];
  /** False where a message may fail by itself, and so give up its place. Default: true, one at a time. */
  readonly isOrderKept?: boolean;
}

/** What one round saw, for the table. */
export interface Outcome {
  readonly moment: string;
  /** At the kill: acknowledged by the broker to the operator, by the agent to the broker, and answered. */
  readonly sent: number;
  readonly acknowledged: number;
  readonly answers: number;
  /** Answers that came more than once, and messages the worker handled more than once. */
  readonly duplicates: number;
  readonly handledAgain: number;
  /** From the kill to the last answer. */
  readonly recovery: number;
}

export interface CrashBench extends Bench {
  readonly concurrency: number;
}

/** A bench on a broker that keeps its sessions, with a book worker that takes so many messages at once. */
export async function crashBench(concurrency = 1, transport: TransportChoice = 'auto'): Promise<CrashBench> {
  const bench = await makeBench({ persistence: 'at-stop' });
  const options = `concurrency: ${concurrency}, transport: '${transport}'`;
  await bench.home.addProgram(WORKER, bookWorker(bench.home, WORKER, { handler: HANDLER, options }));
  return { ...bench, concurrency };
}

export function startAgent(bench: Bench): Promise<Yggd> {
  return bench.startWith([HANDLER]);
}

/** kill -9 of the agent; the one that runs after it. The workers it left must be gone when that one is ready. */
export async function killAgent(bench: CrashBench, yggd: Yggd): Promise<Yggd> {
  await yggd.kill();
  const left = readBook(bench.home, WORKER).starts.filter(isRunning);
  const next = await bench.start();
  assert.deepEqual(left.filter(isRunning), [], 'the next start has ended what the killed agent left');
  return next;
}

/** kill -9 of the worker that runs now. */
export function killWorker(bench: CrashBench): void {
  for (const pid of readBook(bench.home, WORKER).starts.filter(isRunning)) process.kill(pid, 'SIGKILL');
}

/** One round: sends, waits for the moment, does `harm`, waits for all answers and checks both ledgers. */
export async function crashRound<T>(round: Round, harm: () => Promise<T>): Promise<{ outcome: Outcome; result: T }> {
  const { bench, random, count } = round;
  const isOrderKept = round.isOrderKept ?? bench.concurrency === 1;
  const { operator, home } = bench;
  operator.forget();
  const pubacksBefore = pubacksOf(bench);
  const burst = sendBurst(operator, HANDLER, count);
  const moment: Moment = { kind: round.moment, count: between(random, 1, count) };
  const wait = between(random, 0, 20);
  await reached(bench, burst, moment, pubacksBefore);
  await new Promise((resolve) => setTimeout(resolve, wait));

  const answers = answersTo(operator, burst.ids).size;
  const sent = burst.acknowledgedSoFar;
  const acknowledged = pubacksOf(bench) - pubacksBefore;
  const killedAt = performance.now();
  const result = await harm();
  await burst.acknowledged(count);
  await answered(operator, burst.ids);
  const recovery = performance.now() - killedAt;

  const duplicates = assertAllAnswered(operator, burst.ids);
  const book = readBook(home, WORKER);
  const ids = new Set(burst.ids);
  const handled = book.handled.filter((id) => ids.has(id));
  assert.equal(new Set(handled).size, count, 'the worker has had each message');
  if (isOrderKept) {
    assertInOrder([...new Set(handled)], burst.ids, 'messages handled');
    assertInOrder(orderOfAnswers(operator, burst.ids), burst.ids, 'answers');
  }
  assert.deepEqual(book.overlaps, [], 'two copies of a worker ran at once');
  // None where everything was answered before the last kill, and the next worker is only being started.
  assert.ok(book.starts.filter(isRunning).length <= 1, 'at most one copy of the worker runs');
  const name = `${moment.kind} ${moment.count} +${wait} ms`;
  return {
    outcome: { moment: name, sent, acknowledged, answers, duplicates, handledAgain: handled.length - count, recovery },
    result,
  };
}

const COLUMNS = ['moment', 'sent', 'acked', 'answers', 'twice out', 'handled again', 'recovery'];

/** A line of the table. */
export function describeOutcome(outcome: Outcome): string {
  const { moment, sent, acknowledged, answers, duplicates, handledAgain, recovery } = outcome;
  return [moment, sent, acknowledged, answers, duplicates, handledAgain, `${Math.round(recovery)} ms`]
    .map((value, n) => `${COLUMNS[n]} ${value}`)
    .join(', ');
}

/** Like deepEqual, and says in a line where the order was left. */
function assertInOrder(ids: readonly string[], expected: readonly string[], what: string): void {
  const at = ids.findIndex((id, n) => id !== expected[n]);
  const around = ids.slice(Math.max(0, at - 3), at + 5).map((id) => expected.indexOf(id));
  assert.equal(at, -1, `the ${what} left their order at ${at}: … ${around.join(', ')} …`);
}

async function reached(bench: Bench, burst: Burst, moment: Moment, pubacksBefore: number): Promise<void> {
  switch (moment.kind) {
    case 'taken':
      return burst.acknowledged(moment.count);
    case 'answered':
      return answered(bench.operator, burst.ids, moment.count);
    case 'acknowledged': {
      const { broker } = bench;
      let pubacks = pubacksOf(bench) - pubacksBefore;
      const isEnough = (line: string): boolean => line.includes(PUBACK) && ++pubacks >= moment.count;
      if (pubacks < moment.count) await broker.logged.next(AbortSignal.timeout(PATIENCE_MS), isEnough);
    }
  }
}

const PATIENCE_MS = 30_000;
const PUBACK = 'Received PUBACK from host-1 ';

/** PUBACKs of the agent so far, as the broker logs them. */
function pubacksOf(bench: Bench): number {
  return bench.broker.lines.filter((line) => line.includes(PUBACK)).length;
}
