/** The man pages as man(1) shows them. That they are up to date is held by test/unit/config/generated.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { manPages } from '../../scripts/reference/man-pages.js';
import { flatten } from '../../src/cli/command-tree.js';
import { daemonTree, operatorTree } from '../../scripts/reference/sources.js';
import { SETTING_NAMES } from '../../src/config/index.js';

const ROOT = join(import.meta.dirname, '../..');
const skip = spawnSync('man', ['--version']).error === undefined ? false : 'man is not installed (man-db, groff)';

function shown(file: string): { readonly text: string; readonly complaints: string } {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '200' };
  const { stdout, stderr } = spawnSync('man', ['--warnings', '-l', join(ROOT, file)], { env, encoding: 'utf8' });
  // Bold is written letter, backspace, letter.
  return { text: stdout.split(/.[\b]/).join(''), complaints: stderr };
}

test('man shows each page, warns of nothing, and shows each flag and each setting', { skip }, () => {
  const words: Record<string, readonly string[]> = {
    'docs/man/ygg.1': flatten(operatorTree())
      .filter(({ path }) => path.at(-1) !== 'help')
      .flatMap(({ path, flags }) => [...path.slice(-1), ...flags.flatMap(({ names }) => names)]),
    'docs/man/yggd.8': daemonTree().flags.flatMap(({ names }) => names),
    'docs/man/yggdrasil-config.toml.5': SETTING_NAMES,
  };
  for (const [file] of manPages()) {
    const { text, complaints } = shown(file);
    assert.equal(complaints, '', file);
    for (const word of words[file] ?? []) assert.ok(text.includes(word), `${word} in ${file}`);
    assert.ok((words[file] ?? []).length > 10, file);
  }
});

test('npm puts the pages where man finds them', async () => {
  const { man } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { readonly man: readonly string[] };
  assert.deepEqual(
    man,
    manPages().map(([file]) => file),
  );
});
