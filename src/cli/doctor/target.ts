/**
 * Which agent is looked at, and with which settings: the one that runs, by the flags and variables it was started with;
 * else the one that the unit of this machine would start; else what this user's own settings name.
 */
import { readFile, readlink, stat } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { AdminClient, adminSocket } from '../../admin/index.js';
import { loadSettings, type Environment, type LoadResult, type Settings } from '../../config/index.js';
import { AgentError, errorText } from '../../errors.js';
import { Users } from '../../process/index.js';
import type { Account } from './account.js';
import type { UnitLook } from './unit-look.js';
import { unitFlags, valueOf } from './unit-file.js';

type AgentStatus = Awaited<ReturnType<AdminClient['status']>>;

export type AgentLook =
  | { readonly kind: 'running'; readonly socket: string; readonly status: AgentStatus }
  /** It listens, but does not answer. */
  | { readonly kind: 'silent'; readonly socket: string; readonly reason: string }
  | { readonly kind: 'forbidden'; readonly socket: string }
  | { readonly kind: 'not-running'; readonly sockets: readonly string[] };

export interface Target {
  readonly loaded: Extract<LoadResult, { kind: 'ok' | 'invalid' }>;
  /** Also of settings that are wrong, with the defaults in place of what is; undefined where there are none at all. */
  readonly settings: Settings | undefined;
  /** Where flags came from besides those that were given: a sentence. */
  readonly origin: string;
  readonly agent: AgentLook;
  /** Of the running agent; undefined where it is not known. */
  readonly pid: number | undefined;
  /** Who looks. */
  readonly self: Account;
  /** Who the agent runs as, or would. */
  readonly user: Account;
  readonly users: Users;
}

export interface TargetOptions {
  /** Flags of `yggd` that the operator gave. */
  readonly argv: readonly string[];
  readonly runtimeDir: string | undefined;
  readonly unit: UnitLook;
}

const SYSTEM_RUNTIME_DIR = '/run/yggdrasil';

export async function findTarget({ argv, runtimeDir, unit }: TargetOptions): Promise<Target> {
  const users = new Users();
  const self = await ownAccount(users);
  const own = [...argv, ...(runtimeDir === undefined ? [] : [`--runtime-dir=${runtimeDir}`])];
  const first = await load({ argv: own });
  // Whoever names a configuration means that one and no other agent.
  const isNamed = argv.some((flag) => /^--(config|config-dir|state-dir)=/.test(flag));
  const fromUnit = unit.kind === 'found' && !isNamed && (await isSystemMeant(first, self)) ? unit.settings : undefined;
  const agent = await findAgent(
    runtimeDir !== undefined
      ? [runtimeDir]
      : [settingsOf(first)?.runtimeDir, ...(isNamed ? [] : [flagOf(fromUnit, '--runtime-dir'), SYSTEM_RUNTIME_DIR])],
  );
  const unitPid = unit.kind === 'found' ? unit.mainPid : undefined;
  const claimed =
    agent.kind === 'running' ? agent.status.pid : agent.kind === 'forbidden' && !isNamed ? unitPid : undefined;
  const owner = agent.kind === 'running' || agent.kind === 'forbidden' ? await ownerOf(agent.socket) : undefined;
  const pid = claimed !== undefined && (await isOwnedBy(claimed, owner)) ? claimed : undefined;
  const started = pid === undefined ? undefined : await startedWith(pid);
  const base = started?.flags ?? (fromUnit === undefined ? undefined : unitFlags(fromUnit));
  const loaded =
    base === undefined
      ? first
      : await load({
          argv: [...withoutOverridden(base, own), ...own],
          ...(started?.environment !== undefined && { env: started.environment, homedir: homeOf(started.environment) }),
          ...(started?.directory !== undefined && { cwd: started.directory }),
          ...(pid !== undefined && started?.uid !== undefined && { uid: started.uid }),
        });
  const settings = settingsOf(loaded);
  const unitUser = fromUnit === undefined ? undefined : valueOf(fromUnit, 'User');
  return {
    ...{ loaded, settings, agent, pid, self, users },
    origin: originOf(started?.flags, fromUnit !== undefined, pid),
    user: await agentAccount(users, { pid, owner, unitUser, stateDir: settings?.stateDir, self }),
  };
}

function originOf(flags: readonly string[] | undefined, isFromUnit: boolean, pid: number | undefined): string {
  if (flags !== undefined && pid !== undefined) return `with the flags of the running agent (pid ${pid})`;
  return isFromUnit ? 'with the flags in the unit' : '';
}

/** Root means the machine's agent; another user only while there is no configuration of their own. */
async function isSystemMeant(loaded: Target['loaded'], self: Account): Promise<boolean> {
  if (self.uid === 0) return true;
  const directory = settingsOf(loaded)?.configDir;
  return directory === undefined || !(await stat(join(directory, 'config.toml')).then(Boolean, () => false));
}

async function load(options: Parameters<typeof loadSettings>[0]): Promise<Target['loaded']> {
  const loaded = await loadSettings(options);
  if (loaded.kind === 'ok' || loaded.kind === 'invalid') return loaded;
  // The flags of a daemon that is running are no question for help or version, and ours are not either.
  throw new Error(`these are no settings: ${(options?.argv ?? []).join(' ')}`);
}

function settingsOf(loaded: Target['loaded']): Settings | undefined {
  return loaded.kind === 'ok' ? loaded.settings : loaded.draft;
}

const homeOf = (environment: Environment) => (): string => environment['HOME'] ?? homedir();

function flagOf(settings: Parameters<typeof unitFlags>[0] | undefined, name: string): string | undefined {
  const flags = settings === undefined ? undefined : unitFlags(settings);
  if (flags === undefined) return undefined;
  const at = flags.findLastIndex((flag) => flag === name || flag.startsWith(`${name}=`));
  const flag = flags[at];
  return flag === name ? flags[at + 1] : flag?.slice(name.length + 1);
}

/** Takes out what is given anew: of a flag that is a list, all would count. */
function withoutOverridden(flags: readonly string[], over: readonly string[]): readonly string[] {
  const names = new Set(over.map((flag) => flag.split('=', 1)[0] ?? ''));
  const kept: string[] = [];
  for (let n = 0; n < flags.length; n++) {
    const flag = flags[n] ?? '';
    if (!names.has(flag.split('=', 1)[0] ?? '')) kept.push(flag);
    else if (!flag.includes('=') && !(flags[n + 1] ?? '--').startsWith('--')) n += 1;
  }
  return kept;
}

/** The first of these that is there. */
async function findAgent(directories: readonly (string | undefined)[]): Promise<AgentLook> {
  const sockets = [...new Set(directories.flatMap((each) => (each === undefined ? [] : [adminSocket(each)])))];
  for (const socket of sockets) {
    try {
      using client = await AdminClient.connect(socket);
      return { kind: 'running', socket, status: await client.status() };
    } catch (error) {
      const code = error instanceof AgentError ? error.code : undefined;
      if (code === 'admin.forbidden') return { kind: 'forbidden', socket };
      if (code !== 'admin.not_running') return { kind: 'silent', socket, reason: errorText(error) };
    }
  }
  return { kind: 'not-running', sockets };
}

interface Started {
  readonly flags: readonly string[] | undefined;
  readonly environment: Environment | undefined;
  readonly directory: string | undefined;
  readonly uid: number | undefined;
}

/** How a process was started, as far as this user may see it. */
async function startedWith(pid: number): Promise<Started> {
  const read = (name: string): Promise<string | undefined> =>
    readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => undefined);
  const words = (await read('cmdline'))?.split('\0').slice(0, -1);
  const at = words?.findIndex((word) => /^yggd(\.js|\.cjs)?$/.test(basename(word))) ?? -1;
  const variables = (await read('environ'))?.split('\0').filter((each) => each.includes('='));
  return {
    flags: at < 0 ? undefined : words?.slice(at + 1),
    environment:
      variables &&
      Object.fromEntries(
        variables.map((each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]),
      ),
    directory: await readlink(`/proc/${pid}/cwd`).catch(() => undefined),
    uid: (await stat(`/proc/${pid}`).catch(() => undefined))?.uid,
  };
}

async function ownAccount(users: Users): Promise<Account> {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  const groups = [...new Set([gid, ...(process.getgroups?.() ?? [])])];
  return { uid, gid, groups, name: await nameOf(users, uid) };
}

async function nameOf(users: Users, uid: number): Promise<string> {
  if (uid === process.getuid?.()) {
    try {
      return userInfo().username;
    } catch {
      // A user that no list of users holds.
    }
  }
  return (await users.user(String(uid)))?.name ?? String(uid);
}

/**
 * Whose the socket is: the first who is not root among the owners of it and of the directories that only the agent
 * makes. What listens there is that user's, whatever it says of itself. Undefined where it cannot be seen.
 */
async function ownerOf(socket: string): Promise<number | undefined> {
  const places = [dirname(dirname(socket)), dirname(socket), socket];
  const owners = await Promise.all(
    places.map((path) =>
      stat(path).then(
        ({ uid }) => uid,
        () => undefined,
      ),
    ),
  );
  return owners.find((uid) => uid !== undefined && uid !== 0) ?? owners[0];
}

/** Else an agent could name a process of somebody who may more, and have us take that one's flags for its own. */
async function isOwnedBy(pid: number, owner: number | undefined): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const [real, effective] = numbersOf(status, 'Uid');
  return real !== undefined && real === owner && effective === owner;
}

function numbersOf(status: string, name: string): readonly number[] {
  return (new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '').split(/\s+/).filter(Boolean).map(Number);
}

interface Clues {
  readonly pid: number | undefined;
  /** Whose socket answered, or would. */
  readonly owner: number | undefined;
  readonly unitUser: string | undefined;
  readonly stateDir: string | undefined;
  readonly self: Account;
}

async function agentAccount(users: Users, { pid, owner, unitUser, stateDir, self }: Clues): Promise<Account> {
  const status = pid === undefined ? '' : await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const [, uid] = numbersOf(status, 'Uid');
  const [, gid] = numbersOf(status, 'Gid');
  if (uid !== undefined && gid !== undefined) {
    const groups = [...new Set([gid, ...numbersOf(status, 'Groups')])];
    return { uid, gid, groups, name: await nameOf(users, uid) };
  }
  const keeper = stateDir === undefined ? undefined : await stat(stateDir).catch(() => undefined);
  const name = owner !== undefined ? String(owner) : (unitUser ?? (keeper && String(keeper.uid)));
  const entry = name === undefined ? undefined : await users.user(name);
  if (entry === undefined || entry.uid === self.uid) return self;
  return { uid: entry.uid, gid: entry.gid, groups: await groupsOf(entry.name, entry.gid), name: entry.name };
}

async function groupsOf(user: string, gid: number): Promise<readonly number[]> {
  const text = await readFile('/etc/group', 'utf8').catch(() => '');
  const rows = text.split('\n').map((line) => line.split(':'));
  return [gid, ...rows.filter((row) => row[3]?.split(',').includes(user)).map((row) => Number(row[2]))];
}
