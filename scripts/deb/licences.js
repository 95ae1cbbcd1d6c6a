/** Whose code is in the bundles, and under which licence: found in the bundles' own source maps. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Inside the shipped workers, which have no source map. */
const IN_WORKERS = ['zod'];
/** Debian has these texts; a copy of them in a package is unwanted. */
const COMMON = { 'Apache-2.0': 'On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.' };

/** [{ name, version, licence, text }], by name. Throws for one that says nothing of its licence. */
export async function bundledLicences(root) {
  const names = new Set(IN_WORKERS);
  for (const file of await readdir(join(root, 'dist'), { recursive: true })) {
    if (!file.endsWith('.map')) continue;
    const { sources } = JSON.parse(await readFile(join(root, 'dist', file), 'utf8'));
    for (const source of sources) {
      const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/u.exec(source)?.[1];
      if (name === undefined) continue;
      const [scope, rest] = name.split('/');
      // Some packages' own maps lead out of them, to where they were built: then all of their scope count.
      if (rest?.startsWith('.') !== true) names.add(name);
      else for (const each of await readdir(join(root, 'node_modules', scope))) names.add(`${scope}/${each}`);
    }
  }
  return Promise.all([...names].sort().map((name) => licenceOf(join(root, 'node_modules', name))));
}

/** Of the package in this folder. */
export async function licenceOf(folder) {
  const { name, version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  if (typeof license !== 'string') throw new Error(`${name} names no licence`);
  const file = (await readdir(folder)).sort().find((each) => /^licen[cs]e/iu.test(each));
  const text = file === undefined ? '' : await readFile(join(folder, file), 'utf8');
  const notice = text.split(/\r?\n/u).filter((line) => /^\s*copyright.*\d{4}/iu.test(line));
  const common = COMMON[license];
  return {
    name,
    version,
    licence: license.replaceAll(/[()]/gu, '').replaceAll(' AND ', ' and '),
    text: common !== undefined ? [...notice, common].join('\n') : text || `${name} brings no text of it: ${license}.`,
  };
}
