/**
 * The agent's end of the stream as a worker sees it: Connect on a Unix socket, message by message as a test says. It
 * records what it got, redelivers nothing by itself, and can die and come back at the same address.
 */
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerDuplexStream, status } from '@grpc/grpc-js';
import {
  type AgentFrame,
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
  deliver(data: Partial<Data>, options?: { readonly priority?: number }): Promise<void>;
  /** The tag that the next delivery gets. */
  readonly nextTag: number;
  /** Writes a frame as it is. */
  write(frame: Partial<AgentFrame>): void;
  call(): WorkerCall;
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

  const settle = async (completion: Completion, call: WorkerCall): Promise<void> => {
    const answer = await agent.onResults(completion.results);
    if (call !== current) return;
    if (answer !== undefined) {
      const number = completion.results[0]?.number ?? 0;
      const { isPassing: passing, reason } = answer;
      agent.write({ resultRefusals: [{ number, tag: completion.tag, passing, reason }] });
      return;
    }
    for (const { data } of completion.results) take(data);
    agent.write({ settled: [completion.tag] });
    waiting.get(completion.tag)?.resolve();
    waiting.delete(completion.tag);
  };
  const accept = async (result: Result, call: WorkerCall): Promise<void> => {
    const answer = await agent.onResults([result]);
    if (call !== current) return;
    const { number } = result;
    if (answer === undefined) {
      take(result.data);
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
        transfer: (call: ServerDuplexStream<unknown, unknown>) => {
          call.emit('error', { code: status.UNIMPLEMENTED, details: 'not needed' });
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
    deliver: (data, { priority = 5 } = {}) => {
      const delivery: Delivery = { tag: agent.nextTag, priority, data: messageOf(data), body: undefined };
      tag += 1;
      return new Promise((resolve, reject) => {
        waiting.set(delivery.tag, { resolve, reject });
        agent.write({ deliveries: [delivery] });
      });
    },
    get nextTag() {
      return tag + 1;
    },
    write: (frame) => {
      current?.write({ ...EMPTY, ...frame });
    },
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
