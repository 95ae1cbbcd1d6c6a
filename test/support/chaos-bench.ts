/**
 * A bench whose agent reaches its broker through a chaos proxy, with a ledger of both ends: what the operator sent and
 * got, what the agent acknowledged, what the worker did, and when the network did harm.
 */
import { Signal } from '../../src/signal/index.js';
import { makeBench, type Bench, type HowToSpawn } from './bench.js';
import { bookWorker, RETURNING_ECHO } from './book-worker.js';
import { ChaosProxy } from './chaos-proxy.js';
import type { FaultRun } from './fault.js';
import { enter, Ledger, type Verdict } from './ledger.js';
import type { MosquittoOptions } from './mosquitto.js';
import { answered } from './traffic.js';
import type { Yggd } from './yggd.js';

export const WORKER = 'book-worker';
export const HANDLER = 'book';

/** Short waits between attempts, so that a test has many. */
export const EAGER: readonly string[] = ['--mqtt-reconnect-delay=100ms', '--mqtt-reconnect-delay-max=150ms'];

export interface ChaosOptions extends MosquittoOptions {
  /** Where the proxy listens. */
  readonly proxyHost?: string;
  /** JavaScript: what the worker does with a message. Default: RETURNING_ECHO. */
  readonly body?: string;
}

export class ChaosBench implements AsyncDisposable {
  readonly ledger = new Ledger();
  /** Messages whose answer the broker has acknowledged. */
  readonly #published = new Set<string>();
  readonly #taken = new Signal<void>('taken');

  private constructor(
    readonly bench: Bench,
    readonly proxy: ChaosProxy,
    scope: AbortSignal,
  ) {
    proxy.acknowledged.connect((id) => this.ledger.note('acknowledged', id), scope);
    proxy.answered.connect((id) => this.#published.add(id), scope);
    proxy.cuts.connect(() => this.ledger.harm('link', () => Promise.resolve()), scope);
  }

  /** `await using chaos = await ChaosBench.make()`; the agent is not started. */
  static async make({ proxyHost, body = RETURNING_ECHO, ...options }: ChaosOptions = {}): Promise<ChaosBench> {
    const bench = await makeBench(options);
    try {
      const worker = bookWorker(bench.home, WORKER, { handler: HANDLER, body });
      await bench.home.addProgram(WORKER, worker);
      const host = proxyHost === undefined ? {} : { host: proxyHost };
      const proxy = await ChaosProxy.start({ target: bench.broker.port, ...host });
      return new ChaosBench(bench, proxy, new AbortController().signal);
    } catch (error) {
      await bench[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts the agent behind the proxy and waits until the fleet was told of its worker. */
  async start(args: readonly string[] = EAGER, how?: HowToSpawn): Promise<Yggd> {
    const yggd = this.spawn(args, how);
    await this.bench.handling([HANDLER]);
    return yggd;
  }

  /** Starts it and waits for nothing. */
  spawn(args: readonly string[] = EAGER, how?: HowToSpawn): Yggd {
    return this.bench.spawn([`--broker=${this.proxy.url}`, ...args], how);
  }

  /** Hands so many messages to the broker without waiting, and enters what becomes of each; their ids. */
  send(count: number, content: (n: number) => string = String): string[] {
    const { operator } = this.bench;
    return Array.from({ length: count }, (_, n) => {
      const id = operator.newId();
      this.ledger.note('sent', id);
      operator.send(HANDLER, content(n), { id }).then(
        () => {
          this.ledger.note('taken', id);
          this.#taken.emit();
        },
        // A broker that goes away for good is the test's own end.
        () => undefined,
      );
      return id;
    });
  }

  /** Resolves when the broker has acknowledged each of these. */
  async taken(ids: readonly string[]): Promise<void> {
    const isTaken = (id: string): boolean => this.ledger.times('taken', id).length > 0;
    while (!ids.every(isTaken)) await this.#taken.next(AbortSignal.timeout(30_000));
  }

  /** Resolves when each of these has an answer. */
  answered(ids: readonly string[]): Promise<void> {
    return answered(this.bench.operator, ids);
  }

  /** Sends a message and waits for its answer; again when the broker lost it, which it may do without persistence. */
  async untilAnswered(): Promise<void> {
    for (;;) {
      const [id = ''] = this.send(1);
      const answer = this.bench.operator.answerTo(id).then(() => true);
      answer.catch(() => undefined);
      const again = new Promise<false>((resolve) => setTimeout(resolve, 2_000, false).unref());
      if (await Promise.race([answer, again])) return;
    }
  }

  /** Closes the ledger: nothing promised is lost, each second time is excused. Counts into the table. */
  close(run: FaultRun, promised?: 'taken' | 'acknowledged'): Verdict {
    enter(this.ledger, { ...this.bench, worker: WORKER });
    if (promised === 'acknowledged') {
      // A broker that forgets has taken answers that nobody heard: for the agent that is their end.
      const isUnheard = (id: string): boolean => this.ledger.times('published', id).length === 0;
      for (const id of this.#published) if (isUnheard(id)) this.ledger.note('published', id);
    }
    const verdict = this.ledger.assertSound(promised);
    run.count(verdict.messages, verdict.duplicated.length);
    return verdict;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The proxy last: what stands behind it ends in its own time.
    await this.bench[Symbol.asyncDispose]();
    await this.proxy[Symbol.asyncDispose]();
  }
}
