import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { fill, layoutOf, withoutNotify } from '../../scripts/installation.js';
import { tempDir } from '../support/temp.js';

const SYSTEMD = join(import.meta.dirname, '../../systemd');
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;
const skip = hasSystemd ? false : 'systemd-analyze is not installed';

interface Said {
  readonly status: number | null;
  readonly text: string;
}

function run(command: string, ...args: string[]): Said {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return { status, text: stdout + stderr };
}

/** The unit with this prefix, below which there is a program to start. */
async function unitIn(dir: string): Promise<string> {
  await mkdir(join(dir, 'bin'), { recursive: true });
  await symlink('/bin/true', join(dir, 'bin/yggd'));
  return fill(await readFile(join(SYSTEMD, 'yggd.service'), 'utf8'), { PREFIX: dir, SBIN: join(dir, 'bin') });
}

async function put(path: string, text: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  return path;
}

suite('the systemd unit', { skip }, () => {
  test('has nothing that systemd-analyze would complain of', async () => {
    await using dir = await tempDir();
    const unit = await put(join(dir.path, 'yggd.service'), await unitIn(dir.path));
    assert.deepEqual(run('systemd-analyze', 'verify', '--man=no', unit), { status: 0, text: '' });
  });

  test('leaves an exposure below 2.0', async () => {
    await using dir = await tempDir();
    const unit = await put(join(dir.path, 'yggd.service'), await unitIn(dir.path));
    const said = run('systemd-analyze', 'security', '--offline=true', '--no-pager', '--threshold=19', unit);
    const exposure = /Overall exposure level for yggd\.service: ([\d.]+)/u.exec(said.text)?.[1];
    assert.ok(Number(exposure) < 2, said.text);
    assert.equal(said.status, 0, said.text);
  });

  test('waits for no word and no watchdog where systemd cannot be told', async () => {
    await using dir = await tempDir();
    const text = await unitIn(dir.path);
    assert.match(text, /^Type=notify$/mu);
    assert.match(text, /^WatchdogSec=\d+$/mu);
    const without = withoutNotify(text);
    assert.match(without, /^Type=exec$/mu);
    assert.doesNotMatch(without, /^(?:WatchdogSec|NotifyAccess)=/mu);
    assert.equal(without.split('\n').length, text.split('\n').length - 2, 'all else is the same');
    const unit = await put(join(dir.path, 'yggd.service'), without);
    assert.deepEqual(run('systemd-analyze', 'verify', '--man=no', unit), { status: 0, text: '' });
  });

  test('becomes a daemon of root by the drop-in, and verifies with it as well', async () => {
    await using dir = await tempDir();
    const unit = await put(join(dir.path, 'yggd.service'), await unitIn(dir.path));
    const dropIn = await readFile(join(SYSTEMD, 'yggd.service.d/root-workers.conf.example'), 'utf8');
    await put(join(dir.path, 'yggd.service.d/root-workers.conf'), dropIn);
    assert.deepEqual(run('systemd-analyze', 'verify', '--man=no', unit), { status: 0, text: '' });
    const { text } = run('systemd-analyze', 'security', '--offline=true', '--no-pager', unit);
    assert.match(text, /✗ User=\/DynamicUser=\s+Service runs as root user/u, 'systemd reads the drop-in');
    for (const wall of ['NoNewPrivileges', 'ProtectSystem', 'ProtectHome', 'RestrictSUIDSGID']) {
      assert.match(text, new RegExp(`✗ ${wall}=`, 'u'), `${wall} would bind what a worker of root starts`);
    }
  });

  test('has a user that systemd-sysusers can make', () => {
    const said = run('systemd-sysusers', '--dry-run', join(SYSTEMD, 'sysusers.d/yggdrasil.conf'));
    assert.equal(said.status, 0, said.text);
  });

  test('has directories for operators that systemd-tmpfiles can make', async () => {
    await using dir = await tempDir();
    const text = fill(await readFile(join(SYSTEMD, 'tmpfiles.d/yggdrasil.conf'), 'utf8'), { PREFIX: '/usr/local' });
    const file = await put(join(dir.path, 'yggdrasil.conf'), text);
    await put(join(dir.path, 'root/etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
    await put(join(dir.path, 'root/etc/group'), 'root:x:0:\n');
    const said = run('systemd-tmpfiles', '--create', `--root=${join(dir.path, 'root')}`, file);
    assert.equal(said.status, 0, said.text);
    for (const path of ['etc/yggdrasil/workers', 'usr/local/libexec/yggdrasil']) {
      const made = await stat(join(dir.path, 'root', path));
      assert.equal(made.mode & 0o777, 0o755, path);
    }
  });
});

suite('the pkg-config file', () => {
  const noTool = spawnSync('pkg-config', ['--version']).status === 0 ? false : 'pkg-config is not installed';

  test('is one that pkg-config takes, with variables a package can build on', { skip: noTool }, async () => {
    await using dir = await tempDir();
    const values = { PREFIX: '/opt/agent', VERSION: '1.2.3' };
    const text = fill(await readFile(join(SYSTEMD, 'yggdrasil.pc'), 'utf8'), values);
    const file = await put(join(dir.path, 'yggdrasil.pc'), text);
    assert.deepEqual(run('pkg-config', '--validate', file), { status: 0, text: '' });
    const ask = (question: string): string => run('pkg-config', question, file).text.trim();
    assert.equal(ask('--modversion'), '1.2.3');
    assert.equal(ask('--variable=workerexecdir'), '/opt/agent/libexec/yggdrasil');
    assert.equal(ask('--variable=workerconfdir'), '/etc/yggdrasil/workers');
  });

  test('tells a worker’s package where executables and settings go, in the words of the original', async () => {
    const text = fill(await readFile(join(SYSTEMD, 'yggdrasil.pc'), 'utf8'), {
      PREFIX: '/usr/local',
      VERSION: '1.2.3',
    });
    const variables = new Map<string, string>();
    for (const [, name = '', value = ''] of text.matchAll(/^(\w+)=(.*)$/gmu)) {
      variables.set(
        name,
        value.replace(/\$\{(\w+)\}/gu, (_, other: string) => variables.get(other) ?? 'undefined'),
      );
    }
    assert.equal(variables.get('workerexecdir'), '/usr/local/libexec/yggdrasil');
    assert.equal(variables.get('workerconfdir'), '/etc/yggdrasil/workers');
    assert.equal(variables.get('longname'), 'yggdrasil');
    assert.match(text, /^Version: 1\.2\.3$/mu);
    assert.match(text, /^Name: yggdrasil$/mu);
  });
});

suite('the layout of an installation', () => {
  test('puts units where systemd looks, whatever the prefix', () => {
    assert.equal(layoutOf('/usr').units, '/usr/lib/systemd/system');
    assert.equal(layoutOf('/usr/local').units, '/usr/local/lib/systemd/system');
    assert.equal(layoutOf('/opt/agent').units, '/etc/systemd/system');
    assert.equal(layoutOf('/opt/agent').sysusers, '/etc/sysusers.d');
  });
});
