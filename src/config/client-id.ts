/**
 * Who we are for the broker: the setting, else the certificate's CN, else an id that is made once and kept in the state
 * directory. It is part of every topic, so nothing else than a name passes.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';
import { NAME_RULE, parseClientId, type ClientId } from '../message/ids.js';
import { quoted } from '../message/quoted.js';

export interface ClientIdOptions {
  /** The setting `client-id`. */
  readonly configured: string | undefined;
  /** The CN of the certificate, where there is one. */
  readonly commonName: string | undefined;
  readonly stateDir: string;
  readonly makeId?: () => string;
}

/** Throws `config.invalid` for an id that cannot be one, `state.unwritable` when none can be read or kept. */
export async function resolveClientId(options: ClientIdOptions): Promise<ClientId> {
  const { configured, commonName, stateDir } = options;
  if (configured !== undefined) return clientId(configured, '`client-id`');
  if (commonName !== undefined) return clientId(commonName, 'the common name of the certificate');
  const file = join(stateDir, 'client-id');
  const kept = await readKept(file);
  if (kept !== undefined) return clientId(kept, file);
  const made = clientId((options.makeId ?? randomUUID)(), 'the new client id');
  await keep(file, made);
  return made;
}

function clientId(text: string, source: string): ClientId {
  const id = parseClientId(text);
  if (id !== undefined) return id;
  throw new AgentError(
    'config.invalid',
    `${source} is ${quoted(text)}, which cannot be a client id (${NAME_RULE}): set \`client-id\``,
    {
      source,
    },
  );
}

/** What an earlier run kept. An empty file is what a power cut leaves of one that was never synced: none. */
async function readKept(file: string): Promise<string | undefined> {
  try {
    const text = (await readFile(file, 'utf8')).trim();
    return text === '' ? undefined : text;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new AgentError(
      'state.unwritable',
      `cannot read the client id in ${file}: ${errorText(error)}; give this user a \`state-dir\` that is a directory of its own`,
      { file },
      { cause: error },
    );
  }
}

/** Written beside, synced, renamed: after a power cut there is the whole id or none. */
async function keep(file: string, id: string): Promise<void> {
  const draft = `${file}.${randomUUID()}.tmp`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    // Exclusive, so that no link laid out by somebody else is followed.
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(`${id}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
    const directory = await open(dirname(file), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw new AgentError(
      'state.unwritable',
      `cannot keep a new client id in ${file}: ${errorText(error)}; give this user a writable \`state-dir\``,
      { file },
      { cause: error },
    );
  }
}
