/**
 * The worker's way to its agent: one channel, on which it registers, hands over replies and notices that the agent
 * went away. Everything that a repetition can mend is repeated with back-off and full jitter until the scope ends.
 */
import { connectivityState, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
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

/** The agent may be on its way up, or busy for a moment. */
const SOON: Backoff = { first: 100, cap: 5_000 };
/** The agent said no: only its operator, or the end of another worker, changes that. */
const LATER: Backoff = { first: 10_000, cap: 60_000 };
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
  { readonly kind: 'registered'; readonly address: string } | { readonly kind: 'failed'; readonly error: AgentError };

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

  /** Registers, however long it takes; resolves with the address to listen at. Rejects when `scope` ends. */
  async register(scope: AbortSignal): Promise<string> {
    const { clock, random, log, registration } = this.options;
    for (let failures = 0; ; failures++) {
      const outcome = await this.#registerOnce(scope);
      if (outcome.kind === 'registered') return outcome.address;
      const isRefused = outcome.error.code === 'worker.refused';
      const delay = fullJitter(isRefused ? LATER : SOON, failures, random);
      const fields = { handler: registration.handler, retry_in_ms: delay };
      if (isRefused) log.error(outcome.error.code, outcome.error.message, fields);
      else if (failures % 10 === 0) log.warn(outcome.error.code, outcome.error.message, fields);
      await sleep(clock, delay, scope);
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

  close(): void {
    this.client.close();
  }

  async #registerOnce(scope: AbortSignal): Promise<Registered> {
    const { registration, target } = this.options;
    const attempt = `cannot register handler ${registration.handler} with the agent at ${target}`;
    try {
      const answer = await unary<RegistrationResponse>(scope, (done) =>
        this.client.register(registration, new Metadata(), this.#deadline(), done),
      );
      if (answer.registered) return { kind: 'registered', address: answer.address };
      const why = "it is taken by another worker, or not among the `handlers` of this worker's file";
      const text = `${attempt}: ${why}. The agent's log says which; trying again now and then`;
      return { kind: 'failed', error: new AgentError('worker.refused', text) };
    } catch (cause) {
      if (scope.aborted) throw abortReason(scope);
      const code = isServiceError(cause) && !isPassing(cause) ? 'worker.refused' : 'worker.unreachable';
      const reason = isServiceError(cause) ? cause.details : errorText(cause);
      return { kind: 'failed', error: new AgentError(code, `${attempt}: ${reason}; trying again`, {}, { cause }) };
    }
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
