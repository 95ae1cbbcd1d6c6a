/** What is wrong with settings, the files they name included: as `yggd` tells it before it starts, and when it is only asked. */
import { checkCredentials, describeProblem, type Credentials, type LoadResult, type Problem } from '../config/index.js';

/** sysexits(3). */
export const EX_CONFIG = 78;

type Loaded = Extract<LoadResult, { kind: 'ok' }>;

export interface ConfigCheck {
  readonly warnings: readonly Problem[];
  readonly problems: readonly Problem[];
  /** Undefined where there are problems. */
  readonly sound: (Loaded & { readonly credentials: Credentials }) | undefined;
}

/** Reads and checks what settings name. Never throws for what a person wrote. */
export async function checkConfig(loaded: Loaded | Extract<LoadResult, { kind: 'invalid' }>): Promise<ConfigCheck> {
  const { warnings } = loaded;
  if (loaded.kind === 'invalid') return { warnings, problems: loaded.problems, sound: undefined };
  const checked = await checkCredentials(loaded.settings);
  if (checked.kind === 'invalid') return { warnings, problems: checked.problems, sound: undefined };
  const { credentials } = checked;
  return { warnings: [...warnings, ...checked.warnings], problems: [], sound: { ...loaded, credentials } };
}

/** Lines for standard error. */
export function findingLines({ warnings, problems }: ConfigCheck): readonly string[] {
  const line = (kind: string) => (problem: Problem) => `yggd: ${kind}: ${describeProblem(problem)}`;
  return [...warnings.map(line('warning')), ...problems.map(line('error'))];
}

/** What is said of settings without a problem. */
export function soundLine({ file }: Loaded): string {
  return `${file ?? 'the settings (no file was found)'}: no problems found`;
}
