/**
 * The package in a clean Debian: installed, its service's command run by hand, upgraded with messages in the journal,
 * removed, purged. Nothing of this machine is in it but its processor and its loopback.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { buildDeb, CleanRoot, cleanRootMissing, debianTool, execStart, packagingMissing } from '../support/debian.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';

const skip = packagingMissing || cleanRootMissing || mosquittoMissing;
const PACKAGE = 'yggdrasil-agent';
const STATE = '/var/lib/yggdrasil';
const INSTALL = ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', '--allow-downgrades'];

/** The service by hand: its user, its directories, its command. */
async function startService(root: CleanRoot, ...flags: readonly string[]): Promise<() => Promise<void>> {
  await root.run('install', '-d', '-o', 'yggdrasil', '-g', 'yggdrasil', '-m', '0711', '/run/yggdrasil');
  const child = root.start('yggdrasil', ...(await execStart(root)), '--log-format=json', ...flags);
  const said: string[] = [];
  const ended = once(child, 'exit');
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) throw new Error('it has no output');
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line);
        if (line.includes('"agent.ready"')) resolve();
      });
    }
    void ended.then(() => reject(new Error(`the service ended:\n${said.join('\n')}`)));
  });
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

async function versionIn(root: CleanRoot): Promise<string> {
  return root.run('dpkg-query', '--show', '--showformat=${Version}', PACKAGE);
}

async function yggJson(root: CleanRoot, ...words: readonly string[]): Promise<unknown> {
  return JSON.parse(await root.run('ygg', ...words, '--json')) as unknown;
}

async function isThere(root: CleanRoot, path: string): Promise<boolean> {
  return stat(root.at(path)).then(
    () => true,
    () => false,
  );
}

test('installed, run, upgraded with a queue, removed and purged, in a clean Debian', { skip }, async () => {
  await using dir = await tempDir();
  const older = await buildDeb({ out: dir.path, version: '0.0.9' });
  const newer = await buildDeb({ out: dir.path });
  const depends = (await debianTool('dpkg-deb', '--field', older, 'Depends')).trim();
  await using root = await CleanRoot.make(depends);
  await using broker = await startMosquitto();
  await using operator = await Operator.connect(broker.url, 'deb-1');
  const before = await root.list();

  // Installed.
  const told = await root.run(...INSTALL, await root.bring(older));
  assert.match(told, /set `broker' in \/etc\/yggdrasil\/config\.toml/);
  assert.equal(await versionIn(root), '0.0.9-1');
  assert.match(await root.run('yggd', '--version'), /^yggd \d/m);
  assert.match(
    await root.run('getent', 'passwd', 'yggdrasil'),
    /^yggdrasil:x:\d+:\d+:.*:\/var\/lib\/yggdrasil:.*nologin$/m,
  );
  for (const [path, owner] of [
    [STATE, 'yggdrasil:yggdrasil 700'],
    ['/etc/yggdrasil', 'root:root 755'],
    ['/etc/yggdrasil/config.toml', 'root:root 644'],
    ['/usr/libexec/yggdrasil', 'root:root 755'],
    ['/usr/lib/yggdrasil/dist/chunks/yggd.cjs.cache', 'root:root 644'],
    ['/usr/lib/yggdrasil/dist/chunks/ygg.cjs.cache', 'root:root 644'],
  ] as const) {
    assert.equal((await root.run('stat', '-c', '%U:%G %a', path)).trim(), owner, path);
  }
  assert.equal(await root.run('dpkg', '--verify', PACKAGE), '');
  await assert.rejects(root.run('yggd', '--check-config'), /No broker|no broker|broker/);
  // Once more is the same.
  await root.run('dpkg-reconfigure', PACKAGE);

  // Run, and answered.
  await writeFile(root.at('/etc/yggdrasil/config.toml'), `broker = ["${broker.url}"]\nclient-id = "deb-1"\n`);
  let stop = await startService(root);
  await operator.status(({ dispatchers }) => 'echo' in dispatchers && 'command' in dispatchers, 'both workers');
  const id = await operator.send('echo', '"from the package"');
  assert.equal((await operator.answerTo(id)).content, 'from the package');
  const { link } = (await yggJson(root, 'status')) as { readonly link: { readonly state: string } };
  assert.equal(link.state, 'up');
  assert.equal(
    await root.run('/usr/lib/yggdrasil/bin/node', '-e', "require('/usr/lib/yggdrasil/node_modules/koffi')"),
    '',
  );
  await stop();

  // A queue, and the new version.
  operator.forget();
  stop = await startService(root, '--exclude-worker=echo-worker');
  await operator.status(({ state, dispatchers }) => state === 'online' && !('echo' in dispatchers), 'no echo');
  const ids: string[] = [];
  for (let n = 0; n < 20; n++) ids.push(await operator.send('echo', String(n)));
  const waiting = async (): Promise<readonly unknown[]> =>
    (await yggJson(root, 'messages', 'list', '--directive', 'echo')) as readonly unknown[];
  while ((await waiting()).length < ids.length);
  await stop();
  await root.run(...INSTALL, await root.bring(newer));
  assert.notEqual(await versionIn(root), '0.0.9-1');
  assert.match(await readFile(root.at('/etc/yggdrasil/config.toml'), 'utf8'), /client-id = "deb-1"/);
  assert.ok(await isThere(root, '/usr/lib/yggdrasil/dist/chunks/yggd.cjs.cache'), 'a code cache of the new version');
  stop = await startService(root);
  for (const [n, each] of ids.entries()) assert.equal((await operator.answerTo(each)).content, n);
  assert.deepEqual(await waiting(), []);
  await stop();

  // Removed: what is the operator's stays.
  await root.run('apt-get', 'remove', '-y', '-qq', PACKAGE);
  for (const path of ['/usr/bin/ygg', '/usr/sbin/yggd', '/usr/lib/yggdrasil', '/usr/libexec/yggdrasil'])
    assert.ok(!(await isThere(root, path)), `${path} is gone`);
  for (const path of ['/etc/yggdrasil/config.toml', `${STATE}/journal`]) assert.ok(await isThere(root, path), path);
  assert.notEqual(await root.run('getent', 'passwd', 'yggdrasil'), '');
  // And it is found again by the next installation.
  await root.run(...INSTALL, await root.bring(newer));
  assert.match(await readFile(root.at('/etc/yggdrasil/config.toml'), 'utf8'), /client-id = "deb-1"/);

  // Purged: nothing.
  await writeFile(root.at('/etc/yggdrasil/tags.toml'), 'place = "here"\n');
  await writeFile(root.at('/etc/yggdrasil/workers/echo-worker.toml'), 'concurrency = 2\n');
  await root.run('apt-get', 'purge', '-y', '-qq', PACKAGE);
  assert.deepEqual(await root.list(), before);
  await assert.rejects(root.run('getent', 'passwd', 'yggdrasil'));
  await assert.rejects(root.run('getent', 'group', 'yggdrasil'));
  assert.doesNotMatch(await root.run('dpkg', '--list'), /yggdrasil/);
});
