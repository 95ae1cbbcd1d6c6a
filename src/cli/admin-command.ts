/** What the commands that ask the agent have in common: which agent, how to say it, and the connection to it. */
import { lstat } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { AdminClient, adminSocket } from '../admin/index.js';
import { loadSettings, parseDuration } from '../config/index.js';
import { AgentError, errnoOf } from '../errors.js';
import { endWithReader, Output } from './output.js';

/** Where the agent of a machine listens, whoever asks. */
const SYSTEM_RUNTIME_DIR = '/run/yggdrasil';

export interface AdminFlags {
  readonly runtimeDir?: string;
  readonly config?: string;
  readonly json?: boolean;
}

/** Gives a command the flags that all of them take; `json` says what `--json` prints. */
export function asksAgent(command: Command, json = 'print one JSON document'): Command {
  return command
    .option('--runtime-dir <path>', 'of the agent to ask (default: as its settings say, else /run/yggdrasil)')
    .option('--config <path>', 'the configuration file of the agent to ask')
    .option('--json', json);
}

/** The work with an agent, or with undefined and the reason where none can be asked. Throws whatever else is wrong. */
export async function withAgentIfThere(
  flags: AdminFlags,
  work: (client: AdminClient | undefined, output: Output, problem: string) => Promise<void>,
): Promise<void> {
  endWithReader();
  let client: AdminClient | undefined;
  let problem = '';
  try {
    client = await AdminClient.connect(await socketOf(flags));
  } catch (error) {
    if (!(error instanceof AgentError) || !['admin.not_running', 'admin.forbidden'].includes(error.code)) throw error;
    problem = error.message;
  }
  try {
    await work(client, new Output(), problem);
  } finally {
    client?.[Symbol.dispose]();
  }
}

/** Connects, does the work, and closes. Throws AgentError `admin.*`. */
export async function withAgent(
  flags: AdminFlags,
  work: (client: AdminClient, output: Output) => Promise<void>,
): Promise<void> {
  endWithReader();
  using client = await AdminClient.connect(await socketOf(flags));
  await work(client, new Output());
}

/** The socket of the first agent that is there: the one that is named, this user's, the machine's. */
export async function socketOf({ runtimeDir, config }: AdminFlags): Promise<string> {
  if (runtimeDir !== undefined) return adminSocket(runtimeDir);
  // What is wrong with the settings keeps nobody from asking the agent that runs.
  const loaded = await loadSettings({ argv: config === undefined ? [] : ['--config', config] });
  const own = loaded.kind === 'ok' ? [adminSocket(loaded.settings.runtimeDir)] : [];
  const paths = [...own, adminSocket(SYSTEM_RUNTIME_DIR)];
  for (const path of paths) if (await mayBeThere(path)) return path;
  return paths[0] ?? '';
}

async function mayBeThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EACCES';
  }
}

/** The key of a message, as `ygg messages list` shows it. */
export function keyArgument(text: string): bigint {
  if (!/^[1-9]\d{0,15}$/.test(text))
    throw new InvalidArgumentError('a key is a number, as `ygg messages list` shows it.');
  return BigInt(text);
}

/** How long ago something was: `90s`, `5m`, `2h`, `3d`. */
export function ageArgument(text: string): number {
  const age = parseDuration(text);
  if (age === undefined || !Number.isFinite(age)) throw new InvalidArgumentError('a time such as 90s, 5m, 2h or 3d.');
  return age;
}

export function countArgument(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a whole number of at least 1.');
  return Number(text);
}
