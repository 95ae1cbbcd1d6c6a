import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { resolveClientId } from '../../../src/config/client-id.js';
import { tempDir } from '../../support/temp.js';

const nothing = { configured: undefined, commonName: undefined };

test('the setting comes first, then the certificate, then the kept id', async () => {
  await using dir = await tempDir();
  const stateDir = dir.path;
  await writeFile(join(stateDir, 'client-id'), 'kept\n');
  assert.equal(await resolveClientId({ configured: 'set', commonName: 'cn', stateDir }), 'set');
  assert.equal(await resolveClientId({ configured: undefined, commonName: 'cn', stateDir }), 'cn');
  assert.equal(await resolveClientId({ ...nothing, stateDir }), 'kept');
});

test('an id is made once, kept for nobody else to read, and found again', async () => {
  await using dir = await tempDir();
  const stateDir = join(dir.path, 'state');
  const id = await resolveClientId({ ...nothing, stateDir });
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(await resolveClientId({ ...nothing, stateDir }), id);
  assert.equal((await stat(join(stateDir, 'client-id'))).mode & 0o777, 0o600);
  assert.equal((await stat(stateDir)).mode & 0o777, 0o700);
  assert.deepEqual(await readdir(stateDir), ['client-id']);
});

test('an empty file, as a power cut leaves it, is made anew', async () => {
  await using dir = await tempDir();
  await writeFile(join(dir.path, 'client-id'), '');
  assert.equal(await resolveClientId({ ...nothing, stateDir: dir.path, makeId: () => 'fresh' }), 'fresh');
  assert.equal(await readFile(join(dir.path, 'client-id'), 'utf8'), 'fresh\n');
});

test('what cannot be an id is an error that says where it stands', async () => {
  await using dir = await tempDir();
  const stateDir = dir.path;
  await assert.rejects(resolveClientId({ configured: 'a/b', commonName: undefined, stateDir }), {
    code: 'config.invalid',
    message: /`client-id` is "a\/b"/,
  });
  await assert.rejects(resolveClientId({ configured: undefined, commonName: 'Ann Example', stateDir }), {
    message: /common name of the certificate.*set `client-id`/,
  });
  await writeFile(join(stateDir, 'client-id'), 'a#b');
  await assert.rejects(resolveClientId({ ...nothing, stateDir }), { message: /client-id is "a#b"/ });
});

test('a state directory that cannot be used is told with what to do', async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'file');
  await writeFile(file, '');
  await assert.rejects(resolveClientId({ ...nothing, stateDir: join(file, 'state') }), { code: 'state.unwritable' });
  // Nobody, not even root, can make a directory there.
  await assert.rejects(resolveClientId({ ...nothing, stateDir: '/sys/yggdrasil' }), {
    code: 'state.unwritable',
    message: /writable `state-dir`/,
  });
});
