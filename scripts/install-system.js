/**
 * Puts the built agent in place as a system service and writes a manifest, so that uninstall-system takes away exactly
 * this. Run again it is an upgrade: files of the version before that are no longer needed go, config.toml stays.
 * Each file is replaced by rename, so a running agent or worker never sees half of one.
 *
 * npm run install-system -- [--prefix DIR] [--node PATH], with DESTDIR for packagers.
 */
import { spawnSync } from 'node:child_process';
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  symlink,
  writeFile,
  chmod,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { makeCodeCache } from './code-cache.js';
import {
  digestOf,
  fill,
  layoutOf,
  optionsFrom,
  readManifest,
  withoutNotify,
  withShebang,
  isScript,
} from './installation.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** Of these and what they need, the bundles load the native parts. */
const NATIVE = ['lmdb', 'koffi'];
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
  const values = { PREFIX: prefix, VERSION: packageJson.version };
  const before = await readManifest(join(destdir, layout.manifest));
  const place = placer(destdir, before);
  const packages = nativePackages();
  const hasKoffi = packages.has('koffi');

  try {
    await place.program(join(layout.home, 'package.json'), minimalPackage(packageJson));
    await placeBundles(place, layout, node);
    for (const [name, folder] of packages) await place.tree(folder, join(layout.home, 'node_modules', name));
    await placeWorkers(place, layout, node, destdir);
    await placeSystem(place, layout, values, hasKoffi);
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

/** The two programs and the code they share; not the library, not first-use. Their first line names this node. */
async function placeBundles(place, layout, node) {
  const chunks = (await readdir(join(root, 'dist/chunks')).catch(() => [])).filter((file) => file.endsWith('.cjs'));
  const programs = ['yggd.js', 'ygg.js'];
  for (const name of [...programs, ...chunks.map((file) => `chunks/${file}`)]) {
    const content = await readFile(join(root, 'dist', name));
    await place.program(join(layout.home, 'dist', name), withShebang(content, node), isScript(content) ? 0o755 : 0o644);
  }
  for (const name of programs) {
    const target = join(layout.home, 'dist', name);
    await place.link(join(layout.bin, name.slice(0, -'.js'.length)), relative(layout.bin, target));
  }
  await placeCodeCache(place, layout, node);
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

/** Name → folder of each package the bundles leave outside, with what those need, as npm resolved it. */
function nativePackages() {
  const found = new Map();
  const visit = (name, from) => {
    if (found.has(name)) return;
    const folder = packageFolder(name, from);
    if (folder === undefined) return;
    found.set(name, folder);
    const { dependencies = {}, optionalDependencies = {} } = createRequire(import.meta.url)(
      join(folder, 'package.json'),
    );
    for (const needed of Object.keys({ ...dependencies, ...optionalDependencies })) visit(needed, folder);
  };
  for (const name of NATIVE) visit(name, root);
  if (!found.has('lmdb')) throw new Error('lmdb is not in node_modules; run npm install');
  return found;
}

function packageFolder(name, from) {
  const places = createRequire(join(from, 'package.json')).resolve.paths(name) ?? [];
  for (const place of places) {
    try {
      return dirname(createRequire(import.meta.url).resolve(join(place, name, 'package.json')));
    } catch {
      // Not in this node_modules: the next one up is asked.
    }
  }
  return undefined;
}

async function placeWorkers(place, layout, node, destdir) {
  const hasPython =
    destdir !== '' ||
    spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' }).status === 0;
  for (const name of (await readdir(join(root, 'dist/workers'))).sort()) {
    const content = await readFile(join(root, 'dist/workers', name));
    if (!hasPython && /^#!.*python/u.test(content.subarray(0, 80).toString())) {
      notes.push(`${name} is left out: it needs python3-grpcio and python3-protobuf.`);
    } else await place.program(join(layout.workers, name), withShebang(content, node), 0o755);
  }
}

async function placeSystem(place, layout, values, hasKoffi) {
  const template = async (name) => fill(await readFile(join(root, 'systemd', name), 'utf8'), values);
  const unit = await template('yggd.service');
  const dropIn = 'yggd.service.d/root-workers.conf.example';
  await place.program(join(layout.units, 'yggd.service'), hasKoffi ? unit : withoutNotify(unit));
  await place.program(join(layout.units, dropIn), await template(dropIn));
  await place.program(join(layout.sysusers, 'yggdrasil.conf'), await template('sysusers.d/yggdrasil.conf'));
  await place.program(join(layout.tmpfiles, 'yggdrasil.conf'), await template('tmpfiles.d/yggdrasil.conf'));
  await place.program(join(layout.pkgconfig, 'yggdrasil.pc'), await template('yggdrasil.pc'));
}

/** config.toml is the operator's: it is written once, and remembered as ours only while it is as we wrote it. */
async function placeConfig(place, layout, destdir, before) {
  await place.folder(layout.workerConfigs);
  const isThere = await lstat(join(destdir, layout.config)).then(
    () => true,
    () => false,
  );
  if (!isThere) await place.program(layout.config, await readFile(join(root, 'config.example.toml'), 'utf8'));
  else {
    if (before.files[layout.config] !== undefined) place.files[layout.config] = before.files[layout.config];
    notes.push(`${layout.config} was there and is left as it is.`);
  }
}

/** Writes below DESTDIR and remembers each file's digest (a link's target) and each directory it had to make. */
function placer(destdir, before) {
  const files = {};
  const directories = new Set(before.directories);
  const folder = async (path) => {
    const made = [];
    for (let at = path; at !== '/' && !(await exists(join(destdir, at))); at = dirname(at)) made.unshift(at);
    for (const at of made) {
      await mkdir(join(destdir, at), { recursive: true });
      // Whatever the umask: an unprivileged daemon and its workers must get here.
      await chmod(join(destdir, at), 0o755);
      directories.add(at);
    }
  };
  const replace = async (path, write) => {
    await folder(dirname(path));
    // A name that ends in no `worker`, so that a running agent does not start half a worker.
    const next = join(destdir, dirname(path), `.${process.pid}.new`);
    await rm(next, { force: true });
    await write(next);
    await rename(next, join(destdir, path));
  };
  const program = async (path, content, mode = 0o644) => {
    await replace(path, async (next) => {
      await writeFile(next, content);
      await chmod(next, mode);
    });
    files[path] = digestOf(content);
  };
  const link = async (path, target) => {
    await replace(path, (next) => symlink(target, next));
    files[path] = `-> ${target}`;
  };
  const tree = async (from, path) => {
    for (const entry of await readdir(from, { withFileTypes: true })) {
      const source = join(from, entry.name);
      if (entry.isDirectory()) {
        // Headers and sources to compile, and documents: nothing that runs.
        if (!['dependencies', 'doc', 'vendor', 'test'].includes(entry.name)) await tree(source, join(path, entry.name));
      } else if (entry.isFile()) await program(join(path, entry.name), await readFile(source));
    }
  };
  return { files, directories, folder, program, link, tree };
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

/** Enough for Node to take the bundles as modules, and for them to tell their version. */
function minimalPackage({ name, version, license }) {
  return `${JSON.stringify({ name, version, license, type: 'module', private: true }, null, 2)}\n`;
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

async function exists(path) {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

function explain(error) {
  if (error.code === 'ENOENT' && error.path?.startsWith(root))
    return `${error.path} is missing; run npm run build first`;
  if (error.code === undefined) return error.message;
  return `${error.message}; run as root, or give --prefix or DESTDIR a directory you may write`;
}
