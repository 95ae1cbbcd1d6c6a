// What a user of the package gets: the tarball that npm would publish, in an empty project of its own. Its packages are
// those of this clone, linked, and only the ones package.json promises: so the test needs no network.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../support/yggd.js';

const run = promisify(execFile);

interface Manifest {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly bin: Readonly<Record<string, string>>;
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as Manifest;

suite('the package', () => {
  let dir = '';
  let packed: Packed;
  const project = (...names: string[]): string => join(dir, 'project', ...names);
  const packaged = (...names: string[]): string => project('node_modules/yggdrasil-agent', ...names);

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'yggdrasil-package-'));
    const args = ['pack', '--json', '--ignore-scripts', '--offline', '--pack-destination', dir];
    const { stdout } = await run('npm', args, { cwd: ROOT, maxBuffer: 2 ** 24 });
    [packed] = JSON.parse(stdout) as [Packed];
    await mkdir(packaged(), { recursive: true });
    await run('tar', ['-xzf', join(dir, packed.filename), '--strip-components=1', '-C', packaged()]);
    await writeFile(project('package.json'), '{"type":"module","private":true}');
    const promised = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    for (const name of [...promised, '@types/node', 'undici-types']) await link(name);
  });

  after(() => rm(dir, { recursive: true, force: true }));

  /** A package of this clone; one that is optional may be missing there. */
  async function link(name: string): Promise<void> {
    const target = project('node_modules', name);
    await mkdir(dirname(target), { recursive: true });
    await symlink(join(ROOT, 'node_modules', name), target);
  }

  test('holds the programs, the library, the workers and what an operator needs, and nothing of our kitchen', () => {
    const files = packed.files.map(({ path }) => path);
    for (const wanted of [
      ...Object.values(manifest.bin),
      ...['dist/index.js', 'dist/worker.js', 'dist/types/src/index.d.ts', 'dist/types/src/worker/index.d.ts'],
      ...['echo', 'command', 'python-echo', 'python-stream-echo'].map((name) => `dist/workers/${name}-worker`),
      'protocol/stream.proto',
      ...['protocol/yggdrasil.proto', 'protocol/data.schema.json', 'config.example.toml', 'README.md', 'CHANGELOG.md'],
      ...['bash/ygg', 'zsh/_ygg', 'fish/ygg.fish'].map((name) => `dist/completions/${name}`),
      ...['ygg.1', 'yggd.8', 'yggdrasil-config.toml.5'].map((name) => `docs/man/${name}`),
      ...['ygg', 'yggd', 'config', 'admin'].map((name) => `docs/reference/${name}.md`),
      ...['systemd/yggd.service', 'systemd/yggdrasil.pc', 'scripts/install-system.js', 'scripts/uninstall-system.js'],
    ]) {
      assert.ok(files.includes(wanted), `${wanted} is in the package`);
    }
    const kitchen = files.filter((path) => /^(?:src|test|bench|coverage|\.|node_modules)|\.map$|\.test\./u.test(path));
    assert.deepEqual(kitchen, []);
  });

  test('brings its programs, which run as npm links them', async () => {
    for (const [name, file] of Object.entries(manifest.bin)) {
      const shim = project('node_modules/.bin', name);
      await mkdir(dirname(shim), { recursive: true });
      await symlink(packaged(file), shim);
      const { stdout } = await run(process.execPath, [shim, '--version']);
      assert.ok(stdout.includes(manifest.version), stdout);
      assert.notEqual((await stat(shim)).mode & 0o111, 0, `${name} is executable`);
    }
  });

  test('puts itself in place as a service from where npm has put it', async () => {
    const env = { ...process.env, DESTDIR: join(dir, 'machine') };
    await run(process.execPath, [packaged('scripts/install-system.js')], { env });
    for (const name of [
      'bin/yggd',
      'lib/systemd/system/yggd.service',
      'share/man/man1/ygg.1',
      'share/fish/vendor_completions.d/ygg.fish',
    ])
      await stat(join(dir, 'machine/usr/local', name));
  });

  test('is imported by its two names', async () => {
    const code = `
      import { Agent, MessageRouter, DataProcessor, Dispatcher, ProcessManager, VERSION } from 'yggdrasil-agent';
      import { serve } from 'yggdrasil-agent/worker';
      const parts = [Agent, MessageRouter, DataProcessor, Dispatcher, ProcessManager, serve];
      console.log(VERSION, parts.every((part) => typeof part === 'function'));`;
    await writeFile(project('main.js'), code);
    const { stdout } = await run(process.execPath, ['main.js'], { cwd: project() });
    assert.equal(stdout, `${manifest.version} true\n`);
  });

  test('has types that a strict compiler takes, and that tell a mistake', async () => {
    await writeFile(
      project('main.ts'),
      `import { VERSION, type AgentOptions } from 'yggdrasil-agent';
       import { jsonReply, serve } from 'yggdrasil-agent/worker';
       export type Names = keyof AgentOptions;
       export const version: string = VERSION;
       export const run = (): Promise<void> => serve({ handler: 'uptime' }, () => jsonReply({ version }));
       // @ts-expect-error A handler is text.
       export const wrong = (): Promise<void> => serve({ handler: 1 }, () => jsonReply({ version }));`,
    );
    const compilerOptions = {
      target: 'ES2023',
      lib: ['ES2023', 'ESNext.Disposable'],
      module: 'NodeNext',
      strict: true,
    };
    // Our types must not need a package that is not promised: they are looked into as well.
    const more = { noEmit: true, types: ['node'], skipLibCheck: false };
    const config = { compilerOptions: { ...compilerOptions, ...more }, files: ['main.ts'] };
    await writeFile(project('tsconfig.json'), JSON.stringify(config));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const said = await run(process.execPath, [tsc, '-p', project()]).catch((error: unknown) => error);
    assert.equal((said as { stdout: string }).stdout, '');
  });

  test('names each of its packages by one exact version', async () => {
    const { dependencies, optionalDependencies, devDependencies } = manifest;
    for (const [name, version] of Object.entries({ ...dependencies, ...optionalDependencies, ...devDependencies })) {
      assert.match(version, /^\d+\.\d+\.\d+$/u, name);
    }
    // What the library leaves outside is asked for at run time: it must be promised.
    const bundles = (await readdir(packaged('dist'), { recursive: true })).filter((name) => name.endsWith('.js'));
    const outside = new Set<string>();
    for (const name of bundles) {
      const text = await readFile(packaged('dist', name), 'utf8');
      const imports = text.matchAll(
        /^(?:import|export) (?:[^'"\n]*? from )?"([^."/][^"]*)";$|\bimport\("([^."/][^"]*)"\)/gmu,
      );
      for (const [, whole, lazy] of imports) outside.add(packageOf(whole ?? lazy ?? ''));
    }
    outside.delete('');
    const promised = { ...dependencies, ...optionalDependencies };
    assert.ok(outside.has('@grpc/grpc-js'), 'imports were found at all');
    for (const name of outside) assert.ok(name in promised, `${name} is imported but not in dependencies`);
  });
});

/** `@scope/name/file` → `@scope/name`; nothing for what Node itself brings. */
function packageOf(specifier: string): string {
  if (isBuiltin(specifier)) return '';
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
