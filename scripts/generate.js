/**
 * Makes protocol/generated from the .proto files: `buf generate`, and then one correction. What ts-proto writes for a
 * map, `message.metadata[key] = value`, loses an entry whose name is `__proto__`; defined as a property it stays.
 *
 * node scripts/generate.js
 */
import { spawnSync } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, URL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const generated = join(root, 'protocol/generated');
const SET_ENTRY = /(message\.\w+)\[(entry\d+)\.key\] = \2\.value;/gu;

const { status, error } = spawnSync(join(root, 'node_modules/.bin/buf'), ['generate'], { cwd: root, stdio: 'inherit' });
if (status !== 0) throw new Error('buf generate failed', { cause: error });
for (const name of await readdir(generated)) {
  const file = join(generated, name);
  await writeFile(file, (await readFile(file, 'utf8')).replace(SET_ENTRY, defineEntry));
}

function defineEntry(_, map, entry) {
  const property = `{ value: ${entry}.value, configurable: true, enumerable: true, writable: true }`;
  return `globalThis.Object.defineProperty(${map}, ${entry}.key, ${property});`;
}
