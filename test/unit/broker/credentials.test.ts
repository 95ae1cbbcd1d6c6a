import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { loadCredentials, matchesCredentials } from '../../../src/broker/credentials.js';
import { tempDir } from '../../support/temp.js';

suite('the embedded broker’s credentials', () => {
  test('are random, private, and the same at the next start', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'state', 'embedded-broker.json');
    const first = await loadCredentials(file);
    assert.ok(first.password.length >= 32);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await stat(join(dir.path, 'state'))).mode & 0o777, 0o700);
    assert.deepEqual(await loadCredentials(file), first);
    const other = await loadCredentials(join(dir.path, 'other.json'));
    assert.notEqual(other.password, first.password);
    assert.deepEqual(await readdir(join(dir.path, 'state')), ['embedded-broker.json']);
  });

  test('lose what others were allowed to read of them', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'embedded-broker.json');
    const first = await loadCredentials(file);
    await chmod(file, 0o644);
    assert.deepEqual(await loadCredentials(file), first);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  test('are made anew from a file that says nothing', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'embedded-broker.json');
    for (const text of [
      '',
      '{',
      'null',
      '{"username":"u"}',
      '{"username":"u","password":7}',
      '{"username":"u","password":"short"}',
    ]) {
      await writeFile(file, text);
      const made = await loadCredentials(file);
      assert.ok(made.password.length >= 32, text);
      assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), made);
    }
  });

  test('that cannot be kept give an error that names the file', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'taken');
    await mkdir(file);
    await assert.rejects(loadCredentials(file), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'state.unwritable');
      assert.match(error.message, /taken/);
      return true;
    });
  });

  test('match only when both are right', () => {
    const expected = { username: 'yggdrasil', password: 'correct horse battery' };
    assert.equal(matchesCredentials(expected, 'yggdrasil', Buffer.from('correct horse battery')), true);
    assert.equal(matchesCredentials(expected, 'yggdrasil', Buffer.from('correct horse batterz')), false);
    assert.equal(matchesCredentials(expected, 'yggdrasil', Buffer.from('correct')), false);
    assert.equal(matchesCredentials(expected, 'other', Buffer.from('correct horse battery')), false);
    assert.equal(matchesCredentials(expected, undefined, undefined), false);
  });
});
