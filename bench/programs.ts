/** Bundles the small programs that a run starts beside the agent, as the agent itself is bundled. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { ROOT } from '../test/support/yggd.js';

export type ProgramName = 'echo-worker' | 'limit-echo' | 'limit-grpc' | 'limit-worker';

const SOURCES = join(ROOT, 'bench/programs');

/** Puts all programs of bench/programs into `directory`. */
export async function buildPrograms(directory: string): Promise<void> {
  const names = await readdir(SOURCES);
  await build({
    absWorkingDir: ROOT,
    entryPoints: names.map((name) => join(SOURCES, name)),
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',

    logLevel: 'warning',
    external: ['bufferutil', 'utf-8-validate'],
    // CommonJS packages look for these.
    banner: {
      js: "import { createRequire as createRequireOfBundle } from 'node:module'; const require = createRequireOfBundle(import.meta.url);",
    },
  });
}

/** Where a program stands after `buildPrograms`. */
export function programPath(directory: string, name: ProgramName): string {
  return join(directory, `${name}.mjs`);
}
