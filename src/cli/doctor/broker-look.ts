/**
 * One broker of the list, looked at from the ground up: its name, its addresses, its TLS, and what it says over MQTT.
 * Each step has a limit of its own, and a step that cannot work without the one before it is not tried.
 */
import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { connectionSettings } from '../../agent-settings.js';
import type { Credentials, Settings } from '../../config/index.js';
import {
  examineBroker,
  lookAtTls,
  openSocket,
  parseBrokerAddress,
  type BrokerAddress,
  type MqttLook,
  type TlsLook,
} from '../../connection/index.js';
import { errnoOf, errorText } from '../../errors.js';
import type { Millis } from '../../time.js';

export interface BrokerLook {
  readonly address: BrokerAddress;
  /** Its address without user and password. */
  readonly proxy: string | undefined;
  readonly names: NamesLook;
  readonly doors: readonly DoorLook[];
  readonly tls: TlsLook | undefined;
  readonly mqtt: MqttLook | undefined;
}

export type NamesLook =
  /** The address is a number, or the proxy resolves the name. */
  | { readonly kind: 'none' }
  | { readonly kind: 'found'; readonly addresses: readonly string[]; readonly took: Millis }
  | { readonly kind: 'failed'; readonly code: string; readonly took: Millis }
  | { readonly kind: 'late'; readonly took: Millis };

/** One address of the broker, or the proxy: whether a connection could be opened. */
export interface DoorLook {
  readonly address: string;
  readonly took: Millis;
  /** Why not. */
  readonly problem: string | undefined;
}

export interface BrokerLookOptions {
  readonly settings: Settings;
  readonly credentials: Credentials;
  /** Name and password of an embedded broker, which stand in no setting. */
  readonly login: { readonly username: string; readonly password: string } | undefined;
  readonly clientId: string | undefined;
  /** Whether it is asked over MQTT: not without the password, say. */
  readonly isExamined: boolean;
  /** For each step. */
  readonly timeout: Millis;
  readonly backlog: number;
}

const MOST_ADDRESSES = 6;
/** The examination has many steps of its own. */
const EXAMINATION_STEPS = 3;

export async function lookAtBroker(url: string, options: BrokerLookOptions, scope: AbortSignal): Promise<BrokerLook> {
  const { settings, credentials, timeout } = options;
  const address = parseBrokerAddress(url);
  const connection = connectionSettings(settings, () => credentials);
  const proxyUrl = connection.proxy?.(url);
  const proxy = proxyUrl === undefined ? undefined : withoutSecret(proxyUrl);
  const material = connection.tls?.() ?? {};
  const within = <T>(factor: number, step: (limit: AbortSignal) => Promise<T>): Promise<T> =>
    limited(timeout * factor, scope, step);

  const names = proxy === undefined ? await resolved(address.host, timeout, scope) : ({ kind: 'none' } as const);
  const found = { address, proxy, names, doors: [], tls: undefined, mqtt: undefined };
  if (names.kind === 'failed' || names.kind === 'late') return found;
  const doors =
    proxyUrl === undefined
      ? await Promise.all(
          (names.kind === 'found' ? names.addresses : [address.host])
            .slice(0, MOST_ADDRESSES)
            .map((host) => within(1, (limit) => openDoor(host, address.port, limit))),
        )
      : [await within(1, (limit) => openThroughProxy(address, proxyUrl, limit))];
  if (doors.every(({ problem }) => problem !== undefined)) return { ...found, doors };
  const tls = address.isTls
    ? await within(1, (limit) => lookAtTls({ broker: address, proxy: proxyUrl, material }, limit))
    : undefined;
  if (tls?.kind === 'failed' || (tls?.kind === 'seen' && (tls.distrust !== undefined || tls.isOtherName)))
    return { ...found, doors, tls };
  if (!options.isExamined) return { ...found, doors, tls };
  const mqtt = await within(EXAMINATION_STEPS, (limit) =>
    examineBroker({ broker: address, proxy: proxyUrl, material, ...question(options, connection, address) }, limit),
  );
  return { ...found, doors, tls, mqtt };
}

type Question = Omit<Parameters<typeof examineBroker>[0], 'broker' | 'proxy' | 'material'>;

function question(
  { settings, login, clientId, backlog }: BrokerLookOptions,
  connection: ReturnType<typeof connectionSettings>,
  address: BrokerAddress,
): Question {
  const { topicPrefix, mqttVersion } = settings;
  const id = randomBytes(8).toString('hex');
  // Without a client id there is no agent whose topics could be looked at: then our own name stands for it.
  const base = `${topicPrefix}/${clientId ?? `ygg-doctor-${id}`}`;
  const credentials = login ?? connection.credentials?.();
  return {
    policy: mqttVersion,
    clientId: `ygg-doctor-${id}`,
    username: credentials?.username ?? address.username,
    password: credentials?.password?.toString() ?? address.password,
    inTopics: [`${base}/control/in`, `${base}/data/in`],
    outTopic: `${base}/data/out`,
    statusTopic: `${base}/control/out`,
    ownTopic: `${base}/doctor/${id}`,
    backlog,
  };
}

/** Runs a step that ends with the limit or the scope, whichever is first. */
async function limited<T>(limit: Millis, scope: AbortSignal, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const own = new AbortController();
  const onAbort = (): void => own.abort(scope.reason);
  scope.addEventListener('abort', onAbort, { once: true });
  if (scope.aborted) onAbort();
  const timer = setTimeout(() => own.abort(new Error('it took too long')), limit);
  try {
    return await step(own.signal);
  } finally {
    clearTimeout(timer);
    scope.removeEventListener('abort', onAbort);
  }
}

/** As the agent's own connection resolves it: hosts(5), then DNS. The question itself cannot be taken back. */
async function resolved(host: string, timeout: Millis, scope: AbortSignal): Promise<NamesLook> {
  if (isIP(host) !== 0) return { kind: 'none' };
  const began = performance.now();
  const took = (): Millis => performance.now() - began;
  return limited(timeout, scope, (limit) =>
    Promise.race([
      lookup(host, { all: true }).then(
        (found): NamesLook => ({
          kind: 'found',
          addresses: [...new Set(found.map(({ address }) => address))],
          took: took(),
        }),
        (error: unknown): NamesLook => ({ kind: 'failed', code: errnoOf(error) ?? errorText(error), took: took() }),
      ),
      new Promise<NamesLook>((resolve) => {
        limit.addEventListener('abort', () => resolve({ kind: 'late', took: took() }), { once: true });
      }),
    ]),
  );
}

function openDoor(host: string, port: number, limit: AbortSignal): Promise<DoorLook> {
  const began = performance.now();
  const address = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (problem: string | undefined): void => {
      socket.destroy();
      resolve({ address, took: performance.now() - began, problem });
    };
    socket.once('connect', () => settle(undefined));
    socket.once('error', (error) => settle(errnoOf(error) ?? errorText(error)));
    limit.addEventListener('abort', () => settle('ETIMEDOUT'), { once: true });
    if (limit.aborted) settle('ETIMEDOUT');
  });
}

async function openThroughProxy(broker: BrokerAddress, proxy: string, limit: AbortSignal): Promise<DoorLook> {
  const began = performance.now();
  const address = `${broker.host}:${broker.port}`;
  try {
    const socket = await openSocket(broker, proxy, limit);
    socket.on('error', () => undefined);
    socket.destroy();
    return { address, took: performance.now() - began, problem: undefined };
  } catch (error) {
    const problem = limit.aborted ? 'ETIMEDOUT' : errorText(error);
    return { address, took: performance.now() - began, problem };
  }
}

function withoutSecret(proxy: string): string {
  const { protocol, host } = new URL(proxy);
  return `${protocol}//${host}`;
}
