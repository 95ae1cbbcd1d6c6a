/** The service unit of this machine: its files, and what systemd knows of it where it runs. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.js';
import { mergeUnit, type UnitSettings, type UnitText } from './unit-file.js';

export type UnitLook =
  | {
      readonly kind: 'found';
      /** The unit itself, then its drop-ins. */
      readonly files: readonly UnitText[];
      readonly settings: UnitSettings;
      readonly state: UnitState | undefined;
      readonly mainPid: number | undefined;
    }
  | { readonly kind: 'missing'; readonly directories: readonly string[]; readonly isSystemd: boolean }
  | { readonly kind: 'unreadable'; readonly path: string; readonly reason: string };

/** As systemctl tells it; undefined where no systemd runs. */
export interface UnitState {
  readonly active: string;
  readonly sub: string;
  readonly enabled: string;
  readonly result: string;
  readonly restarts: number;
  readonly needsReload: boolean;
}

/** Later directories give way to earlier ones (systemd.unit(5)). */
export const UNIT_DIRECTORIES = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
] as const;

const UNIT = 'yggd.service';
const RUNNING_SYSTEMD = '/run/systemd/system';

export async function lookAtUnit(
  scope: AbortSignal,
  directories: readonly string[] = UNIT_DIRECTORIES,
): Promise<UnitLook> {
  const told = await askSystemd(scope);
  for (const directory of directories) {
    const path = join(directory, UNIT);
    try {
      const unit = { path, text: await readFile(path, 'utf8') };
      const files = [unit, ...(await dropIns(directories))];
      const pid = Number(told?.get('MainPID') ?? 0);
      return {
        ...{ kind: 'found', files, settings: mergeUnit(files), state: told && stateOf(told) },
        mainPid: pid > 0 ? pid : undefined,
      };
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') return { kind: 'unreadable', path, reason: code };
    }
  }
  return { kind: 'missing', directories, isSystemd: told !== undefined };
}

/** In the order in which they count: by name, one of an earlier directory hides its namesakes. */
async function dropIns(directories: readonly string[]): Promise<readonly UnitText[]> {
  const paths = new Map<string, string>();
  for (const directory of directories.toReversed()) {
    const below = join(directory, `${UNIT}.d`);
    const names = await readdir(below).catch(() => []);
    for (const name of names.filter((each) => each.endsWith('.conf'))) paths.set(name, join(below, name));
  }
  const sorted = [...paths].toSorted(([one], [other]) => (one < other ? -1 : 1));
  const read = sorted.map(async ([, path]) => ({ path, text: await readFile(path, 'utf8').catch(() => '') }));
  return Promise.all(read);
}

async function askSystemd(scope: AbortSignal): Promise<ReadonlyMap<string, string> | undefined> {
  const isRunning = await readdir(RUNNING_SYSTEMD).then(
    () => true,
    () => false,
  );
  if (!isRunning) return undefined;
  const properties = 'ActiveState,SubState,UnitFileState,Result,NRestarts,NeedDaemonReload,MainPID';
  const ran = await run('systemctl', ['show', UNIT, `--property=${properties}`], scope);
  if (ran.kind !== 'ran' || ran.code !== 0) return undefined;
  return new Map(
    ran.stdout.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

function stateOf(told: ReadonlyMap<string, string>): UnitState {
  const text = (name: string): string => told.get(name) ?? '';
  return {
    active: text('ActiveState'),
    sub: text('SubState'),
    enabled: text('UnitFileState'),
    result: text('Result'),
    restarts: Number(text('NRestarts') || 0),
    needsReload: text('NeedDaemonReload') === 'yes',
  };
}
