/**
 * A worker's life: registers by the transport that its agent has, runs the handler for what comes, registers again when
 * the agent was away, and at the end lets the handlers finish. Composition and life cycle only; each piece is in a file
 * of its own.
 */
import { setMaxListeners } from 'node:events';
import type { EventNotification } from '../../protocol/generated/yggdrasil.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { type Clock, fullJitter, type Millis, type Random, sleep, systemClock } from '../time.js';
import { openAgentLink } from './agent-link.js';
import { eventFrom } from './event.js';
import { Exchange } from './exchange.js';
import { agentTarget, helloFrom, registrationFrom, type ServeOptions, transportFrom } from './options.js';
import type { Handler } from './run.js';
import { Runs } from './runs.js';
import { stderrLog } from './stderr-log.js';
import { StreamTransport } from './stream/stream-transport.js';
import {
  firstTransport,
  nextAttempt,
  type SessionEnd,
  type Transport,
  type TransportChoice,
  type TransportName,
} from './transport.js';
import { UnaryTransport } from './unary.js';

const STOP_TIMEOUT: Millis = 8_000;

/**
 * Runs a worker until its signal (or SIGTERM, SIGINT) stops it; resolves once all is released. Rejects with
 * config.invalid for a wrong option and worker.unreachable when no agent's address is known. An agent that is away,
 * or refuses, is asked again for ever.
 */
export async function serve(options: ServeOptions, handler: Handler): Promise<void> {
  const log = options.log ?? stderrLog();
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const registration = registrationFrom(options);
  const choice = transportFrom(options);
  const target = agentTarget(options.address ?? process.env['YGG_SOCKET_ADDR']);
  const ended = new AbortController();
  const stop = options.signal ?? stopOnSignals(ended.signal);
  const cutOff = new AbortController();
  // One listener for each reply that waits to be sent again, and for each outcome that is kept.
  setMaxListeners(0, cutOff.signal, ended.signal);

  const link = openAgentLink({ target, registration, clock, random, log, cutOff: cutOff.signal });
  const exchange = new Exchange();
  const runs = new Runs({
    handler,
    concurrency: options.concurrency ?? 1,
    isStreaming: options.streamContent === true,
    log,
    clock,
    scope: ended.signal,
    send: (data) => exchange.send(data, cutOff.signal),
  });
  const onEvent = (event: EventNotification): void => {
    try {
      options.onEvent?.(eventFrom(event));
    } catch (error) {
      log.error('worker.event_failed', `onEvent failed: ${errorText(error)}`);
    }
  };
  const transports = {
    unary: new UnaryTransport({ link, runs, log, onEvent }),
    stream: new StreamTransport({
      channel: link.channel,
      bodies: link.bodies,
      target,
      hello: helloFrom(options),
      runs,
      clock,
      random,
      log,
      onEvent,
    }),
  };
  // Timers of the clock and a channel that backs off keep no process alive, a worker without its agent must stay.
  const keptAlive = setInterval(() => undefined, 2 ** 30);
  try {
    await stayRegistered(transports, exchange, { choice, handler: registration.handler, clock, random, log, stop });
  } finally {
    const reason = new Error('the worker is stopping');
    clock.after(
      options.stopTimeout ?? STOP_TIMEOUT,
      () => cutOff.abort(new Error('the worker had to stop')),
      ended.signal,
    );
    exchange.close();
    await Promise.race([runs.stop(reason), aborted(cutOff.signal)]);
    await transports.stream.close(cutOff.signal);
    await transports.unary.close(cutOff.signal);
    link.close();
    ended.abort();
    clearInterval(keptAlive);
    log.info('worker.stopped', 'stopped');
  }
}

interface Surroundings {
  readonly choice: TransportChoice;
  readonly handler: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly stop: AbortSignal;
}

/** Ends without an error when `stop` does. */
async function stayRegistered(
  transports: Readonly<Record<TransportName, Transport>>,
  exchange: Exchange,
  { choice, handler, clock, random, log, stop }: Surroundings,
): Promise<void> {
  let state: { transport: TransportName; failures: number } = { transport: firstTransport(choice), failures: 0 };
  while (!stop.aborted) {
    const transport = transports[state.transport];
    const end = await transport.session(() => {
      exchange.up(transport);
      // Its server and socket serve nobody any more.
      if (transport.name === 'stream') void transports.unary.close(AbortSignal.abort());
      log.info('worker.registered', 'registered with the agent', { handler, transport: transport.name });
    }, stop);
    if (end.kind === 'stopped') return;
    exchange.down();
    const next = nextAttempt(choice, end, state);
    const delay = next.backoff === undefined ? undefined : fullJitter(next.backoff, state.failures, random);
    tell(log, end, { handler, failures: state.failures, delay });
    if (delay !== undefined) await sleep(clock, delay, stop).catch(() => undefined); // The loop's condition sees the end.
    state = next;
  }
}

function tell(
  log: Log,
  end: Exclude<SessionEnd, { kind: 'stopped' }>,
  { handler, failures, delay }: { handler: string; failures: number; delay: Millis | undefined },
): void {
  const fields = delay === undefined ? { handler } : { handler, retry_in_ms: delay };
  switch (end.kind) {
    case 'unsupported':
      if (delay === undefined) log.debug('worker.no_stream', 'this agent has no stream: unary calls are used', fields);
      else log.error('worker.no_stream', NO_STREAM, fields);
      return;
    case 'refused':
      log.error(end.error.code, end.error.message, fields);
      return;
    case 'unreachable':
      if (failures % 10 === 0) log.warn(end.error.code, end.error.message, fields);
      return;
    case 'deaf':
      log.error('worker.listen_failed', `${errorText(end.error)}; trying again`, {
        ...fields,
        cause: end.error.cause === undefined ? undefined : errorText(end.error.cause),
      });
      return;
    case 'lost':
      log.warn('worker.agent_lost', 'the connection to the agent is lost; registering again', {
        ...fields,
        reason: end.reason,
      });
      return;
    default:
      end satisfies never;
  }
}

const NO_STREAM =
  "this agent has no stream, and the worker's option `transport` allows nothing else: upgrade the agent, or leave the option out";

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
