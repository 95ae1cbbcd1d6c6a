/** `ygg doctor` as it ships, and what it found. */
import { ygg } from './ygg.js';
import type { Home } from './yggd.js';

export interface Found {
  readonly check: string;
  readonly about: string;
  readonly outcome: 'ok' | 'warning' | 'failed' | 'skipped';
  readonly seen: string;
  readonly todo: string;
}

export interface Doctor {
  readonly code: number | null;
  readonly findings: readonly Found[];
  /** The findings of a check, about something where that is named; throws when there is none. */
  of(check: string, about?: string): readonly Found[];
  /** The only one. */
  one(check: string, about?: string): Found;
}

/** The flags that name the directories of an agent that does not run. */
export function directoriesOf(home: Home): readonly string[] {
  return [
    `--config-dir=${home.path('config')}`,
    `--state-dir=${home.path('state')}`,
    `--worker-dir=${home.path('workers')}`,
  ];
}

/** Examines the agent of `home`; `words` are further flags. */
export async function doctor(home: Home, words: readonly string[] = [], uid?: number): Promise<Doctor> {
  const { code, stdout, stderr } = await ygg(home, ['doctor', '--json', '--timeout=5s', ...words], uid);
  if (stderr !== '' || stdout === '') throw new Error(`ygg doctor: exit ${code}: ${stderr}`);
  const { findings } = JSON.parse(stdout) as { readonly findings: readonly Found[] };
  const of: Doctor['of'] = (check, about) => {
    const found = findings.filter((each) => each.check === check && (about === undefined || each.about === about));
    if (found.length === 0) throw new Error(`doctor says nothing of ${check} ${about ?? ''}:\n${stdout}`);
    return found;
  };
  return {
    code,
    findings,
    of,
    one: (check, about) => {
      const [first, ...rest] = of(check, about);
      if (first === undefined || rest.length > 0)
        throw new Error(`doctor says more than one thing of ${check}:\n${stdout}`);
      return first;
    },
  };
}
