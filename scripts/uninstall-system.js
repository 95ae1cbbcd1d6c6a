/**
 * Takes away what install-system put in place, by its manifest: those files, and those directories it made that are
 * empty now. What an operator changed below /etc is kept, and so is the state; both are named.
 *
 * npm run uninstall-system -- [--prefix DIR], with DESTDIR as at the installation.
 */
import { spawnSync } from 'node:child_process';
import { lstat, readFile, readlink, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { digestOf, layoutOf, optionsFrom, readManifest } from './installation.js';

try {
  await uninstall(optionsFrom(process.argv.slice(2), process.env));
} catch (error) {
  process.stderr.write(`cannot uninstall: ${error.message}\n`);
  process.exitCode = error.code === undefined ? 64 : 73;
}

async function uninstall({ prefix, destdir }) {
  const layout = layoutOf(prefix);
  const manifest = await readManifest(join(destdir, layout.manifest));
  if (manifest.version === undefined) {
    throw new Error(
      `nothing of ours is installed below ${prefix} (no ${destdir}${layout.manifest}); was another --prefix given?`,
    );
  }
  if (destdir === '' && spawnSync('systemctl', ['is-active', '--quiet', 'yggd']).status === 0) {
    throw new Error('yggd is running; systemctl disable --now yggd first');
  }
  for (const [path, mark] of Object.entries(manifest.files)) {
    if (path.startsWith('/etc/') && (await isChanged(join(destdir, path), mark)))
      say(`kept, since it was changed: ${path}`);
    else await rm(join(destdir, path), { force: true });
  }
  await rm(join(destdir, layout.manifest));
  for (const path of [...manifest.directories].sort().reverse()) await removeEmpty(destdir, path);
  if (await isThere(join(destdir, '/var/lib/yggdrasil'))) {
    say('kept: /var/lib/yggdrasil, the messages not yet delivered (rm -r /var/lib/yggdrasil takes them away)');
  }
  say(`uninstalled ${manifest.version} from ${destdir}${prefix}`);
  if (destdir === '') say('what next: systemctl daemon-reload; userdel yggdrasil');
}

async function isChanged(path, mark) {
  try {
    return mark.startsWith('-> ') ? `-> ${await readlink(path)}` !== mark : digestOf(await readFile(path)) !== mark;
  } catch (error) {
    if (error.code === 'ENOENT') return false;
    throw error;
  }
}

async function removeEmpty(destdir, path) {
  try {
    await rmdir(join(destdir, path));
  } catch (error) {
    if (error.code === 'ENOTEMPTY') say(`kept, since other files are in it: ${path}`);
    else if (error.code !== 'ENOENT') throw error;
  }
}

async function isThere(path) {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
