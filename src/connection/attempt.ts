/**
 * One attempt at one broker: asks for what may have changed (credentials, TLS material, will, proxy), opens the
 * transport and the link on it, all within the connect time-out. Also the probe of a better broker.
 */
import type { Duplex } from 'node:stream';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import type { BrokerAddress } from './broker-address.js';
import { type Failure, failure, networkFailure } from './failure.js';
import { Link } from './link.js';
import type { Credentials, Delivery, Session, Will } from './ports.js';
import { ReadMemory } from './read-memory.js';
import { Scope } from './scope.js';
import type { TlsKeeper } from './tls-material.js';
import { HandshakeError, openTransport, ProxyError } from './transport.js';
import type { ProtocolVersion } from './version-memory.js';

/** What all attempts of a connection have in common. */
export interface AttemptSettings {
  readonly clientId: string;
  readonly credentials: () => Credentials;
  readonly tls: TlsKeeper;
  readonly will: () => Promise<Will | undefined>;
  readonly proxy: (brokerUrl: string) => string | undefined;
  readonly subscriptions: readonly string[];
  readonly keepalive: Millis;
  readonly sessionExpiry: Millis;
  readonly connectTimeout: Millis;
  readonly maxMessageSize: number;
  readonly receiveMaximum: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly onMessage: (delivery: Delivery, link: Link) => void;
}

export type AttemptOutcome =
  | { readonly kind: 'open'; readonly link: Link; readonly session: Session }
  | { readonly kind: 'failed'; readonly failure: Failure };

/** Connects to `broker`. Resolves with a failure also when `scope` ends meanwhile; nothing is left open then. */
export async function attempt(
  broker: BrokerAddress,
  protocolVersion: ProtocolVersion,
  settings: AttemptSettings,
  scope: AbortSignal,
): Promise<AttemptOutcome> {
  using deadline = new Scope(scope);
  settings.clock.after(settings.connectTimeout, () => deadline.end(), deadline.signal);
  const timedOut = (): AttemptOutcome => ({ kind: 'failed', failure: timeOut(broker, settings) });
  try {
    const prepared = await untilEnd(prepare(broker, settings), deadline.signal);
    if (prepared.kind === 'failed') return prepared;
    const memory = new ReadMemory();
    const transport = await open(broker, settings, deadline.signal, memory);
    if (transport.kind === 'failed') return deadline.signal.aborted ? timedOut() : transport;
    const { clientId, subscriptions, keepalive, sessionExpiry, maxMessageSize, receiveMaximum, clock, onMessage } =
      settings;
    const link = new Link({
      ...{ clientId, subscriptions, keepalive, sessionExpiry, maxMessageSize, receiveMaximum, clock, onMessage },
      ...prepared.prepared,
      transport: transport.stream,
      memory,
      broker,
      protocolVersion,
    });
    const cutShort = (): void => link.destroy(timeOut(broker, settings));
    deadline.signal.addEventListener('abort', cutShort, { once: true });
    if (deadline.signal.aborted) cutShort();
    const opened = await link.opened;
    deadline.signal.removeEventListener('abort', cutShort);
    return opened.kind === 'open' ? { ...opened, link } : opened;
  } catch (error) {
    if (deadline.signal.aborted) return timedOut();
    return { kind: 'failed', failure: networkFailure(error, broker) };
  }
}

/** Whether `broker` accepts a connection (TCP, TLS, websocket); nothing of MQTT is said. */
export async function probe(broker: BrokerAddress, settings: AttemptSettings, scope: AbortSignal): Promise<boolean> {
  using deadline = new Scope(scope);
  settings.clock.after(settings.connectTimeout, () => deadline.end(), deadline.signal);
  const opened = await open(broker, settings, deadline.signal);
  if (opened.kind === 'failed') return false;
  opened.stream.on('error', () => undefined);
  opened.stream.destroy();
  return true;
}

interface Prepared {
  readonly username: string | undefined;
  readonly password: string | Buffer | undefined;
  readonly will: Will | undefined;
}

type Preparation =
  { readonly kind: 'prepared'; readonly prepared: Prepared } | { readonly kind: 'failed'; readonly failure: Failure };

async function prepare(broker: BrokerAddress, settings: AttemptSettings): Promise<Preparation> {
  try {
    const credentials = settings.credentials();
    const prepared: Prepared = {
      username: credentials.username ?? broker.username,
      password: credentials.password ?? broker.password,
      will: await settings.will(),
    };
    return { kind: 'prepared', prepared };
  } catch (error) {
    const text = `cannot connect to ${broker.text}: ${errorText(error)}`;
    return { kind: 'failed', failure: failure('credentials', broker, text, error) };
  }
}

type Opening =
  { readonly kind: 'opened'; readonly stream: Duplex } | { readonly kind: 'failed'; readonly failure: Failure };

async function open(
  broker: BrokerAddress,
  settings: AttemptSettings,
  scope: AbortSignal,
  memory?: ReadMemory,
): Promise<Opening> {
  const tls = broker.isTls ? settings.tls.current() : undefined;
  if (tls?.kind === 'unusable') {
    const text = `cannot connect to ${broker.text}: ${tls.problem}. Check cert-file, key-file and ca-root.`;
    return { kind: 'failed', failure: failure('credentials', broker, text) };
  }
  if (tls?.problem !== undefined)
    settings.log.warn(
      'connection.tls_kept',
      'the new certificate or key cannot be used; the last good one stays in use',
      { problem: tls.problem },
    );
  try {
    const proxy = settings.proxy(broker.text);
    const stream = await openTransport(
      { broker, proxy, secureContext: tls?.context, ...(memory !== undefined && { memory }) },
      scope,
    );
    return { kind: 'opened', stream };
  } catch (error) {
    return { kind: 'failed', failure: openFailure(error, broker) };
  }
}

/** The failure that an error of `openTransport` means. */
export function openFailure(error: unknown, broker: BrokerAddress): Failure {
  if (error instanceof ProxyError)
    return failure('proxy', broker, `cannot reach ${broker.text}: ${error.message}`, error);
  if (error instanceof HandshakeError) {
    const todo = 'Check the path in `broker`, and that it is the broker’s websocket port.';
    const text = `${broker.text} refused the websocket with HTTP ${error.status}. ${todo}`;
    return failure('refused', broker, text, error);
  }
  return networkFailure(error, broker);
}

function timeOut(broker: BrokerAddress, settings: AttemptSettings): Failure {
  const seconds = Math.round(settings.connectTimeout / 1000);
  const text = `${broker.text} did not answer within ${seconds} s. Check the address, the network and the broker’s load.`;
  return failure('timeout', broker, text);
}

/** The promise's value, or a rejection when the scope ends before; the promise itself goes on and is not heard. */
function untilEnd<T>(promise: Promise<T>, scope: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Error('the attempt has ended'));
    scope.addEventListener('abort', onAbort, { once: true });
    if (scope.aborted) onAbort();
    promise.then(resolve, reject).finally(() => scope.removeEventListener('abort', onAbort));
  });
}
