/**
 * Units of systemd as text: what a unit and its drop-ins say together (systemd.syntax(7)), and which of the walls that
 * the shipped unit builds are not there.
 */

export interface UnitText {
  readonly path: string;
  readonly text: string;
}

/** `Section.Key` → its values in order; an empty one takes back all before it. */
export type UnitSettings = ReadonlyMap<string, readonly string[]>;

export function mergeUnit(files: readonly UnitText[]): UnitSettings {
  const settings = new Map<string, readonly string[]>();
  for (const { text } of files) {
    let section = '';
    for (const line of text.replace(/\\\n/g, ' ').split('\n')) {
      const header = /^\s*\[(.+)\]\s*$/.exec(line)?.[1];
      const [, key, value] = /^\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
      if (header !== undefined) section = header;
      else if (key !== undefined && value !== undefined) {
        const name = `${section}.${key}`;
        settings.set(name, value === '' ? [] : [...(settings.get(name) ?? []), value]);
      }
    }
  }
  return settings;
}

/** The value that counts where there is one only. */
export function valueOf(settings: UnitSettings, name: string): string | undefined {
  return settings.get(`Service.${name}`)?.at(-1);
}

/** The flags of `yggd` in the unit's command; undefined when it runs something else. */
export function unitFlags(settings: UnitSettings): readonly string[] | undefined {
  const words = wordsOf(valueOf(settings, 'ExecStart') ?? '');
  const at = words.findIndex((word) => /(^|\/)yggd(\.js)?$/.test(word.replace(/^[-@:+!|]+/, '')));
  return at < 0 ? undefined : words.slice(at + 1);
}

/** The words of a command line, with quotes as systemd takes them. */
function wordsOf(line: string): readonly string[] {
  return [...line.matchAll(/(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|[^\s"'])+/g)].map(([word]) =>
    word.replace(/"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'/g, (_, one?: string, two?: string) => one ?? two ?? ''),
  );
}

/**
 * What the shipped unit says in [Service] that keeps the agent alive or in its place; a test compares it with the file.
 */
export const SHIPPED: Readonly<Record<string, string>> = {
  Restart: 'always',
  KillMode: 'mixed',
  OOMPolicy: 'continue',
  LimitNOFILE: '65536',
  TimeoutStopSec: '60',
  UMask: '0077',
  Delegate: 'yes',
};

/** The walls: a drop-in for workers that manage the machine takes all of them down. */
export const WALLS: Readonly<Record<string, string>> = {
  NoNewPrivileges: 'yes',
  CapabilityBoundingSet: '',
  AmbientCapabilities: '',
  ProtectSystem: 'strict',
  ProtectHome: 'yes',
  PrivateMounts: 'yes',
  PrivateTmp: 'yes',
  PrivateDevices: 'yes',
  DevicePolicy: 'closed',
  ProtectClock: 'yes',
  ProtectHostname: 'yes',
  ProtectKernelLogs: 'yes',
  ProtectKernelModules: 'yes',
  ProtectKernelTunables: 'yes',
  ProtectProc: 'invisible',
  LockPersonality: 'yes',
  RemoveIPC: 'yes',
  RestrictNamespaces: 'yes',
  RestrictRealtime: 'yes',
  RestrictSUIDSGID: 'yes',
  RestrictAddressFamilies: 'AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  SystemCallArchitectures: 'native',
  SystemCallFilter: '@system-service ~@privileged @resources @chown',
  SystemCallErrorNumber: 'EPERM',
  KeyringMode: 'private',
};

/** Of these each line adds to those before it; of all others the last counts. */
const LISTS = new Set([
  ...['CapabilityBoundingSet', 'AmbientCapabilities', 'RestrictAddressFamilies'],
  ...['SystemCallFilter', 'SystemCallArchitectures'],
]);

export interface Difference {
  readonly key: string;
  readonly shipped: string;
  /** Empty: it is not set, or to nothing. */
  readonly found: string;
}

/** Where the unit says something else than what ships. */
export function differences(settings: UnitSettings, shipped: Readonly<Record<string, string>>): readonly Difference[] {
  return Object.entries(shipped).flatMap(([key, value]) => {
    const values = settings.get(`Service.${key}`) ?? [];
    const found = LISTS.has(key) ? values.join(' ') : (values.at(-1) ?? '');
    const isSet = settings.has(`Service.${key}`);
    return isSet && sameValue(found, value) ? [] : [{ key, shipped: value, found }];
  });
}

function sameValue(one: string, other: string): boolean {
  const plain = (text: string): string =>
    /^(1|yes|true|on)$/i.test(text) ? 'yes' : /^(0|no|false|off)$/i.test(text) ? 'no' : text;
  return plain(one) === plain(other);
}
