/**
 * Runs the suite with node:test and tsx, two files at a time, and measures coverage. Says first what the machine lacks,
 * then what was skipped for it, and ends with the runner's closing lines. On CI (CI=true) nothing may be skipped.
 *
 * node scripts/test.js [--no-coverage] [--quick] [--fault [--rows=FILE] [--record]] [--deb] [PATH...]   A path is a folder of tests or a test
 * file; with paths, or with --no-coverage, coverage is not measured. --quick leaves out the files named *-slow.test.ts.
 * --fault runs the long form of test/fuzz and test/fault, one file at a time, and prints its table; --record puts that into docs.
 * --deb runs test/deb: the package for Debian, installed, upgraded and purged in a clean root (as root, a few minutes).
 * --fault takes hours: with --rows it can be run in parts, each of which adds its rows to that file, and shows all of them.
 */
import { Buffer } from 'node:buffer';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { readRows, recordTable, tableOf } from './fault-table.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const isFault = process.argv.includes('--fault');
const isDeb = process.argv.includes('--deb');
const faults = ['test/fuzz', 'test/fault'];
const kinds = isFault
  ? faults
  : isDeb
    ? ['test/deb']
    : ['test/unit', 'test/property', 'test/integration', 'test/e2e', ...faults];
const paths = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const isCI = process.env.CI === 'true';
const isQuick = process.argv.includes('--quick');
const withCoverage = !isFault && !isDeb && paths.length === 0 && !process.argv.includes('--no-coverage');

/** What real tests need beside npm's packages: a command that shows it is there, and where it comes from. */
const needs = [
  { name: 'mosquitto', probe: ['mosquitto', '-h'], from: 'apt-get install mosquitto' },
  { name: 'mosquitto_pub', probe: ['mosquitto_pub', '--help'], from: 'apt-get install mosquitto-clients' },
  { name: 'openssl', probe: ['openssl', 'version'], from: 'apt-get install openssl' },
  {
    name: 'grpc for Python',
    probe: ['/usr/bin/python3', '-c', 'import grpc, google.protobuf'],
    from: 'apt-get install python3-grpcio python3-protobuf',
  },
  {
    name: 'D-Bus for Python',
    probe: ['/usr/bin/python3', '-c', 'import dbus.server, gi.repository.GLib'],
    from: 'apt-get install python3-dbus python3-gi',
  },
  { name: 'dbus-daemon', probe: ['dbus-daemon', '--version'], from: 'apt-get install dbus-daemon dbus-bin' },
  { name: 'systemd-analyze', probe: ['systemd-analyze', '--version'], from: 'apt-get install systemd' },
  { name: 'pkg-config', probe: ['pkg-config', '--version'], from: 'apt-get install pkgconf' },
  { name: 'a C compiler', probe: ['cc', '--version'], from: 'apt-get install gcc libc6-dev' },
  { name: 'ip', probe: ['ip', '-V'], from: 'apt-get install iproute2' },
  { name: 'zsh', probe: ['zsh', '--version'], from: 'apt-get install zsh' },
  { name: 'fish', probe: ['fish', '--version'], from: 'apt-get install fish' },
  { name: 'man', probe: ['man', '--version'], from: 'apt-get install man-db groff' },
  ...(isDeb
    ? [
        { name: 'debootstrap', probe: ['debootstrap', '--version'], from: 'apt-get install debootstrap' },
        { name: 'lintian', probe: ['lintian', '--version'], from: 'apt-get install lintian' },
      ]
    : []),
  { name: 'promtool', probe: ['promtool', '--version'], from: 'apt-get install prometheus' },
  { name: 'iptables', probe: ['iptables', '--version'], from: 'apt-get install iptables' },
];

// What no package can bring: a facility of the kernel, or another Node, which .ci/run brings along in a run of its own.
// And Go, whose compiler is too much to install for two workers.
const EXCUSED = /\bcgroup\b|\bNode\b|\bGo\b/u;

// What the runner prints last: held back, so that it also stands last here.
const CLOSING = /^(?:ℹ|#) ((?:tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) .*)$/u;

const work = await mkdtemp(join(tmpdir(), 'yggdrasil-test-'));
const rowsFlag = process.argv.find((argument) => argument.startsWith('--rows='));
const faultRows = rowsFlag === undefined ? join(work, 'faults') : resolve(rowsFlag.slice('--rows='.length));
try {
  for (const need of needs.filter(isMissing)) say(`missing: ${need.name} (${need.from}); what needs it is skipped`);
  const files = await testFiles(paths.length > 0 ? paths : kinds);
  const { code, closing, skipped } = await runTests(files);
  for (const { name, reason } of skipped) say(`skipped: ${name}: ${reason}`);
  const unexcused = skipped.filter(({ reason }) => !EXCUSED.test(reason));
  const isSkipWrong = isCI && unexcused.length > 0;
  if (isSkipWrong)
    say(`failed: on CI nothing may be skipped, but these were: ${unexcused.map(({ name }) => name).join('; ')}`);
  if (isFault) await tellFaults(code === 0);
  const isCovered = !withCoverage || code !== 0 || (await reportCoverage());
  for (const line of closing) say(`# ${line}`);
  process.exitCode = code !== 0 ? code : isSkipWrong || !isCovered ? 1 : 0;
} finally {
  await rm(work, { recursive: true, force: true });
}

/** The table of a fault run; only one that passed is recorded. */
async function tellFaults(hasPassed) {
  const rows = await readRows(faultRows);
  for (const line of tableOf(rows)) say(line);
  if (!hasPassed || !process.argv.includes('--record')) return;
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  await recordTable(join(root, 'docs/guarantees.md'), rows, { version });
}

function isMissing({ probe: [command, ...args] }) {
  const { error, status } = spawnSync(command, args, { stdio: 'ignore' });
  return error !== undefined || (command.endsWith('python3') && status !== 0);
}

/** The test files under these paths, sorted. Node 20 does not know patterns. */
async function testFiles(roots) {
  const found = [];
  for (const path of roots) {
    const entry = await stat(join(root, path)).catch(() => undefined);
    if (entry === undefined) {
      if (paths.length > 0) throw new Error(`no such test file or folder: ${path}`);
    } else if (entry.isFile()) found.push(path);
    else {
      const names = await readdir(join(root, path), { recursive: true });
      const isTest = (name) => name.endsWith('.test.ts') && !(isQuick && name.endsWith('-slow.test.ts'));
      found.push(...names.filter(isTest).map((name) => join(path, name)));
    }
  }
  return found.sort();
}

async function runTests(files) {
  const skippedFile = join(work, 'skipped');
  // The limit is far above what any file needs: one that never ends is named, and does not hold up the machine for ever.
  const limit = isFault ? 4 * 3_600_000 : 600_000;
  const atOnce = isFault || isDeb ? 1 : 2;
  const args = ['--import', 'tsx', '--test', `--test-concurrency=${atOnce}`, `--test-timeout=${limit}`];
  args.push('--test-reporter=spec', '--test-reporter-destination=stdout');
  args.push('--test-reporter=./scripts/skipped-reporter.js', `--test-reporter-destination=${skippedFile}`);
  const env = {
    ...process.env,
    ...(withCoverage && { NODE_V8_COVERAGE: join(work, 'coverage') }),
    ...(isFault && { YGG_FAULT: 'long', YGG_FAULT_TABLE: faultRows }),
  };
  const child = spawn(process.execPath, [...args, ...files], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.on('close', (status) => resolve(status ?? 1)));
  const closing = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const match = CLOSING.exec(line);
    if (match === null) say(line);
    else closing.push(match[1]);
  }
  const code = await ended;
  const text = await readFile(skippedFile, 'utf8').catch(() => '');
  return { code, closing, skipped: text.split('\n').filter(Boolean).map(JSON.parse) };
}

/**
 * Two gates. Over all of src, what the tests of the bundles reach counts as well. For message and router only what is
 * run from source counts: the bundle's copies have their branches at other places, and would show as never taken.
 */
async function reportCoverage() {
  const empty = (await typeOnlyFiles()).flatMap((file) => ['--exclude', file]);
  const all = ['--all', '--src', 'src', '--include', 'src/**', '--exclude-after-remap', ...empty];
  const core = ['--all', '--src', 'src', '--include', 'src/message/**', '--include', 'src/router/**', ...empty];
  // Each keeps one processor busy for a while.
  const [isWide, isDeep] = await Promise.all([
    c8([...all, '--reporter', 'text', '--reporter', 'html', '--lines', '90']),
    c8([...core, '--reporter', 'text', '--lines', '100', '--branches', '100']),
  ]);
  if (!isWide) say('failed: less than 90 % of the lines of src are covered');
  if (!isDeep) say('failed: src/message and src/router are not covered to 100 % of lines and branches');
  return isWide && isDeep;
}

function c8(args) {
  const gate = ['--check-coverage', '--functions', '0', '--statements', '0'];
  const lowest = args.includes('--branches') ? [] : ['--branches', '0'];
  const command = ['report', '--temp-directory', join(work, 'coverage'), '--reports-dir', 'coverage'];
  const bin = join(root, 'node_modules/c8/bin/c8.js');
  const child = spawn(process.execPath, [bin, ...command, ...gate, ...lowest, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // In one piece, as another report is made beside it.
  const table = [];
  child.stdout.on('data', (piece) => table.push(piece));
  return new Promise((resolve) =>
    child.on('close', (status) => {
      process.stdout.write(Buffer.concat(table));
      resolve(status === 0);
    }),
  );
}

/** Files that hold only types are never loaded, and there is nothing in them to cover. */
async function typeOnlyFiles() {
  const names = await readdir(join(root, 'src'), { recursive: true });
  const sources = names.filter((name) => name.endsWith('.ts')).map((name) => join('src', name));
  const isEmpty = await Promise.all(
    sources.map(async (file) => {
      const { code } = await transform(await readFile(join(root, file), 'utf8'), { loader: 'ts' });
      return code.trim() === '';
    }),
  );
  return sources.filter((_, index) => isEmpty[index]);
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
