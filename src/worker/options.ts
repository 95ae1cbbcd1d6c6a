/** What `serve` is given, and what it makes of it: checked once, before anything begins. */
import { AgentError } from '../errors.js';
import type { Log } from '../log/log.js';
import { NAME_RULE, parseDirective } from '../message/ids.js';
import type { Clock, Millis, Random } from '../time.js';
import type { Hello } from '../../protocol/generated/stream.js';
import type { RegistrationRequest } from '../../protocol/generated/yggdrasil.js';
import { parseSocketAddress } from './address.js';
import type { WorkerEvent } from './event.js';
import type { TransportChoice } from './transport.js';

export interface ServeOptions {
  /** The directive this worker handles. */
  readonly handler: string;
  /** Free text about this worker that the fleet can read. */
  readonly features?: Readonly<Record<string, string>>;
  /** The content of a message is a URL; give the handler the body behind it. */
  readonly detachedContent?: boolean;
  /** How many handlers may run at once; default 1. Announced to the agent as the feature `concurrency`. */
  readonly concurrency?: number;
  /**
   * The largest message to take, in bytes, whole; default gRPC's 4 MiB, with `streamContent` no limit but the agent's.
   * Announced as `max-message-size`.
   */
  readonly maxMessageSize?: number;
  /**
   * Contents over 64 KiB come as a stream, `message.body()`, instead of in memory, `message.content`. Smaller ones, and
   * all of an agent without the stream, come as `content`; `body()` reads those too.
   */
  readonly streamContent?: boolean;
  /**
   * `auto` (the default): one stream for all messages where the agent has that, else a server of the worker's own and a
   * unary call for each message. `stream`, `unary`: that one only.
   */
  readonly transport?: TransportChoice;
  /** The agent's socket; default YGG_SOCKET_ADDR, which the agent sets. */
  readonly address?: string;
  /** Default: lines on standard error, from YGG_LOG_LEVEL on. */
  readonly log?: Log;
  /** Stops the worker. Without it SIGTERM and SIGINT do. */
  readonly signal?: AbortSignal;
  /** How long handlers may take to finish at a stop; default 8 s, below the agent's `stop-timeout`. */
  readonly stopTimeout?: Millis;
  /** Called with what the agent tells about its connection to the broker. */
  readonly onEvent?: (event: WorkerEvent) => void;
  /** For tests. */
  readonly clock?: Clock;
  /** For tests. */
  readonly random?: Random;
}

/** Deliveries taken that are not answered; beyond this the agent waits. Enough that it never runs dry at full load. */
const WINDOW_MESSAGES = 256;
const WINDOW_BYTES = 1024 * 1024;
const WINDOW_BODIES = 4;

/** What the worker says of itself to the agent. Throws config.invalid for a wrong option. */
export function registrationFrom(options: ServeOptions): RegistrationRequest {
  const { handler, concurrency, maxMessageSize, detachedContent = false } = options;
  if (parseDirective(handler) === undefined) {
    throw new AgentError('config.invalid', `the handler "${handler}" is not a name: ${NAME_RULE}`);
  }
  const features: Record<string, string> = { ...options.features };
  if (concurrency !== undefined) features['concurrency'] = positive('concurrency', concurrency);
  if (maxMessageSize !== undefined) features['max-message-size'] = positive('maxMessageSize', maxMessageSize);
  return { handler, pid: BigInt(process.pid), detachedContent, features };
}

/** The first frame of a stream. */
export function helloFrom(options: ServeOptions): Hello {
  const concurrency = options.concurrency ?? 1;
  const most = options.maxMessageSize ?? (options.streamContent === true ? Number.MAX_SAFE_INTEGER : 0);
  return {
    registrations: [registrationFrom(options)],
    window: {
      messages: Math.min(Math.max(concurrency, WINDOW_MESSAGES), 2 ** 31),
      bytes: WINDOW_BYTES,
      bodies: Math.min(Math.max(concurrency, WINDOW_BODIES), 2 ** 31),
    },
    maxBody: BigInt(most),
  };
}

/** Where the agent is, in grpc-js' form. Throws worker.unreachable where nobody told. */
export function agentTarget(address: string | undefined): string {
  if (address === undefined || address === '') {
    const what = 'no agent to register with: YGG_SOCKET_ADDR is not set';
    throw new AgentError(
      'worker.unreachable',
      `${what}. Put the worker into the agent's worker-dir: the agent starts it`,
    );
  }
  const socket = parseSocketAddress(address);
  if (socket.kind !== 'unknown') return socket.target;
  throw new AgentError('worker.unreachable', `the agent's address "${address}" is not a Unix socket (unix:/path)`);
}

/** The transport that was asked for. Throws config.invalid for another word. */
export function transportFrom({ transport = 'auto' }: ServeOptions): TransportChoice {
  if (['auto', 'stream', 'unary'].includes(transport)) return transport;
  throw new AgentError('config.invalid', `transport must be auto, stream or unary, not "${transport}"`);
}

function positive(name: string, value: number): string {
  if (Number.isSafeInteger(value) && value > 0) return String(value);
  throw new AgentError('config.invalid', `${name} must be a positive integer, not ${value}`);
}
