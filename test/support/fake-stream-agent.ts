/**
 * The agent's end of the stream as a worker sees it: Connect on a Unix socket, message by message as a test says. It
 * records what it got, redelivers nothing by itself, and can die and come back at the same address.
 */
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  type AgentFrame,
  type BodyFrame,
  type Completion,
  type Delivery,
  DispatcherService,
  type Hello,
  type Refusal,
  type Result,
  type Welcome,
  type WorkerFrame,
} from '../../protocol/generated/stream.js';
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { Signal } from '../../src/signal/index.js';

/** stream.proto: what a sender may have on the way without a credit; contents over this are bodies. */
const BODY_WINDOW = 1024 * 1024;
const MOST_INLINE = 64 * 1024;

type BodyCall = ServerDuplexStream<BodyFrame, BodyFrame>;

function bodyFrom(content: Buffer): { size: number; chunks: Buffer[] } {
  const chunks: Buffer[] = [];
  for (let at = 0; at < content.length; at += 128 * 1024) chunks.push(content.subarray(at, at + 128 * 1024));
  return { size: content.length, chunks };
}

export type WorkerCall = ServerDuplexStream<WorkerFrame, AgentFrame>;

/** What a test says of results: they are durable, or why not. */
export type ResultAnswer = { readonly isPassing: boolean; readonly reason: string } | undefined;

export const EMPTY: AgentFrame = {
  welcome: undefined,
  deliveries: [],
  settled: [],
  accepted: [],
  resultRefusals: [],
  cancels: [],
  events: [],
  pings: [],
};

export interface FakeStreamAgent extends AsyncDisposable {
  /** For YGG_SOCKET_ADDR. */
  readonly address: string;
  readonly hellos: Hello[];
  readonly welcomed: Signal<Hello>;
  readonly frames: WorkerFrame[];
  readonly came: Signal<WorkerFrame>;
  /** Results that were accepted, in order. */
  readonly results: Data[];
  readonly accepted: Signal<Data>;
  /** The status texts with which calls ended that the worker broke off or ended. */
  readonly ended: Signal<'cancelled' | 'end'>;
  welcome: Partial<Welcome>;
  /** Decides about results, all of a completion or one alone. */
  onResults: (results: readonly Result[]) => ResultAnswer | Promise<ResultAnswer>;
  start(): Promise<void>;
  /** Dies: every connection is cut. */
  stop(): void;
  /** Resolves with the hello number `count`, counted from 1. */
  hello(count: number): Promise<Hello>;
  /** Delivers a message; resolves when it is settled, rejects with a {@link Refused}, or when the stream ends. */
  deliver(data: Partial<Data>, options?: DeliverOptions): Promise<void>;
  /** The tag that the next delivery gets. */
  readonly nextTag: number;
  /** Writes a frame as it is. */
  write(frame: Partial<AgentFrame>): void;
  /** Writes a frame of bodies as it is, once the worker has made that call. */
  writeBody(frame: Partial<BodyFrame>): Promise<void>;
  /** Body frames that came, and credits in all by tag. */
  readonly bodyFrames: BodyFrame[];
  readonly bodyCame: Signal<BodyFrame>;
  /** The most bytes of one body that were on the way without being used by the worker. */
  mostAhead: number;
  call(): WorkerCall;
}

export interface DeliverOptions {
  readonly priority?: number;
  /** The content goes as a body: these pieces, in order, of this size in all. Default: contents over 64 KiB do. */
  readonly body?: { readonly size: number; readonly chunks: Iterable<Buffer> };
  /** The body's chunks go before the frame that names it. */
  readonly isBodyFirst?: boolean;
}

/** A delivery that the worker gave back. */
export class Refused extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.reason);
  }
}

export async function startFakeStreamAgent(dir: string): Promise<FakeStreamAgent> {
  const scope = new AbortController();
  const path = join(dir, 'd.sock');
  let server: Server | undefined;
  let current: WorkerCall | undefined;
  const waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  let tag = 0;
  let transfer: BodyCall | undefined;
  const transferred = new Signal<void>('transferred');
  const outgoing = new Map<number, { credit: number; go: () => void; isStopped: boolean }>();
  const incoming = new Map<
    number,
    { chunks: Buffer[]; done: (content: Buffer | undefined) => void; whole: Promise<Buffer | undefined> }
  >();

  const transferCall = async (): Promise<BodyCall> => {
    while (transfer === undefined) await transferred.next(scope.signal);
    return transfer;
  };
  const sendBody = async (id: number, chunks: Iterable<Buffer>, size: number): Promise<void> => {
    const call = await transferCall();
    const body = { credit: BODY_WINDOW, go: (): void => undefined, isStopped: false };
    outgoing.set(id, body);
    let offset = 0n;
    const write = (data: Buffer, last: boolean, aborted = false): void => {
      call.write({ token: Buffer.alloc(0), chunks: [{ id, offset, data, last, aborted }], credits: [] });
    };
    for (const data of chunks) {
      while (body.credit < data.length && !body.isStopped) await new Promise<void>((go) => (body.go = go));
      if (body.isStopped) {
        write(Buffer.alloc(0), true, true);
        return;
      }
      body.credit -= data.length;
      agent.mostAhead = Math.max(agent.mostAhead, BODY_WINDOW - body.credit);
      write(data, offset + BigInt(data.length) === BigInt(size));
      offset += BigInt(data.length);
    }
    if (size === 0) write(Buffer.alloc(0), true);
  };
  const bodyOf = (number: number): NonNullable<ReturnType<typeof incoming.get>> => {
    let body = incoming.get(number);
    if (body === undefined) {
      let done = (_content: Buffer | undefined): void => undefined;
      const whole = new Promise<Buffer | undefined>((resolve) => (done = resolve));
      body = { chunks: [], done: (content) => done(content), whole };
      incoming.set(number, body);
    }
    return body;
  };
  const onBodyFrame = (frame: BodyFrame, call: BodyCall): void => {
    agent.bodyFrames.push(frame);
    agent.bodyCame.emit(frame);
    for (const { id, bytes, stop } of frame.credits) {
      const body = outgoing.get(id);
      if (body === undefined) continue;
      body.credit += Number(bytes);
      body.isStopped ||= stop;
      body.go();
    }
    for (const { id, data, last, aborted } of frame.chunks) {
      const body = bodyOf(id);
      body.chunks.push(data);
      call.write({ token: Buffer.alloc(0), chunks: [], credits: [{ id, bytes: BigInt(data.length), stop: false }] });
      if (last) body.done(aborted ? undefined : Buffer.concat(body.chunks));
    }
  };
  /** The results with their contents, whichever way these came; undefined where one was aborted. */
  const whole = async (results: readonly Result[]): Promise<Result[]> => {
    const filled: Result[] = [];
    for (const result of results) {
      if (result.body === undefined || result.data === undefined) filled.push(result);
      else
        filled.push({
          ...result,
          data: { ...result.data, content: (await bodyOf(result.number).whole) ?? Buffer.alloc(0) },
        });
    }
    return filled;
  };

  const settle = async (completion: Completion, call: WorkerCall): Promise<void> => {
    const answer = await agent.onResults(completion.results);
    const results = answer === undefined ? await whole(completion.results) : [];
    if (call !== current) return;
    if (answer !== undefined) {
      const number = completion.results[0]?.number ?? 0;
      const { isPassing: passing, reason } = answer;
      agent.write({ resultRefusals: [{ number, tag: completion.tag, passing, reason }] });
      return;
    }
    for (const { data } of results) take(data);
    agent.write({ settled: [completion.tag] });
    waiting.get(completion.tag)?.resolve();
    waiting.delete(completion.tag);
  };
  const accept = async (result: Result, call: WorkerCall): Promise<void> => {
    const answer = await agent.onResults([result]);
    const [filled] = answer === undefined ? await whole([result]) : [];
    if (call !== current) return;
    const { number } = result;
    if (answer === undefined) {
      take(filled?.data);
      agent.write({ accepted: [number] });
    } else {
      agent.write({ resultRefusals: [{ number, tag: undefined, passing: answer.isPassing, reason: answer.reason }] });
    }
  };
  const take = (data: Data | undefined): void => {
    if (data === undefined) return;
    agent.results.push(data);
    agent.accepted.emit(data);
  };
  const onFrame = (frame: WorkerFrame, call: WorkerCall): void => {
    if (call !== current) return;
    if (frame.hello !== undefined) {
      agent.hellos.push(frame.hello);
      agent.write({ welcome: { ...WELCOME, ...agent.welcome } });
      agent.welcomed.emit(frame.hello);
    }
    for (const result of frame.results) void accept(result, call);
    for (const completion of frame.completions) void settle(completion, call);
    for (const refusal of frame.refusals) {
      waiting.get(refusal.tag)?.reject(new Refused(refusal));
      waiting.delete(refusal.tag);
    }
    agent.frames.push(frame);
    agent.came.emit(frame);
  };
  const connect = (call: WorkerCall): void => {
    current = call;
    const over = (how: 'cancelled' | 'end'): void => {
      if (current !== call) return;
      current = undefined;
      for (const { reject } of waiting.values()) reject(new Error('the stream ended'));
      waiting.clear();
      agent.ended.emit(how);
    };
    call.on('data', (frame: WorkerFrame) => onFrame(frame, call));
    call.on('error', () => undefined);
    call.on('cancelled', () => over('cancelled'));
    call.on('end', () => {
      over('end');
      call.end();
    });
  };

  const agent: FakeStreamAgent = {
    address: `unix:${path}`,
    hellos: [],
    welcomed: new Signal('welcomed'),
    frames: [],
    came: new Signal('came'),
    results: [],
    accepted: new Signal('accepted'),
    ended: new Signal('ended'),
    welcome: {},
    onResults: () => undefined,
    start: async () => {
      server = new Server({ 'grpc.max_receive_message_length': -1 });
      server.addService(DispatcherService, {
        connect,
        transfer: (call: BodyCall) => {
          call.on('data', (frame: BodyFrame) => {
            if (frame.token.length === 0) onBodyFrame(frame, call);
            else if (frame.token.equals(WELCOME.token)) {
              transfer = call;
              transferred.emit();
            }
          });
          call.on('error', () => undefined);
          call.on('cancelled', () => (transfer = undefined));
          call.on('end', () => call.end());
        },
      });
      await new Promise<void>((resolve, reject) => {
        server?.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
          if (error === null) resolve();
          else reject(error);
        });
      });
    },
    stop: () => {
      server?.forceShutdown();
      server = undefined;
    },
    hello: async (count) => {
      while (agent.hellos.length < count) await agent.welcomed.next(scope.signal);
      return agent.hellos[count - 1]!;
    },
    deliver: async (data, { priority = 5, body, isBodyFirst = false } = {}) => {
      const message = messageOf(data);
      const given = body ?? (message.content.length > MOST_INLINE ? bodyFrom(message.content) : undefined);
      const inFrame = given === undefined ? message : { ...message, content: Buffer.alloc(0) };
      const named = given === undefined ? undefined : { size: BigInt(given.size) };
      const delivery: Delivery = { tag: agent.nextTag, priority, data: inFrame, body: named };
      tag += 1;
      const settled = new Promise<void>((resolve, reject) => waiting.set(delivery.tag, { resolve, reject }));
      settled.catch(() => undefined);
      if (given !== undefined && isBodyFirst) await sendBody(delivery.tag, given.chunks, given.size);
      agent.write({ deliveries: [delivery] });
      if (given !== undefined && !isBodyFirst) void sendBody(delivery.tag, given.chunks, given.size);
      await settled;
    },
    get nextTag() {
      return tag + 1;
    },
    write: (frame) => {
      current?.write({ ...EMPTY, ...frame });
    },
    writeBody: async (frame) => {
      (await transferCall()).write({ token: Buffer.alloc(0), chunks: [], credits: [], ...frame });
    },
    bodyFrames: [],
    bodyCame: new Signal('bodyCame'),
    mostAhead: 0,
    call: () => current!,
    [Symbol.asyncDispose]: () => {
      scope.abort();
      agent.stop();
      return Promise.resolve();
    },
  };
  await agent.start();
  return agent;
}

/** A message as tests send it. */
export function messageOf(data: Partial<Data>): Data {
  return {
    messageId: '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d',
    directive: 'echo',
    metadata: {},
    responseTo: '',
    content: Buffer.from('"hello"'),
    ...data,
  };
}

const WELCOME: Welcome = {
  registrations: [{ registered: true, reason: '' }],
  window: { messages: 256, bytes: 1024 * 1024, bodies: 4 },
  token: Buffer.from('token'),
  maxResult: 16n * 1024n * 1024n,
  config: undefined,
};
