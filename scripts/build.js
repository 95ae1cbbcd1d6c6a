/**
 * Builds dist/: the programs (yggd, ygg, first-use), the library (index, worker), its types, the shipped workers, and
 * what makes shells complete the programs.
 *
 * Programs have everything inside but native packages, and are split so that what is seldom needed is read only then
 * (programs.js). The library leaves its packages outside. The worker SDK has them in one file, since workers are started
 * often, and a shipped worker is one file without extension that runs wherever it is copied: Node 20.19 and later see by
 * its syntax that it is a module (no package.json above it may say commonjs).
 *
 * Flags: --no-types skips tsc; --partial makes a missing entry a note instead of a failure; --fault builds nothing but
 * build/fault/yggd.js, the daemon with the crash points of src/crash-point.ts in it, which nothing that ships has.
 */
import { execFile, spawn } from 'node:child_process';
import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { URL, fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { makeCodeCache } from './code-cache.js';
import { buildPrograms } from './programs.js';
import { native, withoutUnused } from './unused.js';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const withTypes = !process.argv.includes('--no-types');
const isPartial = process.argv.includes('--partial');
const isFault = process.argv.includes('--fault');

const SHEBANG = '#!/usr/bin/env node';
const programs = { yggd: 'src/cli/yggd.ts', ygg: 'src/cli/ygg.ts', 'first-use': 'src/cli/first-use.ts' };
const library = { index: 'src/index.ts' };
const sdk = { worker: 'src/worker/index.ts' };

// What CommonJS packages expect to find around them once they stand inside an ES module.
const commonJsGround = [
  "import { createRequire as createRequireOfBundle } from 'node:module';",
  "import { fileURLToPath as pathOfBundle } from 'node:url';",
  'const require = createRequireOfBundle(import.meta.url);',
  'const __filename = pathOfBundle(import.meta.url);',
  "const __dirname = pathOfBundle(new URL('.', import.meta.url));",
].join('\n');

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node20',
  sourcemap: 'linked',
  legalComments: 'none',
  logLevel: 'warning',
  // The statements under this label are crash points.
  dropLabels: isFault ? [] : ['FAULT'],
  // The SDK by the name its users write.
  alias: { 'yggdrasil-agent/worker': './src/worker/index.ts' },
};
const modules = { ...common, format: 'esm', splitting: true, outdir: dist, chunkNames: 'chunks/[name]-[hash]' };

const missing = [];
const started = Date.now();
try {
  if (isFault) await buildFaultDaemon();
  else await buildAll();
} catch (error) {
  // esbuild and tsc have already told what is wrong, and where.
  process.stderr.write(`cannot build dist: ${error.message}\n`);
  process.exit(1);
}
for (const file of missing) say(`${isPartial ? 'skipped' : 'missing'}: ${file}`);
say(`built ${isFault ? 'build/fault' : 'dist'} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
if (missing.length > 0 && !isPartial) process.exitCode = 1;

async function buildAll() {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  await Promise.all([
    buildAllPrograms(),
    buildLibrary(),
    buildSdk(),
    buildWorkers(),
    withTypes ? buildTypes() : undefined,
  ]);
  // For the Node that builds. Without it all works as well, and starts more slowly.
  await makeCodeCache(dist).catch((error) => say(`note: ${error.message}`));
  if (!missing.includes(programs.ygg)) await writeCompletions();
}

/** dist/completions, under the names that each shell looks for. */
async function writeCompletions() {
  const files = { bash: 'ygg', zsh: '_ygg', fish: 'ygg.fish' };
  await mkdir(join(dist, 'completions'), { recursive: true });
  await Promise.all(
    Object.entries(files).map(async ([shell, name]) => {
      const { stdout } = await execute(process.execPath, [join(dist, 'ygg.js'), 'completion', shell]);
      await mkdir(join(dist, 'completions', shell));
      await writeFile(join(dist, 'completions', shell, name), stdout);
    }),
  );
}

async function buildFaultDaemon() {
  const outdir = join(root, 'build/fault');
  await rm(outdir, { recursive: true, force: true });
  const entryPoints = { yggd: programs.yggd };
  await build({ ...modules, outdir, entryPoints, external: native, banner: { js: commonJsGround } });
}

async function buildAllPrograms() {
  const entries = await present(programs);
  if (Object.keys(entries).length === 0) return;
  await Promise.all((await buildPrograms({ common, dist, entries })).map(makeExecutable));
}

async function buildLibrary() {
  const entryPoints = await present(library);
  if (Object.keys(entryPoints).length === 0) return;
  await build({ ...modules, entryPoints, packages: 'external' });
}

/** dist/workers/<name>: TypeScript ones bundled, those of other languages as they are. */
async function buildWorkers() {
  const folders = await readdir(join(root, 'workers'), { withFileTypes: true }).catch(() => []);
  const files = [];
  for (const folder of folders.filter((entry) => entry.isDirectory())) {
    for (const name of await readdir(join(root, 'workers', folder.name)))
      files.push(join('workers', folder.name, name));
  }
  if (files.length === 0) missing.push('workers/');
  await mkdir(join(dist, 'workers'), { recursive: true });
  await Promise.all(
    files.map(async (file) => {
      const name = file.slice(file.lastIndexOf('/') + 1);
      if (name.endsWith('worker.ts')) await bundleWorker(file, join(dist, 'workers', name.slice(0, -'.ts'.length)));
      else if (name.endsWith('worker')) await copyWorker(file, join(dist, 'workers', name));
    }),
  );
}

async function bundleWorker(source, target) {
  await bundleForWorkers(source, target, false);
  await makeExecutable(target);
}

async function buildSdk() {
  const entries = await present(sdk);
  await Promise.all(
    Object.entries(entries).map(([name, file]) => bundleForWorkers(file, join(dist, `${name}.js`), 'linked')),
  );
}

/** One file, and small: each start of a worker reads and compiles it. */
function bundleForWorkers(source, outfile, sourcemap) {
  return build({
    ...common,
    ...withoutUnused,
    alias: { ...common.alias, ...withoutUnused.alias },
    entryPoints: [source],
    outfile,
    format: 'esm',
    sourcemap,
    keepNames: false,
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: 160,
    external: native,
    banner: { js: commonJsGround },
  });
}

async function copyWorker(source, target) {
  if ((await stat(join(root, source))).isDirectory()) return;
  await copyFile(join(root, source), target);
  await chmod(target, 0o755);
}

async function buildTypes() {
  const wanted = { ...library, ...sdk };
  if (Object.keys(await present(wanted, () => undefined)).length < Object.keys(wanted).length) return;
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', 'tsconfig.types.json']);
}

/** Puts the shebang on the first line, shifts the source map along, and sets the mode. */
async function makeExecutable(file) {
  const text = await readFile(file, 'utf8');
  if (!text.startsWith('#!')) {
    await writeFile(file, `${SHEBANG}\n${text}`);
    const map = await readFile(`${file}.map`, 'utf8').then(JSON.parse, () => undefined);
    if (map !== undefined) await writeFile(`${file}.map`, JSON.stringify({ ...map, mappings: `;${map.mappings}` }));
  }
  await chmod(file, 0o755);
}

/** Those of `entries` whose file is there; the others are noted. */
async function present(entries, note = (file) => missing.push(file)) {
  const found = {};
  for (const [name, file] of Object.entries(entries)) {
    const isThere = await stat(join(root, file)).then(
      () => true,
      () => false,
    );
    if (isThere) found[name] = file;
    else note(file);
  }
  return found;
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit' });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`${args[0]} ended with ${String(code)}`))));
  });
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
