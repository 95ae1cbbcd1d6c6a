/**
 * From the settings of the whole program to the options of each part: pure mappings, so that agent.ts can be read as
 * the picture of the house and nothing but.
 */
import { rootCertificates } from 'node:tls';
import type { Credentials, Settings } from './config/index.js';
import type { ConnectionOptions } from './connection/index.js';
import type { DatastoreOptions } from './datastore/index.js';
import type { AgentConfig, DispatchLimits } from './dispatcher/index.js';
import { unescaped, urlFrom } from './message/index.js';
import type { ProcessorLimits, Proxy, ProxyFor, TlsMaterial, UrlSettings } from './processor/index.js';
import type { RouterSettings } from './router/index.js';

export function storeSettings(
  settings: Settings,
): Pick<DatastoreOptions, 'stateDir' | 'spool' | 'dead' | 'dedupe' | 'lifetimes'> {
  return {
    stateDir: settings.stateDir,
    spool: { limit: settings.spoolLimit, reserve: settings.spoolReserve },
    dead: { bytes: settings.deadLimit, age: settings.deadLifetime },
    dedupe: { age: settings.dedupeWindow, count: settings.dedupeLimit },
    lifetimes: {
      message: settings.messageLifetime,
      unknownDirective: settings.unknownDirectiveLifetime,
      result: settings.resultLifetime,
    },
  };
}

export function connectionSettings(
  settings: Settings,
  credentials: () => Credentials,
): Omit<ConnectionOptions, 'clientId'> {
  const proxyFor = proxyOf(settings, credentials);
  return {
    brokers: settings.broker,
    credentials: () => ({ username: settings.username, password: credentials().password?.reveal() }),
    tls: () => withRoots(tlsOf(credentials())),
    proxy: (broker) => {
      const proxy = proxyFor(new URL(broker));
      return proxy === undefined ? undefined : withUser(proxy.url, credentials()).href;
    },
    protocolVersion: settings.mqttVersion,
    keepalive: settings.mqttKeepalive,
    sessionExpiry: settings.mqttSessionExpiry,
    connectTimeout: settings.mqttConnectTimeout,
    backoff: { first: settings.mqttReconnectDelay, cap: settings.mqttReconnectDelayMax },
    maxMessageSize: settings.maxMessageSize,
    receiveMaximum: settings.mqttReceiveMaximum,
  };
}

export function routerSettings(settings: Settings): Partial<RouterSettings> {
  return {
    retainStatus: settings.mqttRetainStatus,
    primeTopics: settings.mqttPrimeTopics,
    statusInterval: settings.statusInterval,
    repeatOnlineAfter: settings.repeatOnlineAfter,
    responseTopics: orAll(settings.responseTopics),
    allowedDirectives: orAll(settings.allowedDirectives),
    rateLimit: settings.directiveRate === 0 ? undefined : settings.directiveRate,
    decodeLimits: { maxDepth: settings.maxJsonDepth, maxMetadata: settings.maxMetadataSize },
    maxMessageSize: settings.maxMessageSize,
    receiveMaximum: settings.mqttReceiveMaximum,
  };
}

export function processorLimits(settings: Settings): Partial<ProcessorLimits> {
  return {
    contentLimit: settings.contentLimit,
    fetchConcurrency: settings.fetchConcurrency,
    stallTimeout: settings.fetchStall,
    resultLifetime: settings.resultLifetime,
  };
}

export function dispatchLimits(settings: Settings): Partial<DispatchLimits> {
  return {
    maxAttempts: settings.maxAttempts,
    metadataSize: settings.maxMetadataSize,
    resultSize: settings.maxMessageSize,
  };
}

export function urlSettings(settings: Settings): UrlSettings {
  return { contentHosts: settings.contentHosts, dataHost: settings.dataHost, brokers: settings.broker };
}

export function tlsOf(credentials: Credentials): TlsMaterial {
  return { ca: credentials.ca, cert: credentials.cert, key: credentials.key?.reveal() };
}

/** `ca-root` is trusted besides the well-known authorities, which Node's `ca` would otherwise replace. */
function withRoots({ ca, cert, key }: TlsMaterial): ReturnType<NonNullable<ConnectionOptions['tls']>> {
  return ca.length === 0 ? { cert, key } : { cert, key, ca: [...rootCertificates, ...ca] };
}

/** What GetConfig tells a worker. Paths and addresses; no secret. */
export function configForWorkers(settings: Settings, clientId: string): AgentConfig {
  return {
    logLevel: settings.logLevel.toUpperCase(),
    clientId,
    server: withoutUserInfo(settings.broker[0] ?? ''),
    certFile: settings.certFile ?? '',
    keyFile: settings.keyFile ?? '',
    caRoot: settings.caRoot[0] ?? '',
  };
}

/** The proxy for content, unless its host is excepted by `no-proxy`. */
export function proxyOf(settings: Settings, credentials: () => Credentials): ProxyFor {
  const { proxy } = settings;
  if (proxy === undefined || proxy === '') return () => undefined;
  const url = new URL(proxy);
  return (target): Proxy | undefined => {
    if (isExcepted(target, settings.noProxy)) return undefined;
    const pair = credentials().proxyCredentials?.reveal() ?? userOf(url);
    if (pair === undefined) return { url };
    return { url, authorization: `Basic ${Buffer.from(pair, 'utf8').toString('base64')}` };
  };
}

/** `no-proxy` as curl reads it: `*`, a host with all below it, with or without a leading dot, with or without a port. */
export function isExcepted(target: URL, noProxy: readonly string[]): boolean {
  const host = target.hostname.toLowerCase();
  return noProxy.some((entry) => {
    if (entry === '*') return true;
    const [, name = '', port] = /^\.?(.*?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
    if (port !== undefined && port !== target.port) return false;
    return host === name || host.endsWith(`.${name}`);
  });
}

function withUser(proxy: URL, credentials: Credentials): URL {
  const pair = credentials.proxyCredentials?.reveal();
  if (pair === undefined) return proxy;
  const url = new URL(proxy);
  const colon = pair.indexOf(':');
  url.username = encodeURIComponent(pair.slice(0, colon));
  url.password = encodeURIComponent(pair.slice(colon + 1));
  return url;
}

function userOf(url: URL): string | undefined {
  return url.username === '' ? undefined : `${unescaped(url.username)}:${unescaped(url.password)}`;
}

function withoutUserInfo(address: string): string {
  const url = urlFrom(address);
  if (url === undefined) return address;
  url.username = '';
  url.password = '';
  return url.href.replace(/\/$/, '');
}

/** An empty list is how the settings say "no limit". */
function orAll(list: readonly string[]): readonly string[] | undefined {
  return list.length === 0 ? undefined : list;
}
