/** A worker's stream without a wire: frames of an agent go in, and what the worker answers is held to its own rules. */
import { EventEmitter } from 'node:events';
import type { StatusObject } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { type AgentFrame, BodyFrame, type WorkerFrame } from '../../protocol/generated/stream.js';
import type { StreamHandlers } from '../../src/grpc/index.js';
import { silentLog } from '../../src/log/log.js';
import { Runs } from '../../src/worker/runs.js';
import { StreamLink } from '../../src/worker/stream/link.js';
import { FakeClock } from '../support/clock.js';
import { claim } from './target.js';

/** A call that keeps what is written, and ends when it is cancelled. */
class FakeCall<Out> extends EventEmitter {
  readonly written: Out[] = [];
  isCancelled = false;

  write(frame: Out, sent?: () => void): boolean {
    this.written.push(frame);
    if (sent !== undefined) setImmediate(sent);
    return true;
  }

  cancel(): void {
    if (this.isCancelled) return;
    this.isCancelled = true;
    this.emit('status', { code: status.CANCELLED, details: 'cancelled', metadata: undefined });
  }

  end(): void {
    this.emit('status', { code: status.OK, details: '', metadata: undefined });
  }
}

export interface FuzzedWorker {
  /** Ended because of a rule that the agent broke. */
  readonly isBroken: boolean;
}

/** Feeds a worker with these frames, in this order, and fails where the worker breaks a rule of its own. */
export async function feedWorker(frames: readonly (AgentFrame | BodyFrame)[]): Promise<FuzzedWorker> {
  const connect = new FakeCall<WorkerFrame>();
  const transfer = new FakeCall<unknown>();
  let transfers: StreamHandlers | undefined;
  connect.on('status', (ended: StatusObject) => link.over(ended));
  const scope = new AbortController();
  const clock = new FakeClock();
  let ends = 0;
  const isOver = (): boolean => ends === 1;
  const runs = new Runs({
    handler: ({ content }) => ({ content }),
    concurrency: 1,
    isStreaming: false,
    log: silentLog,
    clock,
    scope: scope.signal,
    send: () => Promise.resolve(),
  });
  const link = new StreamLink(connect, {
    hello: { registrations: [], window: { messages: 8, bytes: 1_000, bodies: 2 }, maxBody: 1_000n },
    openTransfer: (handlers) => {
      transfers = handlers;
      transfer.on('status', (ended: StatusObject) => handlers.onEnd(ended));
      return transfer;
    },
    runs,
    clock,
    random: () => 0,
    log: silentLog,
    onEvent: () => undefined,
    onWelcome: () => undefined,
    onEnd: () => (ends += 1),
  });
  const open = new Set<number>();
  let read = 0;
  const answered = (tag: number): void => claim(open.delete(tag));
  for (const frame of frames) {
    if ('deliveries' in frame) {
      for (const { tag } of frame.deliveries) open.add(tag);
      link.receive(frame);
    } else transfers?.onMessage(Buffer.from(BodyFrame.encode(frame).finish()));
    await new Promise(setImmediate);
    for (; read < connect.written.length; read++) {
      const { completions, refusals } = connect.written[read]!;
      for (const { tag } of refusals) answered(tag);
      // A completion that the agent refuses for a while comes again.
      for (const { tag } of completions) claim(open.has(tag));
    }
  }
  const isBroken = connect.isCancelled;
  claim(ends === (isBroken ? 1 : 0));
  link.cancel();
  claim(isOver());
  scope.abort();
  return { isBroken };
}
