/** The configuration: every problem, each with its file and line. */
import { describeProblem, type Problem, type Settings } from '../../config/index.js';
import { ERRORS } from '../../errors.js';
import { checkOf, type Finding } from './finding.js';

export interface ConfigLook {
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  /** The file that was read; undefined where there is none. */
  readonly file: string | undefined;
  /** Where more flags came from: a sentence, or nothing. */
  readonly origin: string;
  readonly settings: Settings | undefined;
}

export function judgeConfig({ problems, warnings, file, origin, settings }: ConfigLook): readonly Finding[] {
  const check = checkOf('config', file ?? settings?.configDir ?? '');
  const found = [
    ...problems.map((problem) => check.failed(describeProblem(problem), ERRORS[problem.code].remedy)),
    ...warnings.map((problem) => check.warning(describeProblem(problem), 'see that it is meant')),
  ];
  if (found.length > 0) return found;
  const read = file === undefined ? 'there is no config.toml: all settings are defaults and flags' : `${file} is right`;
  return [check.ok([read, origin].filter(Boolean).join(', '))];
}
