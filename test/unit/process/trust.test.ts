import assert from 'node:assert/strict';
import { chmod, chown, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileProblem, wayProblem, type Trust } from '../../../src/process/trust.js';
import { Users } from '../../../src/process/users.js';
import { resolveRunAs } from '../../../src/process/run-as.js';
import { tempDir } from '../../support/temp.js';

const uid = process.getuid?.() ?? 0;
const trust: Trust = { uid, isPrivateGroup: () => Promise.resolve(false) };
const isRoot = uid === 0;

async function users(path: string): Promise<Users> {
  await writeFile(
    join(path, 'passwd'),
    'root:x:0:0::/:/bin/sh\n# comment\ned:x:1000:1000::/:/bin/sh\nann:x:1001:1001::/:\nbob:x:1002:1001::/:\nbroken:x:y:z\n',
  );
  await writeFile(join(path, 'group'), 'root:x:0:\ned:x:1000:ed\nann:x:1001:\nshared:x:2000:ed,bob\nbroken\n');
  return new Users(join(path, 'passwd'), join(path, 'group'));
}

test('an executable is refused for each way in which others could change it or it could become another user', async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'worker');
  await writeFile(file, '');
  const problem = async (mode: number, by: Trust = trust): Promise<string | undefined> => {
    await chmod(file, mode);
    return fileProblem(file, await stat(file), by);
  };
  assert.equal(await problem(0o755), undefined);
  assert.match((await problem(0o644)) ?? '', /chmod \+x/);
  assert.match((await problem(0o757)) ?? '', /every user.*chmod o-w/);
  assert.match((await problem(0o775)) ?? '', /group \d+.*chmod g-w/);
  assert.equal(await problem(0o775, { ...trust, isPrivateGroup: () => Promise.resolve(true) }), undefined);
  assert.match((await problem(0o4755)) ?? '', /setuid/);
  assert.match((await problem(0o2755)) ?? '', /setgid/);
});

test('an executable of another user is refused', { skip: !isRoot && 'needs root' }, async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'worker');
  await writeFile(file, '', { mode: 0o755 });
  await chown(file, 1234, 0);
  assert.match((await fileProblem(file, await stat(file), trust)) ?? '', /belongs to user 1234.*chown root/);
  assert.equal(await fileProblem(file, await stat(file), { ...trust, uid: 1234 }), undefined);
});

test('each directory on the way counts, also behind links; a sticky one above is fine, a sticky one at the end is not', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'open/inner'), { recursive: true });
  await symlink('open/inner', join(dir.path, 'link'));
  await symlink('loop', join(dir.path, 'loop'));
  const inner = join(dir.path, 'open/inner');
  const link = join(dir.path, 'link');
  assert.equal(await wayProblem(inner, trust), undefined);
  assert.equal(await wayProblem(link, trust), undefined);
  await chmod(join(dir.path, 'open'), 0o777);
  for (const way of [inner, link])
    assert.match((await wayProblem(way, trust)) ?? '', /open can be written by every user/);
  await chmod(join(dir.path, 'open'), 0o1777);
  assert.equal(await wayProblem(link, trust), undefined);
  await chmod(inner, 0o1777);
  assert.match((await wayProblem(link, trust)) ?? '', /inner can be written by every user/);
  assert.match((await wayProblem(join(dir.path, 'loop'), trust)) ?? '', /too many levels/);
});

test('a group is private when nobody else is in it, neither as a member nor by primary group', async () => {
  await using dir = await tempDir();
  const known = await users(dir.path);
  assert.ok(await known.isPrivateGroup(1000, 1000));
  assert.ok(!(await known.isPrivateGroup(1001, 1001)));
  assert.ok(!(await known.isPrivateGroup(2000, 1000)));
  assert.ok(!(await known.isPrivateGroup(9999, 1000)));
});

test('users and groups are found by name and number, from the files and then from getent', async () => {
  await using dir = await tempDir();
  const known = await users(dir.path);
  assert.deepEqual(await known.user('ann'), { name: 'ann', uid: 1001, gid: 1001 });
  assert.equal((await known.user('1002'))?.name, 'bob');
  assert.equal((await known.user('54321'))?.gid, 54321);
  assert.equal(await known.user('no-such-user'), undefined);
  assert.equal(await known.gid('shared'), 2000);
  assert.equal(await known.gid('77'), 77);
  assert.equal(await known.gid('no-such-group'), undefined);
  const none = new Users(join(dir.path, 'none'), join(dir.path, 'none'));
  assert.equal((await none.user('root'))?.uid, 0);
  assert.equal(await none.gid('root'), 0);
});

test('only an agent that is root runs workers as others; names that nobody knows are problems', async () => {
  await using dir = await tempDir();
  const known = await users(dir.path);
  const root = { uid: 0, gid: 0 };
  const ed = { uid: 1000, gid: 1000 };
  const base = { user: undefined, group: undefined, workerUser: undefined };
  const as = (request: Partial<Parameters<typeof resolveRunAs>[0]>) =>
    resolveRunAs({ ...base, agent: root, ...request }, known);
  assert.deepEqual(await as({}), { kind: 'ok', uid: undefined, gid: undefined });
  assert.deepEqual(await as({ workerUser: 'ed' }), { kind: 'ok', uid: 1000, gid: 1000 });
  assert.deepEqual(await as({ workerUser: 'ed', user: 'ann', group: 'shared' }), { kind: 'ok', uid: 1001, gid: 2000 });
  assert.deepEqual(await as({ agent: ed, workerUser: 'ann' }), { kind: 'ok', uid: undefined, gid: undefined });
  assert.deepEqual(await as({ agent: ed, user: 'ed' }), { kind: 'ok', uid: undefined, gid: undefined });
  for (const request of [
    { agent: ed, user: 'ann' },
    { agent: ed, group: 'shared' },
    { user: 'ghost' },
    { group: 'ghosts' },
  ]) {
    assert.equal((await as(request)).kind, 'invalid');
  }
});
