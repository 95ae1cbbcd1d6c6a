/**
 * One closed loop: so many messages in flight, each answer makes room for the next, and the time from publication to
 * answer is kept of those that belong to the measured part. It decides what to send and counts what came; the driver
 * has the connection.
 */
import { randomBytes } from 'node:crypto';
import { latencyOf, type Latency } from './statistics.js';
import { publishHead } from './wire.js';

/** How long a part of a run takes: until both are reached. */
export interface Span {
  readonly seconds: number;
  readonly messages: number;
}

/** What is sent, and how. */
export interface Load {
  readonly inFlight: number;
  /** Bytes of the content, a JSON string with its quotes. */
  readonly payload: number;
  /** Another content than letters: JSON. Its answer may be shorter. */
  readonly content?: string;
  /** Taken in turn. */
  readonly directives: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly warmUp: Span;
  readonly measured: Span;
  /** No more than so many are sent. */
  readonly total?: number;
  /** Without an answer for so many seconds it has failed; default 60. */
  readonly patience?: number;
  /** Called as the measured part begins and ends. */
  readonly onBegin?: () => void;
  readonly onEnd?: () => void;
}

/** What a run of a load came to. */
export interface RunResult {
  /** Answered in the measured part. */
  readonly messages: number;
  readonly seconds: number;
  readonly latency: Latency;
}

export type Phase = 'warm-up' | 'measured' | 'draining' | 'done';

/** Where an id holds the number of its message, and how long that is. */
const SERIAL_DIGITS = 12;
export const ID_LENGTH = 36;

/** One message, ready for the wire. */
export interface Outgoing {
  /** The packet up to the content, and all of it where the content is small. */
  readonly head: Buffer;
  /** A large content, shared by all messages, with the end of the envelope. */
  readonly tail: Buffer | undefined;
}

/** Contents above this are not copied into each message. */
const SMALL = 16 * 1024;

export class Flow {
  /** The first letters of the ids of this flow. */
  readonly prefix = randomBytes(4).toString('hex');
  /** Resolves when every message is answered; rejects when one was refused or the driver gave up. */
  readonly done: Promise<RunResult>;
  #phase: Phase = 'warm-up';
  #serial = 0;
  /** In this phase. */
  #inPhase = 0;
  #phaseBegan = 0;
  #measuredFor = 0;
  #isFinished = false;
  readonly #open = new Map<number, number>();
  readonly #latencies: number[] = [];
  readonly #templates: readonly Template[];
  #resolve: (result: RunResult) => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  constructor(
    readonly load: Load,
    topic: string,
  ) {
    this.#templates = load.directives.map((directive) => templateOf(topic, directive, load, this.prefix));
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever waits for it learns of a failure; nobody may be waiting yet.
    this.done.catch(() => undefined);
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Messages without an answer. */
  get open(): number {
    return this.#open.size;
  }

  /** Messages that may be sent now. */
  get room(): number {
    if (this.#phase === 'draining' || this.#phase === 'done') return 0;
    const { inFlight, total = Infinity } = this.load;
    return Math.min(inFlight - this.#open.size, total - this.#serial);
  }

  /** The answers so far. */
  get answered(): number {
    return this.#serial - this.#open.size;
  }

  /** Ends the measured part with the next answer, however long it was to be. */
  finish(): void {
    this.#isFinished = true;
  }

  /** The next message, sent now as the packet with this id. */
  next(now: number, packetId: number): Outgoing {
    if (this.#serial === 0) this.#begin(now);
    const serial = this.#serial++;
    const template = this.#templates[serial % this.#templates.length];
    if (template === undefined) throw new Error('a load needs a directive');
    this.#open.set(serial, now);
    return fill(template, serial, packetId);
  }

  /** An answer came to the message with this id. */
  answer(id: string, now: number): void {
    const serial = Number.parseInt(id.slice(-SERIAL_DIGITS), 10);
    const sentAt = this.#open.get(serial);
    // A repeated answer is allowed (at least once), and no second message.
    if (sentAt === undefined) return;
    this.#open.delete(serial);
    this.#inPhase += 1;
    if (this.#phase === 'measured') this.#latencies.push(now - sentAt);
    this.#advance(now);
  }

  /** It cannot come to its end. */
  fail(error: Error): void {
    this.#phase = 'done';
    this.#reject(error);
  }

  #begin(now: number): void {
    const { warmUp, onBegin } = this.load;
    if (warmUp.seconds === 0 && warmUp.messages === 0) {
      this.#phase = 'measured';
      onBegin?.();
    }
    this.#phaseBegan = now;
  }

  #advance(now: number): void {
    const { warmUp, measured, onBegin, onEnd } = this.load;
    if (this.#phase === 'warm-up' && this.#isOver(warmUp, now)) {
      this.#phase = 'measured';
      this.#inPhase = 0;
      onBegin?.();
      // What the caller did just now is not measured.
      this.#phaseBegan = onBegin === undefined ? now : performance.now();
    } else if (this.#phase === 'measured' && this.#isOver(measured, now)) {
      this.#phase = 'draining';
      this.#measuredFor = now - this.#phaseBegan;
      onEnd?.();
    }
    if (this.#phase !== 'draining' || this.#open.size > 0) return;
    this.#phase = 'done';
    const seconds = this.#measuredFor / 1_000;
    this.#resolve({ messages: this.#latencies.length, seconds, latency: latencyOf(this.#latencies) });
  }

  #isOver({ seconds, messages }: Span, now: number): boolean {
    return this.#isFinished || (this.#inPhase >= messages && now - this.#phaseBegan >= seconds * 1_000);
  }
}

interface Template {
  readonly head: Buffer;
  readonly packetIdAt: number;
  readonly serialAt: number;
  readonly tail: Buffer | undefined;
}

function templateOf(topic: string, directive: string, load: Load, prefix: string): Template {
  const { payload, content, metadata = {} } = load;
  const id = `${prefix}-0000-4000-8000-${'0'.repeat(SERIAL_DIGITS)}`;
  const begin = `{"type":"data","message_id":"${id}","response_to":"","version":1,"sent":"2026-01-01T00:00:00Z"`;
  const head = `${begin},"directive":${JSON.stringify(directive)},"metadata":${JSON.stringify(metadata)},"content":`;
  const tail = `${content ?? `"${'x'.repeat(Math.max(0, payload - 2))}"`}}`;
  const publish = publishHead(topic, 0, head.length + tail.length);
  const isSmall = payload <= SMALL;
  return {
    head: Buffer.concat([publish, Buffer.from(isSmall ? head + tail : head)]),
    packetIdAt: publish.length - 2,
    serialAt: publish.length + head.indexOf(id) + ID_LENGTH - SERIAL_DIGITS,
    tail: isSmall ? undefined : Buffer.from(tail),
  };
}

function fill({ head, packetIdAt, serialAt, tail }: Template, serial: number, packetId: number): Outgoing {
  const own = Buffer.from(head);
  own.writeUInt16BE(packetId, packetIdAt);
  own.write(String(serial).padStart(SERIAL_DIGITS, '0'), serialAt, 'latin1');
  return { head: own, tail };
}
