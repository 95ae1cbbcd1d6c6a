/**
 * A network that goes wrong on demand: a TCP proxy between the agent and its broker that cuts, delays, slows down or
 * falls silent when a test says so. It reads the MQTT packets that pass, so that a cut can fall between two of them and
 * a ledger learns what the agent acknowledged: that is noted when the agent has written it, delivered or not.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { freePorts } from './mosquitto.js';
import { Signal } from '../../src/signal/index.js';
import { FrameReader, PUBACK, PUBLISH, type Frame } from './mqtt-frames.js';

/** `up` is from the agent to the broker. */
export type Direction = 'up' | 'down';
export type Manner = 'rst' | 'fin';

/** What is to become of one connection. */
export interface Fate {
  /** It is cut when so many bytes have passed in this direction, wherever that is in a packet. */
  readonly after?: { readonly direction: Direction; readonly bytes: number };
  /** Asked for each whole packet before it is passed on. */
  readonly at?: (frame: Frame, direction: Direction) => 'cut-before' | 'cut-after' | undefined;
  /** Default: a reset. */
  readonly manner?: Manner;
}

export interface ChaosOptions {
  /** Port of the broker on 127.0.0.1. */
  readonly target: number;
  /** Where it listens. Default 127.0.0.1. */
  readonly host?: string;
  /** Asked for the n-th connection, from 1. */
  readonly fate?: (n: number) => Fate | undefined;
}

export class ChaosProxy implements AsyncDisposable {
  /** A connection came. */
  readonly connected = new Signal<number>('connected');
  /** A connection was cut by this proxy. */
  readonly cuts = new Signal<Manner>('cuts');
  /** The id of a data message that the agent acknowledged. */
  readonly acknowledged = new Signal<string>('acknowledged');
  /** The id of the message to which the agent's answer reached the broker, by the broker's own PUBACK. */
  readonly answered = new Signal<string>('answered');
  /** A whole packet has passed (or would have). */
  readonly passed = new Signal<{ readonly frame: Frame; readonly direction: Direction }>('passed');
  fate: (n: number) => Fate | undefined;
  target: number;
  /** How long each byte is on its way, in each direction. */
  delay = 0;
  /** Bytes a second in each direction. */
  rate = Infinity;
  /** Connections so far. */
  count = 0;
  /** How often it has cut one. */
  cutCount = 0;
  /** When each came, in milliseconds of the machine's monotonic clock. */
  readonly times: number[] = [];
  #server: Server | undefined;
  #port = 0;
  readonly #links = new Set<Link>();
  #isDeaf = false;

  private constructor(readonly options: ChaosOptions) {
    this.fate = options.fate ?? (() => undefined);
    this.target = options.target;
  }

  static async start(options: ChaosOptions): Promise<ChaosProxy> {
    const proxy = new ChaosProxy(options);
    // One that nobody else is given while it is closed.
    [proxy.#port = 0] = await freePorts(1);
    await proxy.open();
    return proxy;
  }

  /** Takes connections again, on the same port. */
  async open(): Promise<void> {
    const server = createServer((socket) => this.#accept(socket));
    this.#server = server;
    server.listen(this.#port, this.options.host ?? '127.0.0.1');
    await once(server, 'listening');
  }

  /** Refuses connections, and ends those it has. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    this.cut();
    await closed;
  }

  get url(): string {
    return `mqtt://${this.options.host ?? '127.0.0.1'}:${this.#port}`;
  }

  /** Connections that stand now, on both sides. */
  get standing(): number {
    return this.#links.size;
  }

  /** Ends all connections now. */
  cut(manner: Manner = 'rst'): void {
    for (const link of this.#links) link.cut(manner);
  }

  /** From now on nothing passes and nobody is told: neither on what stands nor on what is accepted, until `thaw`. */
  freeze(): void {
    this.#isDeaf = true;
    for (const link of this.#links) link.freeze();
  }

  /** New connections work again; those that were frozen are gone. */
  thaw(): void {
    this.#isDeaf = false;
    this.cut();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(agent: Socket): void {
    this.count += 1;
    this.times.push(Number(process.hrtime.bigint()) / 1e6);
    const link = new Link(agent, this, this.fate(this.count) ?? {});
    this.#links.add(link);
    link.closed.addEventListener('abort', () => this.#links.delete(link));
    if (this.#isDeaf) link.freeze();
    this.connected.emit(this.count);
  }
}

/** One connection of the agent, with its own to the broker. */
class Link {
  readonly #closing = new AbortController();
  readonly #agent: Socket;
  readonly #broker: Socket;
  /** Data messages on their way to the agent: packet id → message id. */
  readonly #delivered = new Map<number, string>();
  /** Answers on their way to the broker: packet id → id of the message they answer. */
  readonly #published = new Map<number, string>();
  #isFrozen = false;

  constructor(
    agent: Socket,
    readonly proxy: ChaosProxy,
    readonly fate: Fate,
  ) {
    this.#agent = agent;
    this.#broker = connect({ host: '127.0.0.1', port: proxy.target, noDelay: true });
    agent.setNoDelay(true);
    const up = new FrameReader();
    const down = new FrameReader();
    this.#pipe(agent, this.#broker, 'up', up);
    this.#pipe(this.#broker, agent, 'down', {
      push: (chunk) => {
        down.hasProperties = up.hasProperties;
        return down.push(chunk);
      },
    });
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  freeze(): void {
    this.#isFrozen = true;
  }

  cut(manner: Manner): void {
    if (this.closed.aborted) return;
    this.#closing.abort();
    for (const socket of [this.#agent, this.#broker]) {
      // One that is being shut down already cannot be reset: libuv would never tell that it is closed, and the
      // process would wait for that at its exit for ever.
      if (manner === 'rst' && socket.readyState === 'open') socket.resetAndDestroy();
      else socket.destroy();
    }
    this.proxy.cutCount += 1;
    this.proxy.cuts.emit(manner);
  }

  /** What comes waits its time in a queue; what the queue holds is bounded, as in a real network. */
  #pipe(from: Socket, to: Socket, direction: Direction, reader: Pick<FrameReader, 'push'>): void {
    const queue: { readonly chunk: Buffer; readonly due: number }[] = [];
    let wake = (): void => undefined;
    let hasEnded = false;
    from.on('data', (chunk: Buffer) => {
      queue.push({ chunk, due: performance.now() + this.proxy.delay });
      if (queue.length >= MOST_QUEUED) from.pause();
      wake();
    });
    const ended = (): void => {
      hasEnded = true;
      wake();
    };
    from.once('end', ended).once('close', ended);
    from.on('error', () => undefined);
    const pump = async (): Promise<void> => {
      const passed = { bytes: 0 };
      while (!this.closed.aborted) {
        const next = queue.shift();
        if (next === undefined) {
          if (hasEnded) break;
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        from.resume();
        await pause(next.due - performance.now());
        // Frozen: swallowed, and the end of the one side is never told to the other.
        if (!this.#isFrozen) await this.#pass(next.chunk, to, direction, reader, passed);
      }
      if (this.#isFrozen || this.closed.aborted) return;
      this.#closing.abort();
      from.destroy();
      to.destroySoon();
    };
    void pump();
  }

  async #pass(
    chunk: Buffer,
    to: Socket,
    direction: Direction,
    reader: Pick<FrameReader, 'push'>,
    passed: { bytes: number },
  ): Promise<void> {
    const { at, manner = 'rst' } = this.fate;
    const frames = reader.push(chunk);
    if (at === undefined) {
      for (const frame of frames) this.#note(frame, direction);
      await this.#forward(chunk, to, direction, passed);
      return;
    }
    // Packet by packet, so that a cut falls between two of them; what is behind it is lost with the connection.
    for (const frame of frames) {
      if (this.closed.aborted) return;
      this.#note(frame, direction);
      const verdict = at(frame, direction);
      if (verdict !== 'cut-before') await this.#forward(frame.bytes, to, direction, passed);
      if (verdict !== undefined) this.cut(manner);
    }
  }

  async #forward(bytes: Buffer, to: Socket, direction: Direction, passed: { bytes: number }): Promise<void> {
    const { after, manner = 'rst' } = this.fate;
    const left = after?.direction === direction ? after.bytes - passed.bytes : Infinity;
    const end = Math.min(bytes.length, left);
    passed.bytes += bytes.length;
    const { rate } = this.proxy;
    const step = Math.max(1, rate === Infinity ? end : Math.floor(rate / STEPS_A_SECOND));
    for (let begin = 0; begin < end && !this.closed.aborted; begin += step) {
      if (rate !== Infinity) await pause(1000 / STEPS_A_SECOND);
      await this.#write(to, bytes.subarray(begin, Math.min(begin + step, end)));
    }
    if (left <= bytes.length) this.cut(manner);
  }

  #note(frame: Frame, direction: Direction): void {
    const { type, packetId, payload } = frame;
    const [sent, heard, field] =
      direction === 'down'
        ? [this.#delivered, this.proxy.answered, 'message_id']
        : [this.#published, this.proxy.acknowledged, 'response_to'];
    const other = direction === 'down' ? this.#published : this.#delivered;
    if (packetId !== undefined && type === PUBLISH && payload !== undefined) {
      const id = fieldOf(payload, field);
      if (id !== undefined) sent.set(packetId, id);
    } else if (packetId !== undefined && type === PUBACK) {
      const id = other.get(packetId);
      other.delete(packetId);
      if (id !== undefined) heard.emit(id);
    }
    this.proxy.passed.emit({ frame, direction });
  }

  /** Resolves when the kernel has taken them: a cut after that does not take them back. */
  #write(to: Socket, bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      if (to.destroyed) resolve();
      else to.write(bytes, () => resolve());
    });
  }
}

/** Chunks in a queue before the sender has to wait. */
const MOST_QUEUED = 64;
const STEPS_A_SECOND = 20;

/** The time the network takes, not a wait for an event. */
function pause(span: number): Promise<void> {
  return span <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, span));
}

/** A text of an envelope's head, where it is not empty. */
function fieldOf(payload: Buffer, field: string): string | undefined {
  return new RegExp(`"${field}":"([^"]+)"`).exec(payload.toString('utf8', 0, 512))?.[1];
}
