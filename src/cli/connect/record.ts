/**
 * What `ygg connect` did, kept beside the configuration, so that `ygg disconnect` undoes that and nothing else, and
 * `ygg status` tells it. It holds no secret.
 */
import { join } from 'node:path';
import { AgentError } from '../../errors.js';
import { place, readIfThere, remove } from './files.js';

export interface EnrolmentRecord {
  /** Files that were copied or made. */
  readonly files: readonly string[];
  /** Settings that were written, as they were written. */
  readonly settings: Readonly<Record<string, string | readonly string[]>>;
  /** The name of a signing request that waits for its certificate, or of the certificate that came. */
  readonly clientId?: string;
  /** The consumer that the registration service made of this machine. */
  readonly consumer?: string;
}

export const NO_RECORD: EnrolmentRecord = { files: [], settings: {} };

export function recordFile(configDir: string): string {
  return join(configDir, 'enrolment.json');
}

/** Nothing done yet where there is none. Throws `connect.file` for one that cannot be read or is none. */
export async function readRecord(configDir: string): Promise<EnrolmentRecord> {
  const path = recordFile(configDir);
  const file = await readIfThere(path);
  if (file === undefined) return NO_RECORD;
  const record = parseRecord(file.bytes.toString('utf8'));
  if (record === undefined)
    throw new AgentError('connect.file', `${path} is no record of ygg connect: remove it, and run ygg connect again`);
  return record;
}

export async function writeRecord(configDir: string, record: EnrolmentRecord): Promise<void> {
  const content = `${JSON.stringify(record, null, 2)}\n`;
  await place({ path: recordFile(configDir), content, mode: 0o644, gid: 0 });
}

export async function removeRecord(configDir: string): Promise<void> {
  await remove(recordFile(configDir));
}

function parseRecord(text: string): EnrolmentRecord | undefined {
  try {
    const value = JSON.parse(text) as Readonly<Record<string, unknown>> | null;
    if (
      value === null ||
      !isTexts(value['files']) ||
      typeof value['settings'] !== 'object' ||
      value['settings'] === null
    )
      return undefined;
    const settings = Object.entries(value['settings']);
    const { files, clientId, consumer } = value;
    if (
      !settings.every(
        (entry): entry is [string, string | string[]] => typeof entry[1] === 'string' || isTexts(entry[1]),
      )
    )
      return undefined;
    return {
      files,
      settings: Object.fromEntries(settings),
      ...(typeof clientId === 'string' ? { clientId } : {}),
      ...(typeof consumer === 'string' ? { consumer } : {}),
    };
  } catch {
    // No JSON.
    return undefined;
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
