/**
 * Builds the package for Debian out of a built clone, with dpkg-deb: it brings its own Node and native modules.
 *
 * npm run deb -- [--arch amd64|arm64] [--out DIR] [--version X.Y.Z] [--fast]
 *
 * The same clone gives the same bytes: files in order, of root, with the time of the last commit (SOURCE_DATE_EPOCH
 * names another). --version is for trying an upgrade, --fast packs lightly, for tests.
 */
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, utimes, lutimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { nodeArch, run } from './carried.js';
import { fillControl, fillTree } from './content.js';
import { isElf, libraryDependencies } from './needs.js';
import { controlFile, debianVersion, maintainer, PACKAGE } from './papers.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const EX_USAGE = 64;

try {
  const options = optionsFrom(process.argv.slice(2));
  process.stdout.write(`${await build(options)}\n`);
} catch (error) {
  process.stderr.write(`cannot build the package: ${explain(error)}\n`);
  process.exitCode = error.code?.startsWith('ERR_PARSE_ARGS') ? EX_USAGE : 1;
}

function optionsFrom(args) {
  const { values } = parseArgs({
    args,
    options: {
      arch: { type: 'string' },
      out: { type: 'string', default: join(root, 'build/deb') },
      version: { type: 'string' },
      fast: { type: 'boolean', default: false },
    },
  });
  const arch = values.arch ?? run('dpkg', ['--print-architecture']).trim();
  nodeArch(arch);
  return { ...values, arch, out: resolve(values.out) };
}

/** The path of the package. */
async function build({ arch, out, version: wanted, fast }) {
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const version = debianVersion(wanted ?? manifest.version);
  const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? run('git', ['log', '-1', '--format=%ct'], { cwd: root }));
  const packager = maintainer(process.env);
  const work = await mkdtemp(join(tmpdir(), 'yggdrasil-deb-'));
  try {
    const tree = join(work, 'tree');
    await mkdir(tree, { mode: 0o755 });
    await chmod(tree, 0o755);
    await fillTree(root, tree, {
      arch,
      work: join(work, 'carried'),
      manifest: { ...manifest, version: wanted ?? manifest.version },
      papers: { version, packager, date: new Date(epoch * 1000) },
    });
    const { files, elves, size } = await inventory(tree);
    const control = controlFile({ version, arch, size, depends: libraryDependencies(elves), packager });
    await fillControl(root, tree, { control, files });
    await setTimes(tree, epoch);
    await mkdir(out, { recursive: true });
    const target = join(out, `${PACKAGE}_${version}_${arch}.deb`);
    const packing = fast ? ['-Zgzip', '-z1'] : ['-Zxz', '-z6'];
    run('dpkg-deb', ['--build', '--root-owner-group', ...packing, tree, target], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) },
    });
    return target;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Files with their digests, those that are ELF, and KiB on the disk as Debian counts. */
async function inventory(tree) {
  const files = [];
  const elves = [];
  let size = 0;
  for (const path of await walk(tree)) {
    const name = relative(tree, path);
    const entry = await lstat(path);
    size += entry.isFile() ? Math.ceil(entry.size / 1024) : 1;
    if (!entry.isFile()) continue;
    const content = await readFile(path);
    if (isElf(content)) elves.push(path);
    // What dpkg keeps as a conffile has its digest elsewhere.
    if (!name.startsWith('etc/')) files.push({ path: name, md5: createHash('md5').update(content).digest('hex') });
  }
  return { files, elves, size };
}

/** All that is below a directory, in order; links are not followed (as `recursive` of readdir does). */
async function walk(directory) {
  const entries = await readdir(directory, { withFileTypes: true });
  const found = [];
  for (const entry of entries.sort((one, other) => (one.name < other.name ? -1 : 1))) {
    const path = join(directory, entry.name);
    found.push(path, ...(entry.isDirectory() ? await walk(path) : []));
  }
  return found;
}

/** All of one time: what the files came from has times of its own. */
async function setTimes(tree, epoch) {
  for (const path of await walk(tree)) {
    const isLink = (await lstat(path)).isSymbolicLink();
    await (isLink ? lutimes : utimes)(path, epoch, epoch);
  }
  await utimes(tree, epoch, epoch);
}

function explain(error) {
  if (error.code === 'ENOENT' && error.path?.startsWith(root))
    return `${error.path} is missing; run npm run build first`;
  return error.message;
}
