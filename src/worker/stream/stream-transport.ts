/** The transport of one call: Connect carries all messages, so that the worker needs no server and no second socket. */
import { status } from '@grpc/grpc-js';
import { type AgentFrame, DispatcherService, type Hello, type Welcome } from '../../../protocol/generated/stream.js';
import type { Data, EventNotification } from '../../../protocol/generated/yggdrasil.js';
import { MessageReader } from '../../../protocol/message-reader.js';
import { AgentError } from '../../errors.js';
import { type GrpcChannel, methodAt, type StreamHandlers } from '../../grpc/index.js';
import type { Log } from '../../log/log.js';
import type { Clock, Millis, Random } from '../../time.js';
import { AgentLost } from '../delivery.js';
import type { Runs } from '../runs.js';
import type { SessionEnd, Transport } from '../transport.js';
import { bytesOf, frameFrom } from './frame-bytes.js';
import { type ConnectCall, StreamLink } from './link.js';
import type { TransferCall } from './transfer.js';

export interface StreamOptions {
  /** Where Connect goes. */
  readonly channel: GrpcChannel;
  /** Where Transfer goes. */
  readonly bodies: GrpcChannel;
  readonly target: string;
  readonly hello: Hello;
  readonly runs: Runs;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly onEvent: (event: EventNotification) => void;
}

const CONNECT = methodAt(DispatcherService.connect.path);
const TRANSFER = methodAt(DispatcherService.transfer.path);

/** No agent takes this long to welcome a worker, unless it is stuck. */
const WELCOME: Millis = 10_000;
/** How long the agent may take to end a call that this side has ended. */
const FAREWELL: Millis = 1_000;

export class StreamTransport implements Transport {
  readonly name = 'stream';
  #link: StreamLink | undefined;
  #ended: Promise<void> = Promise.resolve();

  constructor(private readonly options: StreamOptions) {}

  session(onUp: () => void, stop: AbortSignal): Promise<SessionEnd> {
    const { hello, runs, clock, random, log, onEvent } = this.options;
    const openTransfer = (handlers: StreamHandlers): TransferCall => this.options.bodies.stream(TRANSFER, handlers);
    return new Promise((resolve) => {
      const call = this.options.channel.stream(CONNECT, {
        onMessage: (bytes) => receive(bytes),
        onEnd: (ended) => link.over(ended),
      });
      const ended = new AbortController();
      this.#ended = new Promise((done) => ended.signal.addEventListener('abort', () => done(), { once: true }));
      let refusal: string | undefined;
      let isUp = false;
      const onStop = (): void => {
        resolve({ kind: 'stopped' });
        // Without a welcome nothing is under way.
        if (!isUp) call.cancel();
      };
      const onWelcome = ({ registrations: [registered] }: Welcome): void => {
        if (registered?.registered !== true) {
          refusal = registered?.reason ?? 'no answer to the registration';
          return;
        }
        isUp = true;
        this.#link = link;
        onUp();
      };
      const onEnd = ({ code, details }: { code: status; details: string }): void => {
        stop.removeEventListener('abort', onStop);
        ended.abort();
        if (this.#link === link) this.#link = undefined;
        resolve(this.#endOf({ code, details, refusal, isUp, wasUseful: link.wasUseful }));
      };
      const connect: ConnectCall = {
        write: (frame) => call.write(bytesOf(frame)),
        end: () => call.end(),
        cancel: () => call.cancel(),
      };
      const link = new StreamLink(connect, {
        hello,
        openTransfer,
        runs,
        clock,
        random,
        log,
        onEvent,
        onWelcome,
        onEnd,
      });
      const reader = new MessageReader();
      const receive = (bytes: Buffer): void => {
        let frame: AgentFrame;
        try {
          frame = frameFrom(bytes, reader);
        } catch (error) {
          link.receivedNoise(error);
          return;
        }
        link.receive(frame);
      };
      stop.addEventListener('abort', onStop, { once: true });
      clock.after(WELCOME, () => !isUp && call.cancel(), ended.signal);
      connect.write({ hello, completions: [], refusals: [], results: [], pongs: [] });
    });
  }

  send(data: Data): Promise<void> {
    return this.#link?.send(data) ?? Promise.reject(new AgentLost('the agent is gone'));
  }

  async close(hard: AbortSignal): Promise<void> {
    const link = this.#link;
    if (link === undefined) return;
    const cut = (): void => link.cancel();
    hard.addEventListener('abort', cut, { once: true });
    if (hard.aborted) cut();
    link.stopping();
    await link.drained();
    link.end();
    const farewell = new AbortController();
    this.options.clock.after(FAREWELL, cut, farewell.signal);
    await this.#ended;
    farewell.abort();
    hard.removeEventListener('abort', cut);
  }

  #endOf(end: {
    code: status;
    details: string;
    refusal: string | undefined;
    isUp: boolean;
    wasUseful: boolean;
  }): SessionEnd {
    const { code, details, refusal, isUp, wasUseful } = end;
    const handler = this.options.hello.registrations[0]?.handler ?? '';
    const attempt = `cannot register handler ${handler} with the agent at ${this.options.target}`;
    if (refusal !== undefined) {
      return {
        kind: 'refused',
        error: new AgentError('worker.refused', `${attempt}: ${refusal}; trying again now and then`),
      };
    }
    if (isUp) return { kind: 'lost', reason: details, wasUseful };
    if (code === status.UNIMPLEMENTED) return { kind: 'unsupported' };
    return { kind: 'unreachable', error: new AgentError('worker.unreachable', `${attempt}: ${details}; trying again`) };
  }
}
