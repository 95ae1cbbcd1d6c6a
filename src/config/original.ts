/**
 * The settings of the original that ours does not have under the same name and meaning. An operator's file of either
 * generation starts our agent: each is renamed, or accepted with a warning that says what happens instead.
 * protocol/original-settings.md is made from this table.
 */
import type { SettingName } from './settings.js';

/** `between`: the development versions that led from 0.2 to 0.4. */
export type Generation = '0.2' | 'between' | '0.4';

export type OriginalSetting =
  | { readonly kind: 'same'; readonly since: readonly Generation[]; readonly note: string }
  | { readonly kind: 'renamed'; readonly since: readonly Generation[]; readonly to: SettingName; readonly note: string }
  | {
      readonly kind: 'accepted';
      readonly since: readonly Generation[];
      readonly note: string;
      /** Values that ask for nothing we do not do anyway: no warning. */
      isSilent?(value: unknown): boolean;
      /** Values that cannot be served: what to do instead. */
      refusal?(value: unknown): string | undefined;
    };

const all: readonly Generation[] = ['0.2', 'between', '0.4'];
const afterwards: readonly Generation[] = ['between', '0.4'];
const between: readonly Generation[] = ['between'];
const newer: readonly Generation[] = ['0.4'];

export const ORIGINAL_SETTINGS: Readonly<Record<string, OriginalSetting>> = {
  broker: { kind: 'same', since: ['0.2'], note: 'The list of brokers. tcp:// and ssl:// are understood.' },
  'log-level': { kind: 'same', since: all, note: 'Capitals do not matter.' },
  'cert-file': { kind: 'same', since: all, note: 'Empty text is the same as unset, here and everywhere.' },
  'key-file': { kind: 'same', since: all, note: '' },
  'ca-root': {
    kind: 'same',
    since: all,
    note: 'One text or a list. Trusted besides the well-known authorities, as in the original.',
  },
  'client-id': {
    kind: 'same',
    since: afterwards,
    note: 'Where it is unset: the certificate’s CN, as in the original.',
  },
  'topic-prefix': { kind: 'same', since: ['0.2'], note: '' },
  'data-host': { kind: 'same', since: all, note: '' },
  'exclude-worker': { kind: 'same', since: between, note: 'Names the executable.' },
  'mqtt-connect-timeout': { kind: 'same', since: newer, note: 'Same default, 30 s.' },
  'mqtt-reconnect-delay': {
    kind: 'same',
    since: newer,
    note: 'First back-off; it grows to mqtt-reconnect-delay-max, with jitter. 0, the original’s default, is taken as 100 ms.',
  },
  'facts-file': {
    kind: 'same',
    since: newer,
    note: 'Its members replace the facts of the same name; ours finds all facts by itself, so it need not exist.',
  },

  server: { kind: 'renamed', since: afterwards, to: 'broker', note: 'One address or a list.' },
  'path-prefix': { kind: 'renamed', since: afterwards, to: 'topic-prefix', note: '' },
  'canonical-facts': { kind: 'renamed', since: between, to: 'facts-file', note: '' },

  protocol: {
    kind: 'accepted',
    since: afterwards,
    note: 'Only MQTT is spoken: `mqtt` says so, `none` is ignored with a warning, `http` is an error.',
    isSilent: (value) => value === 'mqtt',
    refusal: (value) =>
      value === 'http'
        ? 'the HTTP transport is not supported: set `broker` to an MQTT broker and remove `protocol`'
        : undefined,
  },
  'socket-addr': {
    kind: 'accepted',
    since: ['0.2', 'between'],
    note: 'Each worker has a socket of its own below `runtime-dir`.',
  },
  'worker-config-dir': {
    kind: 'accepted',
    since: between,
    note: 'Workers’ files are in `workers/` below `config-dir`.',
  },
  'http-retries': {
    kind: 'accepted',
    since: newer,
    note: 'Fetching is tried up to ten times or until the message expires.',
  },
  'http-timeout': { kind: 'accepted', since: newer, note: 'A transfer may last while it moves: see `fetch-stall`.' },
  'mqtt-connect-retry': {
    kind: 'accepted',
    since: newer,
    note: 'Ours always tries again.',
    isSilent: (value) => value === true,
  },
  'mqtt-connect-retry-interval': {
    kind: 'accepted',
    since: newer,
    note: 'All attempts have one back-off: `mqtt-reconnect-delay` to `mqtt-reconnect-delay-max`.',
  },
  'mqtt-auto-reconnect': {
    kind: 'accepted',
    since: newer,
    note: 'Ours always connects again.',
    isSilent: (value) => value === true,
  },
  'mqtt-publish-timeout': {
    kind: 'accepted',
    since: newer,
    note: 'A result is kept on disk until the broker acknowledged it: see `result-lifetime`.',
  },
  'message-journal': { kind: 'accepted', since: newer, note: 'Ours keeps its own journal in `state-dir`.' },
};

/** How a name of the original is to be taken, or undefined for a name it never had. */
export function originalSetting(name: string): OriginalSetting | undefined {
  return Object.hasOwn(ORIGINAL_SETTINGS, name) ? ORIGINAL_SETTINGS[name] : undefined;
}

/** Keys of the original's worker files, which had other ways to find and start a worker. */
export const ORIGINAL_WORKER_KEYS: Readonly<Record<string, string>> = {
  exec: 'Executables are found in `worker-dir`; where this names one of them, its arguments are taken, and nothing is warned of.',
  protocol: 'Workers are always spoken to over gRPC: `grpc` needs no warning.',
  remote_content: 'A worker says itself whether it wants detached content when it registers.',
  features: 'A worker announces its features itself when it registers.',
};

/** protocol/original-settings.md. */
export function renderOriginalSettings(): string {
  const rows = Object.entries(ORIGINAL_SETTINGS).map(([name, setting]) => {
    const ours =
      setting.kind === 'renamed'
        ? `\`${setting.to}\``
        : setting.kind === 'same'
          ? 'the same'
          : 'accepted, with a warning';
    return `| \`${name}\` | ${setting.since.join(', ')} | ${ours} | ${setting.note} |`;
  });
  const workerRows = Object.entries(ORIGINAL_WORKER_KEYS).map(
    ([name, note]) => `| \`${name}\` | accepted, with a warning | ${note} |`,
  );
  return `# Settings of the original

Made from src/config/original.ts by scripts/generate-docs.ts. A configuration file written for yggdrasil 0.2 or 0.4
starts this agent; so do its flags (“between” are the development versions that led from one to the other), with one dash or two. Where a setting of ours and its name in the original both stand in one place, ours is taken.

| setting | generation | ours | note |
| --- | --- | --- | --- |
${rows.join('\n')}

\`generate-man-page\`, \`generate-markdown\` and \`generate-bash-completion\` were flags for building the original, not settings; they are unknown flags here.

## Files of workers

The original’s files are named by directive, ours by executable (\`workers/<executable>.toml\`). Where a worker has no file
of that name, the first file whose \`exec\` names its executable is taken.

| key | ours | note |
| --- | --- | --- |
| \`env\` | the same | A list of \`KEY=VALUE\`, or a table. What may not be set is an error instead of being dropped. |
${workerRows.join('\n')}

## Directories

The original ran as root, with \`/etc/yggdrasil\`, \`/var/lib/yggdrasil\` and \`/usr/libexec/yggdrasil\` (or \`/usr/local\`) set when it was built.
Ours has \`config-dir\`, \`state-dir\` and \`worker-dir\`; a client id that the original left in \`/var/lib/yggdrasil/client-id\` is taken over.
`;
}
