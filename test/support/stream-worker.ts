/**
 * A stream worker inside the test's process, without an SDK: it says Hello and shows every frame it gets; what it answers
 * is the test's affair, also what no honest worker would send.
 */
import { credentials, status, type ClientDuplexStream, type StatusObject } from '@grpc/grpc-js';
import {
  DispatcherClient,
  type AgentFrame,
  type Completion,
  type Delivery,
  type Hello,
  type Refusal,
  type Result,
  type Welcome,
  type WorkerFrame,
} from '../../protocol/generated/stream.js';
import { WorkerTransfer } from './stream-bodies.js';
import { Signal } from '../../src/signal/index.js';

export interface StreamWorkerOptions {
  /** `unix:<path>`, as in YGG_SOCKET_ADDR. */
  readonly address: string;
}

const NEVER = new AbortController().signal;

export function frame(parts: Partial<WorkerFrame>): WorkerFrame {
  return { hello: undefined, completions: [], refusals: [], results: [], pongs: [], ...parts };
}

export function hello(handlers: readonly string[], parts: Partial<Hello> = {}): Hello {
  return {
    registrations: handlers.map((handler) => ({ handler, pid: 4711n, detachedContent: false, features: {} })),
    window: { messages: 16, bytes: 1024 * 1024, bodies: 4 },
    maxBody: 0n,
    ...parts,
  };
}

export function resultOf(number: number, delivery: Delivery, content: Buffer | string = 'true'): Result {
  const { messageId = '', directive = '' } = delivery.data ?? {};
  const data = {
    messageId: `r-${messageId}`,
    responseTo: messageId,
    directive,
    metadata: {},
    content: Buffer.from(content),
  };
  return { number, data, body: undefined };
}

/** One Connect, from the worker's side. */
export class StreamWorker implements AsyncDisposable {
  readonly deliveries: Delivery[] = [];
  readonly frames: AgentFrame[] = [];
  readonly settled: number[] = [];
  readonly accepted: number[] = [];
  readonly came = new Signal<AgentFrame>('came');
  /** How the call ended. */
  readonly end: Promise<StatusObject>;
  /** What it does with each delivery; by default nothing. */
  handler: (delivery: Delivery) => void = () => undefined;
  readonly #client: DispatcherClient;
  readonly call: ClientDuplexStream<WorkerFrame, AgentFrame>;

  constructor(options: StreamWorkerOptions) {
    this.#client = new DispatcherClient(options.address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_receive_message_length': -1,
    });
    this.call = this.#client.connect();
    this.end = new Promise((resolve) => this.call.on('status', resolve));
    this.call.on('error', () => undefined);
    this.call.on('data', (each: AgentFrame) => this.#take(each));
  }

  /** Says Hello; gives the agent's Welcome. */
  async join(handlers: readonly string[], parts: Partial<Hello> = {}): Promise<Welcome> {
    this.send({ hello: hello(handlers, parts) });
    return this.until(() => this.frames.find(({ welcome }) => welcome !== undefined)?.welcome);
  }

  /** Opens Transfer, after the Welcome. */
  transfer(token = this.frames[0]?.welcome?.token ?? Buffer.alloc(0)): WorkerTransfer {
    return new WorkerTransfer(this.#client.transfer(), token);
  }

  send(parts: Partial<WorkerFrame>): void {
    this.call.write(frame(parts));
  }

  complete(...completions: Completion[]): void {
    this.send({ completions });
  }

  refuse(...refusals: Refusal[]): void {
    this.send({ refusals });
  }

  /** The first thing that `find` finds, now or after a frame to come. Rejects when the call ends first. */
  async until<T>(find: () => T | undefined): Promise<T> {
    const ended = this.end.then(({ code, details }) => {
      throw new Error(`the stream ended: ${status[code]} ${details}`);
    });
    ended.catch(() => undefined);
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      await Promise.race([this.came.next(NEVER), ended]);
    }
  }

  /** Resolves when `count` deliveries have come in all. */
  async got(count: number): Promise<readonly Delivery[]> {
    return this.until(() => (this.deliveries.length >= count ? this.deliveries : undefined));
  }

  #take(each: AgentFrame): void {
    this.frames.push(each);
    this.settled.push(...each.settled);
    this.accepted.push(...each.accepted);
    this.deliveries.push(...each.deliveries);
    for (const delivery of each.deliveries) this.handler(delivery);
    this.came.emit(each);
  }

  /** Breaks the connection, as the death of a process does. */
  die(): void {
    this.#client.close();
    this.call.cancel();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.die();
    return Promise.resolve();
  }
}
