/**
 * Every setting, declared once: kind, default, doc line, group, and whether it is secret or can be reloaded. The
 * file's keys, the flags, the environment variables, the help, config.example.toml and the type `Settings` all follow
 * from this table.
 */
import { isName, NAME_RULE, urlFrom } from '../message/index.js';
import { choice, duration, integer, list, listenPort, optional, path, size, text, toggle, type Kind } from './kinds.js';
import { listenAddress } from './listen-address.js';
import { configDir, proxyVariable, runtimeDir, stateDir, workerDir, type Place } from './place.js';

export const GROUPS = [
  'Broker',
  'MQTT',
  'Presence and facts',
  'Workers',
  'Detached content',
  'Limits',
  'Proxy',
  'Places',
  'Metrics and health',
  'Log and stopping',
] as const;

export type Group = (typeof GROUPS)[number];

export interface Setting<T> {
  readonly kind: Kind<T>;
  readonly group: Group;
  /** One line for the help and the example. */
  readonly doc: string;
  /** Its value is never shown. */
  readonly isSecret: boolean;
  /** A changed value takes effect at SIGHUP; any other needs a restart. */
  readonly isReloadable: boolean;
  readonly fallback: (place: Place) => T;
}

type Marks = Partial<Pick<Setting<unknown>, 'isSecret' | 'isReloadable'>>;

const declare =
  (group: Group) =>
  <T>(
    kind: Kind<T>,
    fallback: NoInfer<T> | ((place: Place) => NoInfer<T>),
    doc: string,
    marks: Marks = {},
  ): Setting<T> => ({
    kind,
    group,
    doc,
    isSecret: marks.isSecret ?? false,
    isReloadable: marks.isReloadable ?? false,
    fallback: (place) => (isMaker(fallback) ? fallback(place) : fallback),
  });

function isMaker<T>(fallback: T | ((place: Place) => T)): fallback is (place: Place) => T {
  return typeof fallback === 'function';
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const BROKER_SCHEMES = ['mqtt:', 'mqtts:', 'ws:', 'wss:', 'tcp:', 'ssl:'];

const brokerUrl = text({
  argument: 'URL',
  expects: 'an address such as "mqtts://broker.example.com:8883" (mqtt, mqtts, ws, wss, tcp or ssl)',
  test: (value) => {
    const url = urlFrom(value);
    return url !== undefined && BROKER_SCHEMES.includes(url.protocol) && url.hostname !== '';
  },
});
const host = text({
  argument: 'HOST',
  expects: 'a host name or address, with :port where needed',
  test: (value) => isAuthority(value),
});
const hostName = text({
  argument: 'HOST',
  expects: 'a host name without a port',
  test: (value) => /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(value),
});
const origin = text({
  argument: 'HOST',
  expects: 'a host, host:port, or an origin such as "http://host:8080"',
  test: (value) => isAuthority(value.replace(/^https?:\/\//, '')),
});
const proxyUrl = text({
  argument: 'URL',
  expects: 'an address such as "http://proxy.example.com:3128"',
  test: (value) => /^https?:$/.test(urlFrom(value)?.protocol ?? ''),
});
const name = text({ argument: 'NAME', expects: `a name: ${NAME_RULE}`, test: isName });
const topicPart = text({
  argument: 'PREFIX',
  expects: 'a topic without + and #, and without / at its ends',
  test: (value) => !/[+#\0]/.test(value) && !/^\/|\/$/.test(value),
});
const topicFilter = text({
  argument: 'FILTER',
  expects: 'an MQTT topic filter',
  test: (value) =>
    value
      .split('/')
      .every((level, i, all) => !/[+#]/.test(level) || level === '+' || (level === '#' && i === all.length - 1)),
});

function isAuthority(value: string): boolean {
  const url = urlFrom(`http://${value}`);
  return url !== undefined && url.username === '' && url.pathname === '/' && !/[/?#\s@]/.test(value);
}

const broker = declare('Broker');
const mqtt = declare('MQTT');
const presence = declare('Presence and facts');
const workers = declare('Workers');
const content = declare('Detached content');
const limits = declare('Limits');
const proxy = declare('Proxy');
const places = declare('Places');
const metrics = declare('Metrics and health');
const log = declare('Log and stopping');

export const SETTINGS = {
  broker: broker(list(brokerUrl), [], 'Broker to connect to; of several, each is tried in turn.', { isSecret: true }),
  'client-id': broker(
    optional(name),
    undefined,
    'MQTT client id; else the certificate’s CN, else one made once and kept.',
  ),
  username: broker(optional(text({ argument: 'NAME' })), undefined, 'User name for the broker.'),
  'password-file': broker(optional(path('FILE')), undefined, 'File that holds the password for the broker.'),
  'cert-file': broker(optional(path('FILE')), undefined, 'Client certificate (PEM).'),
  'key-file': broker(optional(path('FILE')), undefined, 'Private key of the client certificate (PEM).'),
  'ca-root': broker(list(path('FILE')), [], 'Certificates of authorities to trust (PEM), besides the well-known ones.'),
  'topic-prefix': broker(topicPart, 'yggdrasil', 'First part of all topics; may hold /.'),
  'embedded-broker': broker(listenPort(1883), undefined, 'Start a broker on 127.0.0.1, for a first try and tests.'),

  'mqtt-version': mqtt(
    choice(['auto', '5', '3.1.1'], 'VERSION'),
    'auto',
    'Protocol version: auto takes 5 where it is spoken, else 3.1.1.',
  ),
  'mqtt-keepalive': mqtt(duration({ max: 65_535 * SECOND }), MINUTE, 'Longest silence before a ping.'),
  'mqtt-session-expiry': mqtt(duration(), 7 * DAY, 'How long the broker is asked to keep the session.'),
  'mqtt-connect-timeout': mqtt(duration({ min: 100 }), 30 * SECOND, 'How long one attempt to connect may take.'),
  'mqtt-reconnect-delay': mqtt(
    duration({ atLeast: 100 }),
    SECOND,
    'First back-off before connecting again (100 ms at least).',
  ),
  'mqtt-reconnect-delay-max': mqtt(duration({ atLeast: 100 }), 2 * MINUTE, 'Longest back-off before connecting again.'),
  'mqtt-receive-maximum': mqtt(
    integer(1, 65_535),
    256,
    'Messages the broker may send before the first is acknowledged.',
  ),
  'mqtt-retain-status': mqtt(toggle(), true, 'Publish connection-status and will retained.'),
  'mqtt-prime-topics': mqtt(
    toggle(),
    false,
    'Publish an empty message on data/out at each connect, for brokers that need it.',
  ),
  'response-topics': mqtt(
    list(topicFilter),
    [],
    'Topics that an MQTT 5 request may name for its answer; none: those below PREFIX/CLIENT-ID/.',
  ),

  'status-interval': presence(duration(), HOUR, 'How often connection-status is repeated; 0 is never.'),
  'repeat-online-after': presence(
    duration(),
    10 * SECOND,
    'When connection-status is repeated after a connect; 0 is never.',
  ),
  'facts-file': presence(
    optional(path('FILE')),
    undefined,
    'JSON object whose members replace the canonical facts of the same name.',
  ),

  'worker-dir': workers(path('DIR'), workerDir, 'Directory of the workers: executables whose name ends in “worker”.'),
  'worker-user': workers(
    optional(text({ argument: 'USER' })),
    undefined,
    'User the workers run as when the daemon is root.',
  ),
  'exclude-worker': workers(list(name), [], 'Worker that is not started.'),
  'allowed-directives': workers(list(name), [], 'Directives taken from the broker; none: all.'),

  'data-host': content(optional(host), undefined, 'Replaces the host of each URL of detached content.'),
  'content-hosts': content(
    optional(list(origin)),
    undefined,
    'Hosts that content may be fetched from and posted to; unset: any https host.',
  ),
  'content-limit': content(size(KIB), 512 * MIB, 'Largest body that is fetched.'),
  'fetch-stall': content(
    duration({ min: 100 }),
    30 * SECOND,
    'Longest silence of a server before a transfer is given up.',
  ),
  'fetch-concurrency': content(integer(1, 1000), 8, 'Bodies fetched at once.'),

  'max-message-size': limits(size(KIB), 16 * MIB, 'Largest message taken from the broker.'),
  'max-json-depth': limits(integer(4, 1000), 64, 'Deepest nesting of a message.'),
  'max-metadata-size': limits(size(KIB), 64 * KIB, 'Largest metadata of a message.'),
  'directive-rate': limits(integer(0, 1_000_000), 0, 'Messages a second for each directive; 0 is no limit.'),
  'message-lifetime': limits(
    duration({ min: SECOND }),
    DAY,
    'How long delivery of a message is tried when it says nothing itself.',
  ),
  'unknown-directive-lifetime': limits(
    duration({ min: SECOND }),
    MINUTE,
    'The same for a directive that nobody ever registered.',
  ),
  'result-lifetime': limits(duration({ min: SECOND }), 7 * DAY, 'How long sending of a result is tried.'),
  'max-attempts': limits(integer(1, 1_000_000), 10, 'Failed deliveries to a worker before a message is dead.'),
  'spool-limit': limits(size(MIB), GIB, 'Disk space for messages and results that wait.'),
  'spool-reserve': limits(size(), 64 * MIB, 'Disk space that is left free for others.'),
  'dead-limit': limits(size(), 256 * MIB, 'Disk space for dead messages; the oldest go.'),
  'dead-lifetime': limits(duration(), 30 * DAY, 'How long dead messages are kept.'),
  'dedupe-window': limits(duration(), 7 * DAY, 'How long the id of a message that has ended is known.'),
  'dedupe-limit': limits(
    integer(0, 100_000_000),
    250_000,
    'How many such ids are known at least; they are forgotten by the thousand.',
  ),

  proxy: proxy(
    optional(proxyUrl),
    (place) => proxyVariable(place.environment, 'HTTPS_PROXY'),
    'HTTP proxy for broker and content; else $HTTPS_PROXY; "" is none.',
    { isSecret: true },
  ),
  'no-proxy': proxy(
    list(text({ argument: 'HOST' })),
    (place) => (proxyVariable(place.environment, 'NO_PROXY') ?? '').split(',').flatMap((entry) => entry.trim() || []),
    'Hosts and domains reached without the proxy; else $NO_PROXY.',
  ),
  'proxy-credentials-file': proxy(optional(path('FILE')), undefined, 'File that holds user:password for the proxy.'),
  'proxy-resolves': proxy(toggle(), false, 'Let the proxy resolve the hosts in content-hosts, unchecked.'),

  'config-dir': places(path('DIR'), configDir, 'Directory of config.toml, tags.toml and workers/.'),
  'state-dir': places(path('DIR'), stateDir, 'Directory of the journal, content and client id.'),
  'runtime-dir': places(path('DIR'), runtimeDir, 'Directory of the sockets; keep it short.'),

  'metrics-listen': metrics(
    optional(listenAddress()),
    undefined,
    'Serve /metrics, /healthz and /readyz: a port (of 127.0.0.1), ADDRESS:PORT or unix:/PATH.',
  ),
  'metrics-hosts': metrics(
    list(hostName),
    [],
    'Host names that metrics may be asked for by, besides addresses and localhost.',
  ),

  'log-level': log(
    choice(['error', 'warn', 'info', 'debug', 'trace'], 'LEVEL'),
    'info',
    'What is logged: error, warn, info, debug or trace.',
    { isReloadable: true },
  ),
  'log-format': log(
    choice(['auto', 'text', 'json', 'journal'], 'FORMAT'),
    'auto',
    'text, json, journal, or auto: text on a terminal, journal under systemd.',
  ),
  'drain-timeout': log(duration(), 20 * SECOND, 'How long work in hand may go on after SIGTERM.', {
    isReloadable: true,
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;
/** The kebab-case name in camel case. */
export type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;
type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** The settings, resolved: durations in milliseconds, sizes in bytes, paths absolute. */
export type Settings = { readonly [N in SettingName as CamelCase<N>]: ValueOf<(typeof SETTINGS)[N]> };

export const SETTING_NAMES: readonly SettingName[] = Object.keys(SETTINGS).filter(isSettingName);

export function isSettingName(word: string): word is SettingName {
  return Object.hasOwn(SETTINGS, word);
}

/** The declaration of a setting, with the type of its value forgotten. */
export function settingOf(settingName: SettingName): Setting<unknown> {
  return SETTINGS[settingName];
}

/** The environment variable of a setting: `mqtt-version` → `YGGD_MQTT_VERSION`. */
export function variableOf(settingName: string): string {
  return `YGGD_${settingName.replaceAll('-', '_').toUpperCase()}`;
}

/** The property of a setting: `mqtt-version` → `mqttVersion`. */
export function propertyOf(settingName: string): string {
  return settingName.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
