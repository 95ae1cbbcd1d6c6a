/**
 * A worker's life: register, listen, handle calls, register again when the agent was away, and at the end let the
 * handlers finish. Composition and life cycle only; each piece is in a file of its own.
 */
import { Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import { HealthService } from '../../protocol/generated/health.js';
import {
  type Data,
  Event as WireEvent,
  type EventNotification,
  type EventReceipt,
  type RegistrationRequest,
  type Response,
  WorkerService,
} from '../../protocol/generated/yggdrasil.js';
import { AgentError, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { NAME_RULE, parseDirective } from '../message/ids.js';
import { type Clock, type Millis, type Random, sleep, systemClock } from '../time.js';
import { parseSocketAddress } from './address.js';
import { type AgentLink, openAgentLink } from './agent-link.js';
import { Calls, type Handler } from './calls.js';
import { Health } from './health.js';
import { Listener } from './listener.js';
import { stderrLog } from './stderr-log.js';

/** What the agent tells about its connection to the broker. */
export interface WorkerEvent {
  readonly name: 'disconnect-received' | 'disconnected' | 'connection-restored' | 'unknown';
  readonly detail: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ServeOptions {
  /** The directive this worker handles. */
  readonly handler: string;
  /** Free text about this worker that the fleet can read. */
  readonly features?: Readonly<Record<string, string>>;
  /** The content of a message is a URL; give the handler the body behind it. */
  readonly detachedContent?: boolean;
  /** How many handlers may run at once; default 1. Announced to the agent as the feature `concurrency`. */
  readonly concurrency?: number;
  /** The largest message to take, in bytes, whole; default gRPC's 4 MiB. Announced as `max-message-size`. */
  readonly maxMessageSize?: number;
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

const STOP_TIMEOUT: Millis = 8_000;
const LISTEN_RETRY: Millis = 1_000;
/** Calls that may wait at once; more wait on the agent's side. */
const MOST_CALLS = 1_024;

/**
 * Runs a worker until its signal (or SIGTERM, SIGINT) stops it; resolves once all is released. Rejects with
 * config.invalid for a wrong option and worker.unreachable when no agent's address is known. An agent that is away,
 * or refuses, is asked again for ever.
 */
export async function serve(options: ServeOptions, handler: Handler): Promise<void> {
  const log = options.log ?? stderrLog();
  const clock = options.clock ?? systemClock;
  const registration = registrationFrom(options);
  const target = agentTarget(options.address ?? process.env['YGG_SOCKET_ADDR']);
  const ended = new AbortController();
  const stop = options.signal ?? stopOnSignals(ended.signal);
  const cutOff = new AbortController();

  const link = openAgentLink({ target, registration, clock, random: options.random ?? Math.random, log });
  const calls = new Calls({
    handler,
    concurrency: options.concurrency ?? 1,
    log,
    send: (data) => link.send(data, cutOff.signal),
  });
  const health = new Health();
  const listener = new Listener(createServer(calls, health, options, log));
  // Timers of the clock and a channel that backs off keep no process alive, a worker without its agent must stay.
  const keptAlive = setInterval(() => undefined, 2 ** 30);
  try {
    await stayRegistered(link, listener, registration.handler, { clock, log, stop });
  } finally {
    clock.after(
      options.stopTimeout ?? STOP_TIMEOUT,
      () => cutOff.abort(new Error('the worker had to stop')),
      ended.signal,
    );
    await Promise.race([calls.stop(), aborted(cutOff.signal)]);
    health.stop();
    await listener.close(cutOff.signal);
    link.close();
    ended.abort();
    clearInterval(keptAlive);
    log.info('worker.stopped', 'stopped');
  }
}

/** Ends without an error when `stop` does. */
async function stayRegistered(
  link: AgentLink,
  listener: Listener,
  handler: string,
  { clock, log, stop }: { clock: Clock; log: Log; stop: AbortSignal },
): Promise<void> {
  while (!stop.aborted) {
    try {
      const address = await link.register(stop);
      await listener.listen(address);
      log.info('worker.registered', 'registered with the agent', { handler, address });
      await link.lost(stop);
      log.warn('worker.agent_lost', 'the connection to the agent is lost; registering again', { handler });
    } catch (error) {
      if (isStopped(stop)) return;
      log.error('worker.listen_failed', `${errorText(error)}; trying again`, { handler, cause: causeText(error) });
      await sleep(clock, LISTEN_RETRY, stop).catch(() => undefined); // The loop's condition sees the end.
    }
  }
}

function createServer(calls: Calls, health: Health, options: ServeOptions, log: Log): Server {
  const server = new Server({
    // Only the agent can connect, and it holds to what was announced or to what this worker's file says.
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': MOST_CALLS,
  });
  server.addService(HealthService, health.service());
  server.addService(WorkerService, {
    send: (call: ServerUnaryCall<Data, Response>, done: sendUnaryData<Response>) => {
      void calls.take(call.request).then((outcome) => {
        if (outcome.kind === 'done') done(null, { response: Buffer.alloc(0) });
        else done({ code: outcome.code, details: outcome.details });
      });
    },
    notifyEvent: (call: ServerUnaryCall<EventNotification, EventReceipt>, done: sendUnaryData<EventReceipt>) => {
      done(null, {});
      try {
        options.onEvent?.(eventFrom(call.request));
      } catch (error) {
        log.error('worker.event_failed', `onEvent failed: ${errorText(error)}`);
      }
    },
  });
  return server;
}

function registrationFrom(options: ServeOptions): RegistrationRequest {
  const { handler, concurrency, maxMessageSize, detachedContent = false } = options;
  if (parseDirective(handler) === undefined) {
    throw new AgentError('config.invalid', `the handler "${handler}" is not a name: ${NAME_RULE}`);
  }
  const features: Record<string, string> = { ...options.features };
  if (concurrency !== undefined) features['concurrency'] = positive('concurrency', concurrency);
  if (maxMessageSize !== undefined) features['max-message-size'] = positive('maxMessageSize', maxMessageSize);
  return { handler, pid: BigInt(process.pid), detachedContent, features };
}

function positive(name: string, value: number): string {
  if (Number.isSafeInteger(value) && value > 0) return String(value);
  throw new AgentError('config.invalid', `${name} must be a positive integer, not ${value}`);
}

function agentTarget(address: string | undefined): string {
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

function eventFrom({ name, detail, metadata }: EventNotification): WorkerEvent {
  switch (name) {
    case WireEvent.RECEIVED_DISCONNECT:
      return { name: 'disconnect-received', detail, metadata };
    case WireEvent.UNEXPECTED_DISCONNECT:
      return { name: 'disconnected', detail, metadata };
    case WireEvent.CONNECTION_RESTORED:
      return { name: 'connection-restored', detail, metadata };
    default:
      return { name: 'unknown', detail, metadata };
  }
}

/** A scope that SIGTERM or SIGINT ends; the handlers are gone once `ended` is, and a second signal ends at once. */
function stopOnSignals(ended: AbortSignal): AbortSignal {
  const stop = new AbortController();
  const remove = (): void => {
    process.off('SIGTERM', end);
    process.off('SIGINT', end);
  };
  const end = (): void => {
    remove();
    stop.abort(new Error('the worker was told to stop'));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  ended.addEventListener('abort', remove, { once: true });
  return stop.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** A call, since the compiler would hold `stop.aborted` to what it was before the await. */
function isStopped(stop: AbortSignal): boolean {
  return stop.aborted;
}

function causeText(error: unknown): string | undefined {
  return error instanceof Error && error.cause !== undefined ? errorText(error.cause) : undefined;
}
