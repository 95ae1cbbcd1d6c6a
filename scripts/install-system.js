/**
 * Puts the built agent in place as a system service and writes a manifest, so that uninstall-system takes away exactly
 * this. Run again it is an upgrade: files of the version before that are no longer needed go, config.toml stays.
 * Each file is replaced by rename, so a running agent or worker never sees half of one.
 *
 * npm run install-system -- [--prefix DIR] [--node PATH], with DESTDIR for packagers.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { makeCodeCache } from './code-cache.js';
import { layoutOf, optionsFrom, readManifest } from './installation.js';
import {
  exists,
  isPython,
  minimalPackage,
  nativePackages,
  placeBundles,
  placeManual,
  placer,
  placeSystem,
  placeWorkers,
} from './placement.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const notes = [];

try {
  const options = optionsFrom(process.argv.slice(2), process.env);
  await install(options);
} catch (error) {
  process.stderr.write(`cannot install: ${explain(error)}\n`);
  process.exitCode = error.code === undefined ? 64 : 73;
}

async function install({ prefix, node, destdir }) {
  const layout = layoutOf(prefix);
  const packageJson = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const values = { PREFIX: prefix, SBIN: layout.sbin, VERSION: packageJson.version };
  const before = await readManifest(join(destdir, layout.manifest));
  const place = placer(destdir, before);
  const packages = nativePackages(root);
  const hasKoffi = packages.has('koffi');

  try {
    await place.program(join(layout.home, 'package.json'), minimalPackage(packageJson));
    await placeBundles(root, place, layout, node);
    await placeCodeCache(place, layout, node);
    for (const [name, folder] of packages) await place.tree(folder, join(layout.home, 'node_modules', name));
    await placeWorkers(root, place, layout.workers, node, runnable(destdir));
    await placeManual(root, place, layout);
    await placeSystem(root, place, layout, values, hasKoffi);
    await placeConfig(place, layout, destdir, before);
  } catch (error) {
    // What was placed so far, and what was there before, can still be taken away.
    await placeManifest(place, layout, packageJson, prefix, { ...before.files, ...place.files }).catch(() => undefined);
    throw error;
  }
  await placeManifest(place, layout, packageJson, prefix, place.files);
  await removeStale(destdir, before, place.files);
  if (!hasKoffi)
    notes.push(
      'koffi is not installed: the unit is Type=exec without a watchdog (npm install koffi, then install again).',
    );
  noteNode(node, destdir);
  sayNext(layout, destdir);
}

/** V8's code cache, made by the Node that will run: it lies beside the code and is as safe as that is. */
async function placeCodeCache(place, layout, node) {
  const made = await mkdtemp(join(tmpdir(), 'yggd-install-'));
  try {
    await makeCodeCache(join(root, 'dist'), made, node);
    for (const file of await readdir(join(made, 'chunks'))) {
      await place.program(join(layout.home, 'dist/chunks', file), await readFile(join(made, 'chunks', file)));
    }
  } catch (error) {
    notes.push(`the programs will start more slowly: ${error.message}`);
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}

async function placeManifest(place, layout, { version }, prefix, files) {
  const manifest = { version, prefix, files, directories: [...place.directories] };
  await place.program(layout.manifest, `${JSON.stringify(manifest, null, 1)}\n`);
}

/** Python workers only where they can run; a packager decides by itself. */
function runnable(destdir) {
  const hasPython =
    destdir !== '' ||
    spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' }).status === 0;
  return (name, content) => {
    if (hasPython || !isPython(content)) return true;
    notes.push(`${name} is left out: it needs python3-grpcio and python3-protobuf.`);
    return false;
  };
}

/** config.toml is the operator's: it is written once, and remembered as ours only while it is as we wrote it. */
async function placeConfig(place, layout, destdir, before) {
  await place.folder(layout.workerConfigs);
  const isThere = await exists(join(destdir, layout.config));
  if (!isThere) await place.program(layout.config, await readFile(join(root, 'config.example.toml'), 'utf8'));
  else {
    if (before.files[layout.config] !== undefined) place.files[layout.config] = before.files[layout.config];
    notes.push(`${layout.config} was there and is left as it is.`);
  }
}

async function removeStale(destdir, before, files) {
  for (const path of Object.keys(before.files)) {
    if (files[path] === undefined) await rm(join(destdir, path), { force: true });
  }
  for (const path of [...before.directories].sort().reverse()) {
    await rmdir(join(destdir, path)).catch(() => {
      // Not empty, or not there: then it is not stale.
    });
  }
}

function noteNode(node, destdir) {
  if (destdir !== '') return;
  if (/^\/(?:root|home)\//u.test(node)) {
    notes.push(`${node} lies where the daemon’s user cannot go: install Node system-wide, or give --node PATH.`);
  }
}

function sayNext(layout, destdir) {
  const lines = [
    `installed below ${destdir}${dirname(layout.bin)}; uninstall-system takes it away again`,
    ...notes.map((note) => `note: ${note}`),
    'what next:',
    `  1. set \`broker\` in ${layout.config}, then check it: ${layout.bin}/yggd --check-config`,
    `  2. systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload`,
    `  3. systemctl enable --now yggd`,
    `  4. put workers into ${layout.workers}, their settings into ${layout.workerConfigs}`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function explain(error) {
  if (error.code === 'ENOENT' && error.path?.startsWith(root))
    return `${error.path} is missing; run npm run build first`;
  if (error.code === undefined) return error.message;
  return `${error.message}; run as root, or give --prefix or DESTDIR a directory you may write`;
}
