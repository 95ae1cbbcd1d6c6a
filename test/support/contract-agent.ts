/**
 * One face for the agents that a worker may meet, so that one suite holds for all transports: it delivers messages, says
 * what becomes of replies, dies and comes back.
 */
import { status } from '@grpc/grpc-js';
import type { Data, EventNotification } from '../../protocol/generated/yggdrasil.js';
import { Refusal_Kind } from '../../protocol/generated/stream.js';
import { metadataFrom } from '../../src/message/codec.js';
import { parseDirective, type MessageKey } from '../../src/message/ids.js';
import { SETTINGS, workerName } from '../unit/dispatcher/harness.js';
import { type FakeAgent, startFakeAgent } from './fake-agent.js';
import { type FakeStreamAgent, messageOf, Refused, startFakeStreamAgent } from './fake-stream-agent.js';
import { openScene } from './stream-scene.js';

/** Why a message came back; the words of the SDK. */
export type Kind = 'failed' | 'unavailable' | 'invalid' | 'cancelled';

/** A message that the worker gave back. */
export class GivenBack extends Error {
  constructor(
    readonly kind: Kind,
    message: string,
  ) {
    super(message);
  }
}

/** What becomes of a reply: taken, or not, for now or for ever. */
export type Verdict = 'take' | { readonly isPassing: boolean; readonly reason: string };

export interface ContractAgent extends AsyncDisposable {
  /** For YGG_SOCKET_ADDR. */
  readonly address: string;
  /** Replies that were taken, in order. */
  readonly replies: readonly Data[];
  judge: (reply: Data) => Verdict | Promise<Verdict>;
  /** Resolves when a worker has registered so many times. */
  registered(count: number): Promise<void>;
  /** Resolves with the receipt. Rejects with {@link GivenBack}, or another error when the agent dies. */
  deliver(data: Partial<Data>): Promise<void>;
  /** Resolves when all that was delivered is in the worker's hands. */
  arrived(): Promise<void>;
  notify(event: EventNotification): Promise<void>;
  stop(): void;
  start(): Promise<void>;
}

const KINDS: Partial<Record<status, Kind>> = {
  [status.INTERNAL]: 'failed',
  [status.UNAVAILABLE]: 'unavailable',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.CANCELLED]: 'cancelled',
};

/** The agent of unary calls. */
export async function unaryContractAgent(dir: string): Promise<ContractAgent> {
  const agent: FakeAgent = await startFakeAgent(dir);
  const contract: ContractAgent = {
    address: agent.address,
    replies: agent.replies,
    judge: () => 'take',
    registered: async (count) => {
      await agent.registration(count);
    },
    deliver: async (data) => {
      try {
        await agent.send(data);
      } catch (error) {
        const { code, details } = error as { code: status; details: string };
        const kind = KINDS[code];
        throw kind === undefined || isCut ? error : new GivenBack(kind, details);
      }
    },
    arrived: async () => {
      await agent.health();
    },
    notify: (event) => agent.notify(event),
    stop: () => {
      isCut = true;
      agent.stop();
    },
    start: async () => {
      isCut = false;
      await agent.start();
    },
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
  let isCut = false;
  agent.onSend = async (data) => {
    const verdict = await contract.judge(data);
    if (verdict === 'take') return undefined;
    return { code: verdict.isPassing ? status.RESOURCE_EXHAUSTED : status.INVALID_ARGUMENT, details: verdict.reason };
  };
  return contract;
}

/** The agent of the stream. */
export async function streamContractAgent(dir: string): Promise<ContractAgent> {
  const agent: FakeStreamAgent = await startFakeStreamAgent(dir);
  const kinds: Readonly<Record<number, Kind>> = {
    [Refusal_Kind.FAILED]: 'failed',
    [Refusal_Kind.UNAVAILABLE]: 'unavailable',
    [Refusal_Kind.INVALID]: 'invalid',
    [Refusal_Kind.CANCELLED]: 'cancelled',
  };
  let pings = 0;
  const contract: ContractAgent = {
    address: agent.address,
    replies: agent.results,
    judge: () => 'take',
    registered: async (count) => {
      await agent.hello(count);
    },
    deliver: async (data) => {
      try {
        await agent.deliver(data);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        throw new GivenBack(kinds[error.refusal.kind] ?? 'failed', error.message);
      }
    },
    // A pong stands behind whatever came before its ping.
    arrived: async () => {
      const number = ++pings;
      const pong = agent.came.next(new AbortController().signal, (frame) =>
        frame.pongs.some((answer) => answer.number === number),
      );
      agent.write({ pings: [number] });
      await pong;
    },
    notify: async (event) => {
      agent.write({ events: [event] });
      await contract.arrived();
    },
    stop: () => agent.stop(),
    start: () => agent.start(),
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
  agent.onResults = async (results) => {
    for (const { data } of results) {
      const verdict = data === undefined ? 'take' : await contract.judge(data);
      if (verdict !== 'take') return verdict;
    }
    return undefined;
  };
  return contract;
}

/** The agent's own dispatcher over its own store. It says of a message only that it was delivered. */
export async function realContractAgent(): Promise<ContractAgent> {
  const scene = await openScene();
  const { harness, store } = scene;
  const { address } = await harness.dispatcher.prepare({ name: workerName('echo-worker'), settings: SETTINGS });
  const replies: Data[] = [];
  const reads = new Set<Promise<void>>();
  harness.dispatcher.dataReturn.connect((key) => {
    const record = store.outbound(key);
    if (record === undefined) return;
    const { messageId, responseTo, directive, metadata } = record;
    // In its place at once; the bytes follow.
    const reply: Data = { messageId, responseTo, directive, metadata: { ...metadata }, content: Buffer.alloc(0) };
    replies.push(reply);
    const read = store.readContent(record.content).then((content) => {
      reply.content = content;
      reads.delete(read);
    });
    reads.add(read);
  }, harness.scope.signal);
  const told = (): never => {
    throw new Error('a real agent does not do as it is told');
  };
  return {
    address,
    replies,
    judge: () => 'take',
    registered: told,
    deliver: async (data) => {
      const { messageId, responseTo, directive, metadata, content } = messageOf(data);
      const accepted = store.accept({
        messageId,
        responseTo,
        directive: parseDirective(directive)!,
        metadata: metadataFrom(Object.entries(metadata)),
        priority: 5,
        arrivedAt: Date.now(),
        expiresAt: undefined,
        replyTopic: undefined,
        content,
      });
      if (accepted.kind !== 'accepted') throw new Error(`the store says ${accepted.kind}`);
      const key: MessageKey = accepted.key;
      const { dataDispatch } = harness.dispatcher;
      const delivered = dataDispatch.next(
        new AbortController().signal,
        (dispatch) => dispatch.key === key && dispatch.outcome.kind === 'delivered',
      );
      await accepted.durable;
      store.markReady(key);
      harness.dispatcher.enqueue(key);
      await delivered;
      await Promise.all(reads);
    },
    arrived: told,
    notify: told,
    stop: told,
    start: told,
    [Symbol.asyncDispose]: () => scene[Symbol.asyncDispose](),
  };
}
