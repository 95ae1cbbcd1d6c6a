/**
 * What the process finds around it: who it runs as and the variables it was given. The defaults of the settings
 * follow from it. Nothing else in the program reads the environment.
 */
import { join } from 'node:path';
import { withoutUserInfo } from './secret.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a default has to point. */
export interface Place {
  /** Root, or a system service: the machine's own directories instead of the user's. */
  readonly isSystem: boolean;
  readonly home: string;
  readonly environment: Environment;
}

/**
 * The place of a process. An unprivileged daemon that systemd started as a system service is at home in the
 * machine's directories too: it got its state directory below /var/lib.
 */
export function placeOf(uid: number, home: string, environment: Environment): Place {
  const isService = environment.STATE_DIRECTORY?.startsWith('/var/lib/') ?? false;
  return { isSystem: uid === 0 || isService, home, environment };
}

/** systemd names a service's directories in the environment; of several, the first is ours. */
const fromSystemd = (place: Place, variable: string): string | undefined =>
  place.environment[variable]?.split(':')[0] || undefined;

export function configDir(place: Place): string {
  if (place.isSystem) return fromSystemd(place, 'CONFIGURATION_DIRECTORY') ?? '/etc/yggdrasil';
  return join(place.environment.XDG_CONFIG_HOME || join(place.home, '.config'), 'yggdrasil');
}

export function stateDir(place: Place): string {
  if (place.isSystem) return fromSystemd(place, 'STATE_DIRECTORY') ?? '/var/lib/yggdrasil';
  return join(place.environment.XDG_STATE_HOME || join(place.home, '.local/state'), 'yggdrasil');
}

/** Without a login session there is no XDG_RUNTIME_DIR; /tmp would be anybody's, so the state directory takes it. */
export function runtimeDir(place: Place): string {
  if (place.isSystem) return fromSystemd(place, 'RUNTIME_DIRECTORY') ?? '/run/yggdrasil';
  const { XDG_RUNTIME_DIR } = place.environment;
  return XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, 'yggdrasil') : join(stateDir(place), 'run');
}

export function workerDir(place: Place): string {
  return place.isSystem ? '/usr/local/libexec/yggdrasil' : join(place.home, '.local/libexec/yggdrasil');
}

const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'] as const;

/** A proxy variable in either case; the small one is older and wins, as with curl. */
export function proxyVariable(environment: Environment, name: (typeof PROXY_VARIABLES)[number]): string | undefined {
  return environment[name.toLowerCase()] || environment[name] || undefined;
}

/** What the rest of the program needs to know of the environment besides the settings. */
export interface Surroundings {
  /** `dev:inode` of the journal's stream when standard error goes to the journal (systemd.exec(5)). */
  readonly journalStream: string | undefined;
  /** Colours are not wanted (no-color.org). */
  readonly isColourless: boolean;
  /** Where programs are looked for: workers get it too. */
  readonly path: string;
  /** The proxy variables as workers get them: without user and password. */
  readonly proxyVariables: Readonly<Record<string, string>>;
}

export function surroundingsOf(environment: Environment): Surroundings {
  const proxies = PROXY_VARIABLES.flatMap((name) => {
    const value = proxyVariable(environment, name);
    return value === undefined ? [] : [[name, withoutUserInfo(value)] as const];
  });
  return {
    journalStream: environment.JOURNAL_STREAM || undefined,
    isColourless: Boolean(environment.NO_COLOR),
    path: environment.PATH || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    proxyVariables: Object.fromEntries(proxies),
  };
}
