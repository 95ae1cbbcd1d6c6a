/** What the commands that reach an agent through the broker have in common: which broker, and the connection to it. */
import { randomBytes } from 'node:crypto';
import { InvalidArgumentError, type Command } from 'commander';
import { connectionSettings } from '../agent-settings.js';
import { checkCredentials, loadSettings, parseDuration, problemsError, type Settings } from '../config/index.js';
import { Connection, type Delivery } from '../connection/index.js';
import { AgentError } from '../errors.js';
import { parseClientId } from '../message/index.js';
import { endWithReader, Output } from './output.js';

export interface BrokerFlags {
  readonly config?: string;
  readonly broker?: readonly string[];
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly caRoot?: readonly string[];
  readonly username?: string;
  readonly passwordFile?: string;
  readonly topicPrefix?: string;
  readonly json?: boolean;
}

/** The flags that mean to `ygg` what they mean to `yggd`. */
const SETTINGS = [
  ['config', 'config'],
  ['broker', 'broker'],
  ['cert-file', 'certFile'],
  ['key-file', 'keyFile'],
  ['ca-root', 'caRoot'],
  ['username', 'username'],
  ['password-file', 'passwordFile'],
  ['topic-prefix', 'topicPrefix'],
] as const;

/** How long a connection to the broker may take. */
const CONNECT_WITHIN_MS = 30_000;

/** An operator's place at the broker. */
export interface BrokerDesk {
  /** `P` in the topics. */
  readonly prefix: string;
  /** Calls `fn` with all that has come since the connection was begun, and with what comes, until `scope` ends. Once. */
  hear(fn: (delivery: Delivery) => void, scope: AbortSignal): void;
  publish(topic: string, payload: Buffer, options?: { readonly retain: boolean }): Promise<void>;
}

/** Gives a command the flags that say which broker. */
export function asksBroker(command: Command): Command {
  const several = (value: string, before: readonly string[] | undefined): readonly string[] => [
    ...(before ?? []),
    value,
  ];
  return command
    .option('--config <path>', 'take broker, certificates and topic prefix from this file (default: the agent’s own)')
    .option('--broker <url>', 'the broker; may be repeated', several)
    .option('--cert-file <path>', 'certificate for the broker')
    .option('--key-file <path>', 'its key')
    .option('--ca-root <path>', 'authority to trust; may be repeated', several)
    .option('--username <name>', 'user at the broker')
    .option('--password-file <path>', 'file with that user’s password')
    .option('--topic-prefix <prefix>', 'what all topics begin with (default: yggdrasil)')
    .option('--json', 'print JSON');
}

/** Connects with the given subscriptions, does the work, and says goodbye. Throws `config.*` and `connection.*`. */
export async function withBroker(
  flags: BrokerFlags,
  subscriptions: (prefix: string) => readonly string[],
  work: (desk: BrokerDesk, output: Output) => Promise<void>,
): Promise<void> {
  endWithReader();
  const settings = await settingsFrom(flags);
  const checked = await checkCredentials(settings);
  if (checked.kind === 'invalid') throw problemsError(checked.problems);
  const prefix = settings.topicPrefix;
  const connection = new Connection({
    ...connectionSettings(settings, () => checked.credentials),
    // A session of its own that ends with it: it takes no agent's place.
    clientId: `ygg-${randomBytes(8).toString('hex')}`,
    sessionExpiry: 0,
    subscriptions: subscriptions(prefix),
  });
  // What the broker retains may come before the connection says that it is up.
  const early: Delivery[] = [];
  const isEarly = new AbortController();
  connection.message.connect((delivery) => void early.push(delivery), isEarly.signal);
  const desk: BrokerDesk = {
    prefix,
    hear: (fn, scope) => {
      isEarly.abort();
      connection.message.connect(fn, scope);
      for (const delivery of early.splice(0)) if (!scope.aborted) fn(delivery);
    },
    publish: async (topic, payload, options) => {
      await connection.publish(topic, payload, options);
    },
  };
  try {
    await connected(connection);
    await work(desk, new Output());
  } finally {
    await connection.stop();
  }
}

/** The same flags as `yggd` takes them. */
export function brokerArguments(flags: BrokerFlags): readonly string[] {
  return SETTINGS.flatMap(([flag, name]) => {
    const value = flags[name];
    return value === undefined ? [] : [value].flat().map((each) => `--${flag}=${each}`);
  });
}

async function settingsFrom(flags: BrokerFlags): Promise<Settings> {
  const argv = brokerArguments(flags);
  const loaded = await loadSettings({ argv });
  if (loaded.kind === 'invalid') throw problemsError(loaded.problems);
  if (loaded.kind !== 'ok') throw new Error(`these are no settings: ${argv.join(' ')}`);
  return loaded.settings;
}

/** Resolves when it is up. The first failure of all brokers is told: an operator does not wait for the next try. */
async function connected(connection: Connection): Promise<void> {
  const scope = new AbortController();
  const timer = setTimeout(() => scope.abort(unreachable('it did not answer')), CONNECT_WITHIN_MS);
  try {
    const up = connection.up.next(scope.signal).then(() => undefined);
    const down = connection.down.next(scope.signal);
    // Whichever comes second is of no interest.
    up.catch(() => undefined);
    down.catch(() => undefined);
    await connection.start();
    const failure = await Promise.race([up, down]);
    if (failure !== undefined) throw unreachable(failure.reason);
  } finally {
    clearTimeout(timer);
    scope.abort();
  }
}

function unreachable(reason: string): AgentError {
  return new AgentError('connection.failed', `cannot reach the broker: ${reason}`);
}

/** The name of an agent at the broker. */
export function clientArgument(text: string): string {
  const client = parseClientId(text);
  if (client === undefined) throw new InvalidArgumentError('it is no client id.');
  return client;
}

export function timeoutArgument(text: string): number {
  const timeout = parseDuration(text);
  if (timeout === undefined || timeout < 1 || timeout > 86_400_000)
    throw new InvalidArgumentError('a time such as 10s.');
  return timeout;
}
