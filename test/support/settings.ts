/** Loading settings the way a test wants them: files from memory, an environment and a user of its own. */
import { loadSettings, type LoadOptions, type LoadResult, type Settings } from '../../src/config/load.js';
import { describeProblem } from '../../src/config/problem.js';

export interface TestLoad extends Omit<LoadOptions, 'readText'> {
  /** Path → text; a file that is not here does not exist. */
  readonly files?: Readonly<Record<string, string>>;
}

export function load({ files = {}, ...options }: TestLoad = {}): Promise<LoadResult> {
  return loadSettings({
    argv: [],
    env: {},
    uid: 0,
    homedir: () => '/home/ann',
    cwd: '/cwd',
    ...options,
    readText: (path) => {
      const text = files[path];
      return text === undefined
        ? Promise.reject(Object.assign(new Error('no such file'), { code: 'ENOENT' }))
        : Promise.resolve(text);
    },
  });
}

/** The settings and the warnings as lines; fails the test when there are problems. */
export async function loaded(options: TestLoad = {}): Promise<{ settings: Settings; warnings: readonly string[] }> {
  const result = await load({ ...options, argv: ['--broker', 'mqtt://b', ...(options.argv ?? [])] });
  if (result.kind !== 'ok') throw new Error(JSON.stringify(result));
  return { settings: result.settings, warnings: result.warnings.map(describeProblem) };
}

/** The problems as lines. */
export async function problemsOf(options: TestLoad): Promise<readonly string[]> {
  const result = await load(options);
  return result.kind === 'invalid' ? result.problems.map(describeProblem) : [];
}
