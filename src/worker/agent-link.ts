/**
 * The worker's channel to its agent, and the unary calls on it: to register, to hand replies over. It notices that the
 * agent went away. A reply is repeated with back-off and full jitter until it is taken or the scope ends.
 */
import { type ClientOptions, connectivityState, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  type Data,
  DispatcherClient,
  type RegistrationRequest,
  type RegistrationResponse,
  type Response,
} from '../../protocol/generated/yggdrasil.js';
import { AgentError, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { abortReason, type Backoff, type Clock, fullJitter, type Millis, type Random, sleep } from '../time.js';
import { isHopeless, isPassing, isServiceError, unary } from './grpc.js';
import { Refusal } from './message.js';

/** An agent that has no room now is asked again. */
const SOON: Backoff = { first: 100, cap: 5_000 };
/** No answer of the agent takes this long unless it is stuck (CONTRACT 1.10: always under 1 s). */
const CALL_DEADLINE: Millis = 10_000;
const LONGEST_TIMER = 2 ** 31 - 1;

export interface AgentLinkOptions {
  /** In grpc-js' form: `unix:/path`. */
  readonly target: string;
  readonly registration: RegistrationRequest;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
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
  constructor(
    private readonly client: DispatcherClient,
    private readonly options: AgentLinkOptions,
  ) {}

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
   * room. Rejects with a {@link Refusal} for what the agent will never take, with an Error for another answer, and when
   * `scope` ends.
   */
  async send(data: Data, scope: AbortSignal): Promise<void> {
    const { clock, random, log } = this.options;
    for (let failures = 0; ; failures++) {
      const error = await this.#sendOnce(data, scope);
      if (error === undefined) return;
      const what = `reply ${data.messageId} to ${data.responseTo}`;
      if (!isPassing(error)) {
        const text = `the agent does not take ${what}: ${error.details}`;
        throw isHopeless(error) ? new Refusal(text, { cause: error }) : new Error(text, { cause: error });
      }
      const delay = fullJitter(SOON, failures, random);
      const line = `the agent did not take ${what}; it is sent again`;
      log.warn('worker.reply_delayed', line, { reason: error.details, retry_in_ms: delay });
      await sleep(clock, delay, scope);
    }
  }

  /** For another client on the same channel. */
  get channelOptions(): Partial<ClientOptions> {
    return { channelOverride: this.client.getChannel() };
  }

  close(): void {
    this.client.close();
  }

  async #sendOnce(data: Data, scope: AbortSignal): Promise<ServiceError | undefined> {
    try {
      await unary<Response>(scope, (done) => this.client.send(data, new Metadata(), this.#deadline(), done));
      return undefined;
    } catch (error) {
      if (scope.aborted) throw abortReason(scope);
      if (isServiceError(error)) return error;
      throw error;
    }
  }

  #deadline(): { deadline: Millis } {
    return { deadline: this.options.clock.now() + CALL_DEADLINE };
  }
}
