/**
 * The worker's channel to its agent, and the unary calls on it: to register, to hand replies over. It notices that the
 * agent went away. A reply is repeated with back-off and full jitter until it is taken or the scope ends.
 */
import { connectivityState, credentials, Metadata } from '@grpc/grpc-js';
import {
  Data,
  DispatcherClient,
  DispatcherService,
  type RegistrationRequest,
  type RegistrationResponse,
} from '../../protocol/generated/yggdrasil.js';
import { AgentError, errorText } from '../errors.js';
import { framed, methodAt, GrpcChannel, type CallStatus } from '../grpc/index.js';
import type { Log } from '../log/log.js';
import { SlotTable } from '../signal/slot-table.js';
import { abortReason, type Backoff, type Clock, fullJitter, type Millis, type Random, sleep } from '../time.js';
import { isHopeless, isPassing, isServiceError, unary } from './grpc.js';
import { Refusal } from './message.js';

/** An agent that has no room now is asked again. */
const SOON: Backoff = { first: 100, cap: 5_000 };
/** No answer of the agent takes this long unless it is stuck (CONTRACT 1.10: always under 1 s). */
const CALL_DEADLINE: Millis = 10_000;
const LONGEST_TIMER = 2 ** 31 - 1;
/** Bytes of the largest answer: there is nothing in it. */
const LARGEST_ANSWER = 4 * 1024 * 1024;

const SEND = methodAt(DispatcherService.send.path);

export interface AgentLinkOptions {
  /** In grpc-js' form: `unix:/path`. */
  readonly target: string;
  readonly registration: RegistrationRequest;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Ends what hangs at a stop. */
  readonly cutOff: AbortSignal;
}

interface UnderWay {
  readonly breakOff: (reason: Error) => void;
}

type Registered =
  | { readonly kind: 'registered'; readonly address: string }
  | { readonly kind: 'refused' | 'unreachable'; readonly error: AgentError };

/** Opens the channel; it connects with its first call. Close it with `close`. */
export function openAgentLink(options: AgentLinkOptions): AgentLink {
  const client = new DispatcherClient(options.target, credentials.createInsecure(), {
    // An agent that restarts is met again within a second, not within grpc's default two minutes.
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 1_000,
    'grpc.client_idle_timeout_ms': LONGEST_TIMER,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_send_message_length': -1,
  });
  return new AgentLink(client, options);
}

export class AgentLink {
  /** For replies and the stream, where each message counts: it connects with the first call. */
  readonly channel: GrpcChannel;
  /** For contents that go as bodies: small messages do not wait behind them in one connection. */
  readonly bodies: GrpcChannel;
  /** Breaks off each that is under way. */
  readonly #underWay = new SlotTable<UnderWay>();
  #lastNumber = 0;

  constructor(
    private readonly client: DispatcherClient,
    private readonly options: AgentLinkOptions,
  ) {
    const { target, random, cutOff } = options;
    const channel = {
      path: target.replace(/^unix:/, ''),
      maxReceive: LARGEST_ANSWER,
      random,
      within: CALL_DEADLINE,
      staysConnected: false,
    };
    this.channel = new GrpcChannel(channel);
    this.bodies = new GrpcChannel(channel);
    const cut = (): void => {
      for (const { breakOff } of this.#underWay.values()) breakOff(abortReason(cutOff));
    };
    cutOff.addEventListener('abort', cut, { once: true });
  }

  /** Registers; gives the address to listen at, or why there is none. Rejects when `scope` ends. */
  async register(scope: AbortSignal): Promise<Registered> {
    const { registration, target } = this.options;
    const attempt = `cannot register handler ${registration.handler} with the agent at ${target}`;
    try {
      const answer = await unary<RegistrationResponse>(scope, (done) =>
        this.client.register(registration, new Metadata(), this.#deadline(), done),
      );
      if (answer.registered) return { kind: 'registered', address: answer.address };
      const why = "it is taken by another worker, or not among the `handlers` of this worker's file";
      const text = `${attempt}: ${why}. The agent's log says which; trying again now and then`;
      return { kind: 'refused', error: new AgentError('worker.refused', text) };
    } catch (cause) {
      if (scope.aborted) throw abortReason(scope);
      const reason = isServiceError(cause) ? cause.details : errorText(cause);
      const text = `${attempt}: ${reason}; trying again`;
      if (isServiceError(cause) && !isPassing(cause)) {
        return { kind: 'refused', error: new AgentError('worker.refused', text, {}, { cause }) };
      }
      return { kind: 'unreachable', error: new AgentError('worker.unreachable', text, {}, { cause }) };
    }
  }

  /** Resolves when the channel to the agent is no longer up: the worker has to register again. */
  async lost(scope: AbortSignal): Promise<void> {
    const channel = this.client.getChannel();
    while (channel.getConnectivityState(false) === connectivityState.READY) {
      await new Promise<void>((resolve, reject) => {
        const ended = (): void => reject(abortReason(scope));
        if (scope.aborted) {
          ended();
          return;
        }
        scope.addEventListener('abort', ended, { once: true });
        channel.watchConnectivityState(connectivityState.READY, Infinity, () => {
          scope.removeEventListener('abort', ended);
          resolve();
        });
      });
    }
  }

  /**
   * Hands a reply over; resolves when the agent has it on stable storage. Repeated while the agent is away or has no
   * room. Rejects with a {@link Refusal} for what the agent will never take, with an Error for another answer, and at the
   * cut-off.
   */
  send(data: Data): Promise<void> {
    return new Promise((resolve, reject) => this.#attempt(data, 0, resolve, reject));
  }

  #attempt(data: Data, failures: number, resolve: () => void, reject: (error: Error) => void): void {
    const { cutOff } = this.options;
    if (cutOff.aborted) {
      reject(abortReason(cutOff));
      return;
    }
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const call = this.channel.call(SEND, framed(Data.encode(data).finish()), (failure) => {
      this.#underWay.delete(number);
      if (failure === undefined) resolve();
      else
        this.#refused(data, failures, failure).then(() => this.#attempt(data, failures + 1, resolve, reject), reject);
    });
    const breakOff = (reason: Error): void => {
      this.#underWay.delete(number);
      call.cancel();
      reject(reason);
    };
    this.#underWay.add(number, { breakOff });
  }

  /** Resolves when it is time to try again; rejects when that is of no use. */
  async #refused(data: Data, failures: number, failure: CallStatus): Promise<void> {
    const { clock, random, log, cutOff } = this.options;
    const what = `reply ${data.messageId} to ${data.responseTo}`;
    if (!isPassing(failure)) {
      const text = `the agent does not take ${what}: ${failure.details}`;
      throw isHopeless(failure) ? new Refusal(text, { cause: failure }) : new Error(text, { cause: failure });
    }
    const delay = fullJitter(SOON, failures, random);
    const line = `the agent did not take ${what}; it is sent again`;
    log.warn('worker.reply_delayed', line, { reason: failure.details, retry_in_ms: delay });
    await sleep(clock, delay, cutOff);
  }

  close(): void {
    this.channel.close();
    this.bodies.close();
    this.client.close();
  }

  #deadline(): { deadline: Millis } {
    return { deadline: this.options.clock.now() + CALL_DEADLINE };
  }
}
