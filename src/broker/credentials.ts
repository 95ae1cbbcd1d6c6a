/**
 * The embedded broker's user and password: random, kept in a file only its owner can read, the same at the next start.
 * A file that cannot be understood is replaced by a new pair; one that others could read is narrowed first.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError, errnoOf, errorText } from '../errors.js';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** Reads the pair from `file`, or makes one and writes it there. Throws `state.unwritable`. */
export async function loadCredentials(file: string): Promise<Credentials> {
  try {
    const kept = parseCredentials(await readText(file));
    const credentials = kept ?? { username: 'yggdrasil', password: randomBytes(24).toString('base64url') };
    // Written again also when it was kept: a file that was copied or widened gets its mode back.
    await writePrivately(file, `${JSON.stringify(credentials)}\n`);
    return credentials;
  } catch (cause) {
    throw new AgentError(
      'state.unwritable',
      `cannot keep the embedded broker’s password in ${file}: ${errorText(cause)}; give the daemon’s user a writable state-dir`,
      { path: file, errno: errnoOf(cause) },
      { cause },
    );
  }
}

/** Whether a client gave this pair. Takes as long for any wrong answer as for the right one. */
export function matchesCredentials(
  expected: Credentials,
  username: string | undefined,
  password: Buffer | undefined,
): boolean {
  const isUser = equalInTime(Buffer.from(username ?? ''), Buffer.from(expected.username));
  const isPassword = equalInTime(password ?? Buffer.alloc(0), Buffer.from(expected.password));
  return isUser && isPassword;
}

/** Digests have one length, so that the comparison tells nothing, not even how long the secret is. */
function equalInTime(given: Buffer, expected: Buffer): boolean {
  return timingSafeEqual(digest(given), digest(expected));
}

function digest(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

function parseCredentials(text: string): Credentials | undefined {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || !('username' in value) || !('password' in value)) return undefined;
  const { username, password } = value;
  if (typeof username !== 'string' || typeof password !== 'string' || password.length < 16) return undefined;
  return { username, password };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON, most likely cut short: the caller makes a new pair.
    return undefined;
  }
}

/** Replaced by rename, synced, and never readable by others, not even for a moment. */
async function writePrivately(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const next = `${file}.${randomBytes(4).toString('hex')}`;
  const handle = await open(next, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, file);
  const directory = await open(dirname(file), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
