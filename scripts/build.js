/**
 * Builds dist/: the programs (yggd, ygg, first-use), the library (index, worker), its types and the shipped workers.
 *
 * Programs are ES modules with everything inside but native packages, and split so that what is seldom needed is read
 * only then. The library leaves its packages outside. A worker is one file without extension that runs wherever it is
 * copied: Node 20.19 and later see by its syntax that it is a module (no package.json above it may say commonjs).
 *
 * Flags: --no-types skips tsc; --partial makes a missing entry a note instead of a failure; --fault builds nothing but
 * build/fault/yggd.js, the daemon with the crash points of src/crash-point.ts in it, which nothing that ships has.
 */
import { spawn } from 'node:child_process';
import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { URL, fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const withTypes = !process.argv.includes('--no-types');
const isPartial = process.argv.includes('--partial');
const isFault = process.argv.includes('--fault');

const SHEBANG = '#!/usr/bin/env node';
const programs = { yggd: 'src/cli/yggd.ts', ygg: 'src/cli/ygg.ts', 'first-use': 'src/cli/first-use.ts' };
const library = { index: 'src/index.ts', worker: 'src/worker/index.ts' };

// Native, or wanted only by a package that does without: these stay in node_modules.
const native = ['lmdb', 'koffi', 'bufferutil', 'utf-8-validate'];

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
  await Promise.all([buildPrograms(), buildLibrary(), buildWorkers(), withTypes ? buildTypes() : undefined]);
}

async function buildFaultDaemon() {
  const outdir = join(root, 'build/fault');
  await rm(outdir, { recursive: true, force: true });
  const entryPoints = { yggd: programs.yggd };
  await build({ ...modules, outdir, entryPoints, external: native, banner: { js: commonJsGround } });
}

async function buildPrograms() {
  const entryPoints = await present(programs);
  if (Object.keys(entryPoints).length === 0) return;
  await build({ ...modules, entryPoints, external: native, banner: { js: commonJsGround } });
  await Promise.all(Object.keys(entryPoints).map((name) => makeExecutable(join(dist, `${name}.js`))));
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
  await build({
    ...common,
    entryPoints: [source],
    outfile: target,
    format: 'esm',
    sourcemap: false,
    banner: { js: commonJsGround },
  });
  await makeExecutable(target);
}

async function copyWorker(source, target) {
  if ((await stat(join(root, source))).isDirectory()) return;
  await copyFile(join(root, source), target);
  await chmod(target, 0o755);
}

async function buildTypes() {
  if (Object.keys(await present(library, () => undefined)).length < Object.keys(library).length) return;
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
