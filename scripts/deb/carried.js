/**
 * What the package for Debian carries of other architectures' packages of npm: Node itself and the native modules.
 * Each is fetched with npm, from the registry that npm is set up for, and taken only if its digest is the pinned one:
 * of Node carried.json has it, of the modules package-lock.json.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Files of each package that are loaded; no musl, no other Node, no sources. @ARCH@ is Node's name of it. */
const FILES = {
  '@lmdb/lmdb-linux-@ARCH@': ['package.json', 'index.js', 'node.napi.glibc.node'],
  '@koromix/koffi-linux-@ARCH@': ['package.json', 'index.js', 'linux_@ARCH@/koffi.node'],
};

/** Of packages that are the same for all, out of node_modules. The bundles have lmdb's JavaScript inside. */
export const PLAIN_FILES = {
  lmdb: ['package.json', 'dist/index.cjs'],
  koffi: ['package.json', 'index.cjs', 'src/koffi/index.cjs', 'src/koffi/src/static.cjs'],
};

/** Node's name of a Debian architecture. Throws for one that we do not build. */
export function nodeArch(arch) {
  const found = { amd64: 'x64', arm64: 'arm64' }[arch];
  if (found === undefined) throw new Error(`no package is built for ${arch}: choose amd64 or arm64`);
  return found;
}

/** [{ name, version, file, path }]: files unpacked below `work`, each to lie at node_modules/NAME/FILE. */
export async function fetchNativeModules(root, arch, work) {
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  const named = (text) => text.replaceAll('@ARCH@', nodeArch(arch));
  const found = [];
  for (const [pattern, files] of Object.entries(FILES)) {
    const name = named(pattern);
    const { version, integrity } = lock.packages[`node_modules/${name}`];
    const folder = await fetchPackage(root, { name, version, integrity }, files.map(named), work);
    found.push(...files.map(named).map((file) => ({ name, version, file, path: join(folder, file) })));
  }
  return found;
}

/** { version, binary, licence }: paths of the unpacked Node and of its licence. */
export async function fetchNode(root, arch, work) {
  const { version, integrity } = JSON.parse(await readFile(join(root, 'scripts/deb/carried.json'), 'utf8'));
  const cpu = nodeArch(arch);
  const wanted = { name: `node-linux-${cpu}`, version, integrity: integrity[cpu] };
  const folder = await fetchPackage(root, wanted, ['bin/node', 'LICENSE'], work);
  return { version, binary: join(folder, 'bin/node'), licence: join(folder, 'LICENSE') };
}

/** The folder that these files of a package were unpacked to. */
async function fetchPackage(root, { name, version, integrity }, files, work) {
  const cache = join(root, 'node_modules/.cache/deb');
  const archive = join(cache, `${name.replaceAll(/[@/]/gu, '-')}-${version}.tgz`);
  await mkdir(cache, { recursive: true });
  if (!(await isAsPinned(archive, integrity))) await download(cache, archive, { name, version, integrity });
  const folder = join(work, name);
  await mkdir(folder, { recursive: true });
  const members = files.map((file) => `package/${file}`);
  run('tar', ['-xzf', archive, '-C', folder, '--strip-components=1', '--no-same-owner', ...members]);
  return folder;
}

async function download(cache, archive, { name, version, integrity }) {
  const draft = await mkdtemp(join(cache, 'draft-'));
  try {
    const words = ['pack', '--json', '--ignore-scripts', '--pack-destination', draft, `${name}@${version}`];
    const [{ filename }] = JSON.parse(run('npm', words));
    const file = join(draft, filename);
    if (!(await isAsPinned(file, integrity)))
      throw new Error(`${name}@${version} is not what is pinned: its digest is another than ${integrity}`);
    await rename(file, archive);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function isAsPinned(file, integrity) {
  const bytes = await readFile(file).catch((error) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return bytes !== undefined && `sha512-${createHash('sha512').update(bytes).digest('base64')}` === integrity;
}

/** Runs a command to its end and gives what it printed. Throws with what it complained of. */
export function run(command, words, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, words, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...options,
  });
  if (error?.code === 'ENOENT') throw new Error(`${command} is not installed`);
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${words[0]} ended with ${status}: ${stderr.trim()}`);
  return stdout;
}
