/**
 * An agent in a storm: messages of every kind flow through it (small ones, such as need a content file, such whose
 * content is fetched, such whose result is POSTed, commands that end the link) while a test kills what it likes. Both
 * ends keep the ledger, and a proxy before the broker notes what the agent acknowledged: that is what was promised.
 */
import { makeBench, type Bench } from './bench.js';
import { bookWorker, isRunning, readBook, RETURNING_ECHO } from './book-worker.js';
import { ChaosProxy } from './chaos-proxy.js';
import { startServer, type TestServer } from './http.js';
import { enterBook, enterHeard, Ledger, type Verdict } from './ledger.js';
import type { MosquittoOptions } from './mosquitto.js';
import { between } from './seeded.js';
import type { Random } from '../../src/time.js';
import type { Yggd } from './yggd.js';

/** Of a message: which way it takes. */
const KINDS = ['small', 'streamed', 'large', 'fetched', 'fetched large', 'posted'] as const;
export type Kind = (typeof KINDS)[number];

/** All but `stream` are called one message at a time. */
export const HANDLERS = ['book', 'fetch', 'post', 'stream'] as const;
const LARGE = 70_000;

export interface StormOptions {
  readonly random: Random;
  /** Calls that each worker takes at once; default 1. */
  readonly concurrency?: number;
  readonly broker?: MosquittoOptions;
}

export class Storm implements AsyncDisposable {
  readonly ledger = new Ledger();
  readonly #scope = new AbortController();
  readonly #open = new Set<string>();
  /** Lost by a broker that was killed, as far as anybody knows. */
  readonly #left = new Set<string>();
  /** Came to their end, whether that was waited for or not. */
  readonly #over = new Set<string>();
  /** Answered, by the broker's own word. */
  readonly #confirmed = new Set<string>();
  #wake: () => void = () => undefined;
  #yggd: Yggd | undefined;

  private constructor(
    readonly bench: Bench,
    private readonly server: TestServer,
    private readonly proxy: ChaosProxy,
    private readonly random: Random,
  ) {
    bench.operator.hear.connect(({ type, response_to: id }) => {
      if (type === 'data' && id !== undefined) this.#ended(id);
    }, this.#scope.signal);
    proxy.acknowledged.connect((id) => {
      // A command.
      if (this.ledger.times('sent', id).length === 0) return;
      this.ledger.note('acknowledged', id);
      // The broker had it once more than was thought: from now on it is the agent's. Unless the agent, which had it all
      // the time, has answered it over the next broker and now acknowledges the repetition.
      if (this.#left.delete(id) && !this.#over.has(id)) this.#open.add(id);
    }, this.#scope.signal);
    // The broker has the answer; should it die now, nobody hears it.
    proxy.answered.connect((id) => {
      this.#confirmed.add(id);
      this.#ended(id);
    }, this.#scope.signal);
    server.seen.connect(({ method, body }) => {
      if (method !== 'POST') return;
      this.ledger.note('posted', body.toString());
      this.#ended(body.toString());
    }, this.#scope.signal);
  }

  static async make({ random, concurrency = 1, broker = { persistence: 'at-stop' } }: StormOptions): Promise<Storm> {
    const server = await startServer(({ method, url }, response) => {
      response.end(method === 'GET' ? 'x'.repeat(url.endsWith('large') ? LARGE : 10) : '');
    });
    const bench = await makeBench(broker);
    const proxy = await ChaosProxy.start({ target: bench.broker.port });
    const options = `concurrency: ${concurrency}, `;
    const unary = `${options} transport: 'unary', `;
    const answer = `await context.send({ content: String(message.content.length) });
      note('returned', message.messageId);`;
    const bodies = {
      book: { body: `if (message.content.length < 1000) { ${RETURNING_ECHO} } else { ${answer} }`, options: unary },
      fetch: { body: answer, options: `${unary} detachedContent: true` },
      post: {
        body: `await context.send({ directive: message.json(), content: message.messageId });
          note('returned', message.messageId);`,
        options: unary,
      },
      // Its answer comes with the receipt, in one transaction.
      stream: { options: `${options} transport: 'stream', ` },
    };
    for (const handler of HANDLERS) {
      const name = `${handler}-worker`;
      await bench.home.addProgram(name, bookWorker(bench.home, name, { handler, ...bodies[handler] }));
    }
    const storm = new Storm(bench, server, proxy, random);
    try {
      // What is sent before the agent has a session at the broker is nobody's.
      await storm.start();
      await bench.handling(HANDLERS);
      return storm;
    } catch (error) {
      await storm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The agent that runs now. */
  get yggd(): Yggd {
    if (this.#yggd === undefined) throw new Error('no agent was started');
    return this.#yggd;
  }

  /** Messages that have no end yet. */
  get open(): number {
    return this.#open.size;
  }

  /** Starts the agent, to die at a crash point where one is named; resolves when it is ready, or dead. */
  async start(crashPoint?: string): Promise<Yggd> {
    const args = [
      `--broker=${this.proxy.url}`,
      `--content-hosts=${this.server.origin}`,
      '--mqtt-reconnect-delay=100ms',
    ];
    const yggd = this.bench.spawn(args, crashPoint === undefined ? {} : { crashPoint });
    this.#yggd = yggd;
    await Promise.race([yggd.line('agent.ready').catch(() => undefined), yggd.ended]);
    return yggd;
  }

  /** Sends one message by chance, most of them small. */
  sendAny(): void {
    const dice = this.random();
    if (dice < 0.4) this.send('streamed');
    else this.send(dice < 0.8 ? 'small' : (KINDS[between(this.random, 1, KINDS.length - 1)] ?? 'small'));
  }

  send(kind: Kind): void {
    const { operator } = this.bench;
    const id = operator.newId();
    const { origin } = this.server;
    const [directive, content] = {
      small: ['book', `"${id}"`],
      streamed: ['stream', `"${id}"`],
      large: ['book', `"${'x'.repeat(LARGE)}"`],
      fetched: ['fetch', `"${origin}/small"`],
      'fetched large': ['fetch', `"${origin}/large"`],
      posted: ['post', `"${origin}/post"`],
    }[kind] as [string, string];
    this.ledger.note('sent', id);
    this.#open.add(id);
    // A broker that was killed has this one again from the operator's own store, when it is back.
    operator.send(directive, content, { id }).then(
      () => this.ledger.note('taken', id),
      () => undefined,
    );
  }

  /**
   * Keeps an agent running from now on: one that dies is followed by the next, to die at a crash point where
   * `crashPoint` names one. The function it returns ends that; the agent that runs then stays.
   */
  keepAlive(crashPoint: () => string | undefined, died: () => void): () => Promise<void> {
    const scope = new AbortController();
    this.#scope.signal.addEventListener('abort', () => scope.abort());
    const ended = new Promise<'ended'>((resolve) => scope.signal.addEventListener('abort', () => resolve('ended')));
    const work = async (): Promise<void> => {
      while ((await Promise.race([this.yggd.gone, ended])) !== 'ended') {
        died();
        // From its death on, and not from when its last words were read: on a busy machine that is a second later.
        await this.ledger.harm('agent', async () => {
          await this.yggd.ended;
          await this.start(crashPoint());
        });
      }
    };
    const done = work();
    return async () => {
      scope.abort();
      await done;
    };
  }

  /**
   * The agent ends the link and begins it anew: its PUBACK for that command may be lost. The harm lasts until it is there
   * again, since the command waits behind other messages on a busy machine.
   */
  async reconnect(): Promise<void> {
    await this.ledger.harm('link', async () => {
      const again = this.proxy.connected.next(this.#scope.signal);
      again.catch(() => undefined);
      await this.bench.operator.command('reconnect', { delay: 0 });
      // Or until it is dead, which is a harm of its own.
      await Promise.race([again, this.yggd.ended]);
    });
  }

  /** Resolves when so few messages are without an end. */
  async until(left: number): Promise<void> {
    while (this.#open.size > left) {
      const progress = new Promise<void>((resolve) => (this.#wake = resolve));
      const late = AbortSignal.timeout(PATIENCE_MS);
      const isLate = new Promise<'late'>((resolve) => late.addEventListener('abort', () => resolve('late')));
      if ((await Promise.race([progress, isLate])) !== 'late') continue;
      const some = [...this.#open].slice(0, 5).join(', ');
      throw new Error(`${this.#open.size} messages have no end, and none came for ${PATIENCE_MS} ms: ${some} …`);
    }
  }

  /** kill -9 of the agent; the next one is the caller's to start. */
  async killAgent(): Promise<void> {
    // From now on, and not from when its death is seen: on a busy machine that is a second later.
    await this.ledger.harm('agent', () => this.yggd.kill());
  }

  /** kill -9 of one of the workers that run, by chance. False when none does. */
  killWorker(): boolean {
    const { home } = this.bench;
    const pids = HANDLERS.flatMap((handler) => readBook(home, `${handler}-worker`).starts).filter(isRunning);
    const pid = pids[between(this.random, 0, Math.max(0, pids.length - 1))];
    if (pid === undefined) return false;
    process.kill(pid, 'SIGKILL');
    return true;
  }

  /**
   * kill -9 of the broker, which forgets all it had: what the agent did not acknowledge before is nobody's. Resolves when
   * the agent answers over the next one.
   */
  async killBroker(): Promise<void> {
    const { broker, operator } = this.bench;
    await broker.kill();
    for (const id of [...this.#open]) {
      if (this.ledger.times('acknowledged', id).length > 0) continue;
      this.#open.delete(id);
      this.#left.add(id);
    }
    await broker.restart();
    // One that comes before the agent has subscribed anew goes nowhere.
    for (let isBack = false; !isBack;) {
      const ping = operator.command('ping');
      const again = new Promise<false>((resolve) => setTimeout(() => resolve(false), PING_AGAIN_MS));
      isBack = await Promise.race([ping.then((id) => operator.answerTo(id)).then(() => true), again]);
    }
  }

  /** Enters what the books say, and judges: nothing is lost, and each repetition is excused. */
  judge(): Verdict {
    const { home, operator } = this.bench;
    enterHeard(this.ledger, operator.everything);
    // What no operator heard was lost by the broker, behind its own acknowledgement.
    for (const id of this.#confirmed)
      if (this.ledger.times('published', id).length === 0) this.ledger.note('refused', id);
    for (const handler of HANDLERS) enterBook(this.ledger, home, `${handler}-worker`);
    const overlaps = HANDLERS.flatMap((handler) => readBook(home, `${handler}-worker`).overlaps);
    if (overlaps.length > 0) throw new Error(`two copies of a worker ran at once: ${overlaps.join('; ')}`);
    return this.ledger.assertSound('acknowledged');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#scope.abort();
    await this.bench[Symbol.asyncDispose]();
    await this.proxy[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }

  #ended(id: string): void {
    this.#over.add(id);
    if (this.#open.delete(id)) this.#wake();
  }
}

/** No message came to its end for so long: then something is stuck. */
const PATIENCE_MS = 60_000;
/** A ping without an answer is sent again after this. */
const PING_AGAIN_MS = 300;
