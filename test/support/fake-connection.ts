/**
 * A connection to a broker that a test plays: links come up and are cut when the test says so, what is published can
 * be read and answered, and acknowledgements leave in the order of arrival, only on the link that delivered.
 */
import { Signal } from '../../src/signal/index.js';
import type {
  ConnectionPort,
  Delivery,
  LinkDown,
  LinkUp,
  Payload,
  PublishOptions,
  PublishOutcome,
  SendOutcome,
  Will,
} from '../../src/router/index.js';

export interface Published {
  readonly topic: string;
  readonly payload: Buffer;
  readonly options: PublishOptions;
  /** Answers it: the PUBACK with this reason code. */
  answer(reasonCode?: number): void;
  readonly isAnswered: boolean;
}

export interface Delivered {
  /** Whether its PUBACK has left. */
  readonly isAcknowledged: boolean;
}

interface Entry {
  isDue: boolean;
  isGone: boolean;
}

export interface FakeConnectionOptions {
  /** Asked before each link, as the real one does. */
  readonly will?: () => Promise<Will>;
  /** Whether the broker answers each publication at once. Default true. */
  readonly answers?: boolean;
  readonly receiveMaximum?: number;
  /** Largest payload the broker takes. */
  readonly maximumPayload?: number;
}

export class FakeConnection implements ConnectionPort {
  readonly up = new Signal<LinkUp>('up');
  readonly down = new Signal<LinkDown>('down');
  readonly message = new Signal<Delivery>('message');
  /** Announces each publication as it is handed over. */
  readonly publishing = new Signal<Published>('publishing');
  /** Announces each call that changes the link: `start`, `disconnect`, `reconnect 60000`, `connect`, `stop`. */
  readonly called = new Signal<string>('called');
  readonly published: Published[] = [];
  readonly calls: string[] = [];
  will: Will | undefined;
  isUp = false;
  /** Whether publications are answered at once. */
  answers: boolean;
  #options: FakeConnectionOptions;
  #pending = new Map<Published, { resolve: (outcome: PublishOutcome) => void; reject: (error: Error) => void }>();
  #arrived: Entry[] = [];

  constructor(options: FakeConnectionOptions = {}) {
    this.#options = options;
    this.answers = options.answers ?? true;
  }

  /** Connects: asks for the will, then announces `up`. */
  async open(granted: Partial<LinkUp> = {}): Promise<void> {
    this.will = await this.#options.will?.();
    this.isUp = true;
    this.up.emit({ receiveMaximum: this.#options.receiveMaximum ?? 65_535, ...granted });
  }

  /** The link ends without our wish. `announce: false` holds back `down`, as a socket that dies slowly does. */
  cut(reason = 'cut by the test', { code = 'closed', announce = true } = {}): void {
    this.#end();
    if (announce) this.down.emit({ code, reason, wasUp: true });
  }

  /** An attempt fails. */
  fail(reason = 'nobody listens'): void {
    this.down.emit({ code: 'unreachable', reason, wasUp: false });
  }

  /** A message from the broker. */
  deliver(
    topic: string,
    payload: Buffer | string,
    options: Partial<Omit<Delivery, 'topic' | 'payload'>> = {},
  ): Delivered {
    const entry: Entry = { isDue: false, isGone: false };
    const arrived = this.#arrived;
    arrived.push(entry);
    this.message.emit({
      topic,
      payload: Buffer.from(payload),
      qos: 1,
      retain: false,
      ...options,
      ack: () => {
        if (arrived !== this.#arrived) return;
        entry.isDue = true;
        for (const earlier of arrived) {
          if (!earlier.isDue) return;
          earlier.isGone = true;
        }
      },
    });
    return {
      get isAcknowledged() {
        return entry.isGone;
      },
    };
  }

  send(topic: string, payload: Payload, options: PublishOptions, done: (outcome: SendOutcome) => void): void {
    this.#publish(topic, bytesOf(payload), options).then(done, () => done({ kind: 'cut' }));
  }

  #publish(topic: string, payload: Buffer, options: PublishOptions): Promise<PublishOutcome> {
    if (!this.isUp) return Promise.reject(new Error('the connection is not up'));
    const limit = this.#options.maximumPayload ?? Number.POSITIVE_INFINITY;
    if (payload.length > limit) return Promise.resolve({ kind: 'too-large', size: payload.length, limit });
    return new Promise((resolve, reject) => {
      let isAnswered = false;
      const published: Published = {
        topic,
        payload,
        options,
        answer: (reasonCode = 0) => {
          isAnswered = true;
          this.#pending.delete(published);
          resolve({ kind: 'acknowledged', reasonCode });
        },
        get isAnswered() {
          return isAnswered;
        },
      };
      this.#pending.set(published, { resolve, reject });
      this.published.push(published);
      this.publishing.emit(published);
      if (this.answers) published.answer();
    });
  }

  holdReading(): void {
    this.#call('holdReading');
  }

  readOn(): void {
    this.#call('readOn');
  }

  flushAcks(): void {
    this.#call('flushAcks');
  }

  start(): Promise<void> {
    this.#call('start');
    return Promise.resolve();
  }

  async disconnect(): Promise<void> {
    this.#call('disconnect');
    await this.#goDown('requested');
  }

  async reconnect(delay: number): Promise<void> {
    this.#call(`reconnect ${delay}`);
    await this.#goDown('requested');
  }

  connect(): void {
    this.#call('connect');
  }

  async stop(): Promise<void> {
    this.#call('stop');
    await this.#goDown('stopped');
  }

  #call(name: string): void {
    this.calls.push(name);
    this.called.emit(name);
  }

  async #goDown(code: string): Promise<void> {
    if (!this.isUp) return;
    this.#end();
    await Promise.resolve();
    this.down.emit({ code, reason: 'by request', wasUp: true });
  }

  #end(): void {
    this.isUp = false;
    this.#arrived = [];
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(new Error('the connection has ended'));
  }
}

function bytesOf(payload: Payload): Buffer {
  if (Buffer.isBuffer(payload)) return payload;
  if (!('writeTo' in payload)) return Buffer.concat(payload);
  const bytes = Buffer.alloc(payload.size);
  payload.writeTo(bytes, 0);
  return bytes;
}
