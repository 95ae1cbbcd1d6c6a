/**
 * The package for Debian, built and looked into: the quick form. That it can be installed, upgraded and purged is shown
 * by test/deb (npm run test:deb).
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { buildDeb, debianTool, packagingMissing } from '../support/debian.js';
import { tempDir } from '../support/temp.js';
import { ROOT } from '../support/yggd.js';

const arch = process.arch === 'x64' ? 'amd64' : process.arch;
const other = arch === 'amd64' ? 'arm64' : 'amd64';
/** e_machine of ELF. */
const MACHINE: Readonly<Record<string, number>> = { amd64: 62, arm64: 183 };

const digest = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

async function elfMachine(file: string): Promise<number> {
  const head = (await readFile(file)).subarray(0, 20);
  assert.equal(head.subarray(1, 4).toString(), 'ELF', file);
  return head.readUInt16LE(18);
}

suite('the package for Debian', { skip: packagingMissing }, () => {
  test('holds what an operator needs, of root, with the papers that Debian wants', async () => {
    await using dir = await tempDir();
    const deb = await buildDeb({ out: dir.path });
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string };
    const field = async (name: string): Promise<string> => (await debianTool('dpkg-deb', '-f', deb, name)).trim();
    assert.equal(await field('Version'), `${version}-1`);
    assert.equal(await field('Architecture'), arch);
    assert.match(await field('Depends'), /^libc6 \(>= [\d.]+\), libgcc-s1 \(>= [\d.]+\), libstdc\+\+6 \(>= [\d.]+\), /);
    for (const line of (await debianTool('dpkg-deb', '-c', deb)).trim().split('\n'))
      assert.match(line, /^(?:d|-)rwxr-xr-x root\/root|^-rw-r--r-- root\/root|^lrwxrwxrwx root\/root/);

    const tree = join(dir.path, 'tree');
    await debianTool('dpkg-deb', '-R', deb, tree);
    for (const path of [
      'etc/yggdrasil/config.toml',
      'etc/yggdrasil/workers',
      ...['echo-worker', 'command-worker'].map((name) => `usr/libexec/yggdrasil/${name}`),
      ...['system/yggd.service', 'system/yggd.service.d/root-workers.conf.example'].map(
        (name) => `usr/lib/systemd/${name}`,
      ),
      ...['sysusers.d', 'tmpfiles.d'].map((name) => `usr/lib/${name}/yggdrasil.conf`),
      ...['man1/ygg.1', 'man8/yggd.8', 'man5/yggdrasil-config.toml.5'].map((name) => `usr/share/man/${name}.gz`),
      'usr/share/bash-completion/completions/ygg',
      'usr/share/zsh/vendor-completions/_ygg',
      'usr/share/fish/vendor_completions.d/ygg.fish',
      'usr/share/pkgconfig/yggdrasil.pc',
      ...[
        'README.Debian',
        'changelog.Debian.gz',
        'changelog.gz',
        'copyright',
        'operating.md',
        'guides/packages.md',
      ].map((name) => `usr/share/doc/yggdrasil-agent/${name}`),
      'usr/share/doc/yggdrasil-agent/examples/python-echo-worker',
    ])
      assert.ok(await lstat(join(tree, path)).catch(() => undefined), `${path} is in the package`);
    assert.equal(await readlink(join(tree, 'usr/bin/ygg')), '../lib/yggdrasil/dist/ygg.js');
    assert.equal(await readlink(join(tree, 'usr/sbin/yggd')), '../lib/yggdrasil/dist/yggd.js');
    const unit = await readFile(join(tree, 'usr/lib/systemd/system/yggd.service'), 'utf8');
    assert.match(unit, /^ExecStart=\/usr\/sbin\/yggd .*--worker-dir \/usr\/libexec\/yggdrasil$/m);
    assert.doesNotMatch(unit, /@[A-Z]+@/);

    // The owner has chosen no licence, and what is inside the bundles has one each.
    const copyright = await readFile(join(tree, 'usr/share/doc/yggdrasil-agent/copyright'), 'utf8');
    assert.match(copyright, /has not chosen a licence yet/);
    for (const name of ['mqtt', '@grpc/grpc-js', 'lmdb', 'koffi', 'zod', 'Node.js'])
      assert.match(copyright, new RegExp(`^Comment: ${name} \\d`, 'm'), name);

    const control = (name: string): string => join(tree, 'DEBIAN', name);
    assert.equal(await readFile(control('conffiles'), 'utf8'), '/etc/yggdrasil/config.toml\n');
    execFileSync('md5sum', ['--check', '--quiet', '--strict', control('md5sums')], { cwd: tree });
    for (const name of ['postinst', 'prerm', 'postrm']) {
      execFileSync('sh', ['-n', control(name)]);
      // Policy: what dpkg never says is refused.
      const said = spawnSync('sh', [control(name), 'nonsense'], { encoding: 'utf8' });
      assert.deepEqual([said.status, said.stdout], [1, ''], name);
      assert.match(said.stderr, /unknown argument 'nonsense'/);
    }

    // The programs run with the Node that is carried, on the native modules that are carried.
    const node = join(tree, 'usr/lib/yggdrasil/bin/node');
    const modules = join(tree, 'usr/lib/yggdrasil/node_modules');
    const said = execFileSync(node, [join(tree, 'usr/bin/ygg'), '--version'], { encoding: 'utf8' });
    assert.equal(said, `${version}\n`);
    execFileSync(node, ['-e', `require(${JSON.stringify(join(modules, 'koffi'))})`]);
    execFileSync(node, [
      '-e',
      `require(${JSON.stringify(join(modules, `@lmdb/lmdb-linux-${process.arch}/node.napi.glibc.node`))})`,
    ]);
  });

  test('is built for the other architecture as well, with that one’s binaries, and twice the same', async () => {
    await using dir = await tempDir();
    const one = await buildDeb({ out: join(dir.path, 'one'), arch: other });
    const again = await buildDeb({ out: join(dir.path, 'again'), arch: other });
    assert.equal(await digest(one), await digest(again));
    const tree = join(dir.path, 'tree');
    await debianTool('dpkg-deb', '-x', one, tree);
    const names = await readdir(join(tree, 'usr/lib/yggdrasil/node_modules'), { recursive: true });
    const natives = names
      .filter((name) => name.endsWith('.node'))
      .map((name) => join(tree, 'usr/lib/yggdrasil/node_modules', name));
    assert.equal(natives.length, 2);
    for (const file of [...natives, join(tree, 'usr/lib/yggdrasil/bin/node')])
      assert.equal(await elfMachine(file), MACHINE[other], file);
  });

  test('is not built for what it is not made for', () => {
    for (const [words, code, said] of [
      [['--arch', 'riscv64'], 1, /no package is built for riscv64: choose amd64 or arm64/],
      [['--version', 'new'], 1, /not a version such as 1\.2\.3: new/],
      [['--nonsense'], 64, /Unknown option '--nonsense'/],
    ] as const) {
      const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/deb/build.js', ...words], {
        cwd: ROOT,
        encoding: 'utf8',
      });
      assert.deepEqual([status, stdout], [code, ''], words.join(' '));
      assert.match(stderr, said);
    }
  });
});
