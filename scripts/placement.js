/**
 * Puts the parts of an installation in place below a directory: what install-system, on the machine itself, and
 * scripts/deb, in a package, have in common. `root` is the package that was built, `layout` where things lie
 * (installation.js); nothing here knows of what was there before.
 */
import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile, chmod } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { digestOf, fill, isScript, withoutNotify, withShebang } from './installation.js';

/** Of these and what they need, the bundles load the native parts. */
const NATIVE = ['lmdb', 'koffi'];

/** Writes below DESTDIR and remembers each file's digest (a link's target) and each directory it had to make. */
export function placer(destdir, before) {
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

/** Enough for Node to take the bundles as modules, and for them to tell their version. */
export function minimalPackage({ name, version, license }) {
  return `${JSON.stringify({ name, version, license, type: 'module', private: true }, null, 2)}\n`;
}

/** The two programs and the code they share; not the library, not first-use. Their first line names this node. */
export async function placeBundles(root, place, layout, node) {
  const chunks = (await readdir(join(root, 'dist/chunks')).catch(() => [])).filter(isShippedChunk);
  const programs = ['yggd.js', 'ygg.js'];
  for (const name of [...programs, ...chunks.map((file) => `chunks/${file}`)]) {
    const content = await readFile(join(root, 'dist', name));
    await place.program(join(layout.home, 'dist', name), withShebang(content, node), isScript(content) ? 0o755 : 0o644);
  }
  for (const [name, directory] of [
    ['yggd', layout.sbin],
    ['ygg', layout.bin],
  ]) {
    await place.link(join(directory, name), relative(directory, join(layout.home, 'dist', `${name}.js`)));
  }
}

function isShippedChunk(file) {
  return file.endsWith('.cjs') && file !== 'first-use.cjs';
}

/** Name → folder of each package the bundles leave outside, with what those need, as npm resolved it. */
export function nativePackages(root) {
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

/** The shipped workers that `isWanted` lets through, by name and content. Their first line names this node. */
export async function placeWorkers(root, place, directory, node, isWanted) {
  for (const name of (await readdir(join(root, 'dist/workers'))).sort()) {
    const content = await readFile(join(root, 'dist/workers', name));
    if (isWanted(name, content)) await place.program(join(directory, name), withShebang(content, node), 0o755);
  }
}

export function isPython(content) {
  return /^#!.*python/u.test(content.subarray(0, 80).toString());
}

/** Man pages, and what makes shells complete the programs; `packed` is what is done to a page (its name, its text). */
export async function placeManual(root, place, layout, packed = (name, content) => [name, content]) {
  for (const page of await readdir(join(root, 'docs/man'))) {
    const [name, content] = packed(page, await readFile(join(root, 'docs/man', page)));
    await place.program(join(layout.man, `man${page.at(-1)}`, name), content);
  }
  for (const [shell, directory] of Object.entries(layout.completions)) {
    for (const name of await readdir(join(root, 'dist/completions', shell)))
      await place.program(join(directory, name), await readFile(join(root, 'dist/completions', shell, name)));
  }
  // bash and fish look for a file by the name of the program that is typed.
  await place.link(join(layout.completions.bash, 'yggd'), 'ygg');
  await place.link(join(layout.completions.fish, 'yggd.fish'), 'ygg.fish');
}

/** Unit, drop-in, user, directories and the pkg-config file. */
export async function placeSystem(root, place, layout, values, hasKoffi) {
  const template = async (name) => fill(await readFile(join(root, 'systemd', name), 'utf8'), values);
  const unit = await template('yggd.service');
  const dropIn = 'yggd.service.d/root-workers.conf.example';
  await place.program(join(layout.units, 'yggd.service'), hasKoffi ? unit : withoutNotify(unit));
  await place.program(join(layout.units, dropIn), await template(dropIn));
  await place.program(join(layout.sysusers, 'yggdrasil.conf'), await template('sysusers.d/yggdrasil.conf'));
  await place.program(join(layout.tmpfiles, 'yggdrasil.conf'), await template('tmpfiles.d/yggdrasil.conf'));
  await place.program(join(layout.pkgconfig, 'yggdrasil.pc'), await template('yggdrasil.pc'));
}

export async function exists(path) {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
