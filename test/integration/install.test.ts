import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { contentOf, Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';
import { Home, Yggd } from '../support/yggd.js';

const ROOT = join(import.meta.dirname, '../..');
const skip = existsSync(join(ROOT, 'dist/yggd.js')) ? false : 'dist is not built: npm run build';
const PREFIX = '/usr/local';
const CONFIG = 'etc/yggdrasil/config.toml';
const MANIFEST = 'usr/local/lib/yggdrasil/install-manifest.json';

interface Said {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function run(destdir: string, command: string, ...args: string[]): Said {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, DESTDIR: destdir },
  });
  return { status, out: stdout, err: stderr };
}

function script(name: string, destdir: string, ...args: string[]): Said {
  return run(destdir, process.execPath, join(ROOT, 'scripts', `${name}.js`), ...args);
}

function install(destdir: string): void {
  const said = script('install-system', destdir, '--prefix', PREFIX);
  assert.equal(said.status, 0, said.err);
}

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

suite('an installation', { skip }, () => {
  test('runs from where it was put, says what next, and is taken away to the last file', async () => {
    await using dir = await tempDir();
    const said = script('install-system', dir.path, '--prefix', PREFIX);
    assert.equal(said.status, 0, said.err);
    for (const step of ['config.toml', 'systemd-sysusers', 'daemon-reload', 'enable --now yggd']) {
      assert.ok(said.out.includes(step), `${step} in: ${said.out}`);
    }
    const bin = (name: string): string => join(dir.path, 'usr/local/bin', name);
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    for (const name of ['yggd', 'ygg']) {
      const answer = run('', bin(name), '--version');
      assert.equal(answer.status, 0, answer.err);
      assert.ok(answer.out.includes(version), answer.out);
      const first = (await readFile(bin(name), 'utf8')).split('\n', 1)[0];
      assert.equal(first, `#!${process.execPath}`, 'the node it was installed with, not one of PATH');
    }
    const check = run(
      '',
      bin('yggd'),
      '--check-config',
      ...['--config-dir', join(dir.path, 'etc/yggdrasil'), '--state-dir', join(dir.path, 'state')],
      ...['--runtime-dir', join(dir.path, 'run'), '--worker-dir', join(dir.path, 'usr/local/libexec/yggdrasil')],
      ...['--broker', 'mqtt://127.0.0.1:1883'],
    );
    assert.equal(check.status, 0, check.out + check.err);

    const gone = script('uninstall-system', dir.path, '--prefix', PREFIX);
    assert.equal(gone.status, 0, gone.err);
    assert.deepEqual(
      (await readdir(dir.path)).filter((name) => name !== 'state' && name !== 'run'),
      [],
    );
  });

  test('serves a broker with the workers that came along', { skip: mosquittoMissing }, async () => {
    await using dir = await tempDir();
    install(dir.path);
    const installed = (...names: string[]): string => join(dir.path, 'usr/local', ...names);
    await using mosquitto = await startMosquitto();
    await using operator = await Operator.connect(mosquitto.url, 'installed');
    await using home = await Home.make();
    const args = [
      `--worker-dir=${installed('libexec/yggdrasil')}`,
      `--broker=${mosquitto.url}`,
      '--client-id=installed',
    ];
    await using yggd = await Yggd.start({ home, program: installed('bin/yggd'), args });
    await operator.status(({ state }) => state === 'online');
    const content = '{"big":12345678901234567890, "one":1.0}';
    for (const directive of ['echo', 'python-echo']) {
      const answer = await operator.answerTo(await operator.send(directive, content));
      assert.equal(contentOf(answer), content, directive);
    }
    assert.equal(await yggd.stop(), 0);
    // Nothing of the clone it was built in is used: what an installation asks for lies in it.
    const packages = await readdir(installed('lib/yggdrasil/node_modules'));
    assert.ok(packages.includes('lmdb'));
    assert.deepEqual(
      packages.filter((name) => ['undici', 'mqtt', 'esbuild', 'typescript', '.bin'].includes(name)),
      [],
      'what is bundled is not there twice',
    );
  });

  test('holds everything in its place with modes that do not depend on the umask', async () => {
    await using dir = await tempDir();
    const umask = process.umask(0o077);
    try {
      install(dir.path);
    } finally {
      process.umask(umask);
    }
    const modeOf = async (path: string): Promise<string> =>
      ((await stat(join(dir.path, path))).mode & 0o7777).toString(8);
    assert.equal(await modeOf(CONFIG), '644');
    assert.equal(await modeOf('etc/yggdrasil/workers'), '755');
    assert.equal(await modeOf('usr/local/lib/yggdrasil/dist/yggd.js'), '755');
    assert.equal(await modeOf('usr/local/lib/systemd/system/yggd.service'), '644');
    assert.equal(await modeOf('usr/local/lib/sysusers.d/yggdrasil.conf'), '644');
    assert.equal(await modeOf('usr/local/share/pkgconfig/yggdrasil.pc'), '644');
    assert.equal(await modeOf('usr/local/libexec/yggdrasil/echo-worker'), '755');
    const unit = await readFile(join(dir.path, 'usr/local/lib/systemd/system/yggd.service'), 'utf8');
    assert.match(unit, /^ExecStart=\/usr\/local\/bin\/yggd /mu);
    assert.doesNotMatch(unit, /@[A-Z]+@/u);
    const example = await readFile(join(ROOT, 'config.example.toml'), 'utf8');
    assert.equal(await readFile(join(dir.path, CONFIG), 'utf8'), example);
    const worker = await readFile(join(dir.path, 'usr/local/libexec/yggdrasil/echo-worker'), 'utf8');
    assert.ok(worker.startsWith(`#!${process.execPath}\n`));
  });

  test('that is made again keeps an edited config.toml and drops what is no longer needed', async () => {
    await using dir = await tempDir();
    install(dir.path);
    await appendFile(join(dir.path, CONFIG), '\n# edited\n');
    const stale = 'usr/local/lib/yggdrasil/dist/chunks-of-old/old.js';
    await put(join(dir.path, stale), '// of the version before');
    const manifest = JSON.parse(await readFile(join(dir.path, MANIFEST), 'utf8')) as {
      files: Record<string, string>;
      directories: string[];
    };
    manifest.files[`/${stale}`] = 'digest';
    manifest.directories.push(`/${dirname(stale)}`);
    await writeFile(join(dir.path, MANIFEST), JSON.stringify(manifest));
    install(dir.path);
    assert.match(await readFile(join(dir.path, CONFIG), 'utf8'), /# edited/u);
    assert.equal(existsSync(join(dir.path, dirname(stale))), false);
  });

  test('that is taken away leaves the edited configuration, the workers of others and the state, and names them', async () => {
    await using dir = await tempDir();
    install(dir.path);
    await appendFile(join(dir.path, CONFIG), '\n# edited\n');
    await put(join(dir.path, 'usr/local/libexec/yggdrasil/my-worker'), '#!/bin/sh\n');
    await put(join(dir.path, 'var/lib/yggdrasil/client-id'), 'a');
    const said = script('uninstall-system', dir.path, '--prefix', PREFIX);
    assert.equal(said.status, 0, said.err);
    for (const kept of ['/etc/yggdrasil/config.toml', '/usr/local/libexec/yggdrasil', '/var/lib/yggdrasil']) {
      assert.ok(said.out.includes(kept), `${kept} in: ${said.out}`);
    }
    assert.equal(existsSync(join(dir.path, CONFIG)), true);
    assert.equal(existsSync(join(dir.path, 'var/lib/yggdrasil/client-id')), true);
    assert.deepEqual(await readdir(join(dir.path, 'usr/local/libexec/yggdrasil')), ['my-worker']);
    assert.equal(existsSync(join(dir.path, 'usr/local/lib')), false);
    assert.equal(existsSync(join(dir.path, 'usr/local/bin')), false);
  });

  test('that fails midway can still be taken away', async () => {
    await using dir = await tempDir();
    // A file where a directory must be: root, too, cannot write below it.
    await put(join(dir.path, 'usr/local/share'), 'in the way');
    const said = script('install-system', dir.path, '--prefix', PREFIX);
    assert.equal(said.status, 73);
    assert.match(said.err, /^cannot install: .*share.*; run as root, or give --prefix or DESTDIR/u);
    assert.equal(script('uninstall-system', dir.path, '--prefix', PREFIX).status, 0);
    assert.deepEqual(await readdir(join(dir.path, 'usr/local')), ['share']);
  });
});

suite('the installer', () => {
  test('says what is wrong with its arguments', async () => {
    await using dir = await tempDir();
    const wrong: [string[], RegExp][] = [
      [['--prefix', 'relative'], /--prefix wants an absolute path/u],
      [['--prefix'], /--prefix wants an absolute path/u],
      [['--prefix', '/opt/with blank'], /without blanks/u],
      [['--perfix', '/opt'], /unknown argument: --perfix; known: --prefix/u],
    ];
    for (const [args, text] of wrong) {
      const said = script('install-system', dir.path, ...args);
      assert.equal(said.status, 64, args.join(' '));
      assert.match(said.err, text);
    }
    assert.match(script('install-system', 'relative').err, /DESTDIR must be an absolute path/u);
    assert.deepEqual(await readdir(dir.path), []);
  });

  test('has nothing to take away where nothing was installed', async () => {
    await using dir = await tempDir();
    const said = script('uninstall-system', dir.path, '--prefix', '/opt/agent');
    assert.equal(said.status, 64);
    assert.match(said.err, /nothing of ours is installed below \/opt\/agent .*another --prefix/u);
  });
});
