/** The service unit as doctor reads it: files and drop-ins together, and what is weaker than what ships. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { judgeUnit } from '../../../src/cli/doctor/judge-unit.js';
import { differences, mergeUnit, SHIPPED, unitFlags, WALLS } from '../../../src/cli/doctor/unit-file.js';
import { lookAtUnit, type UnitLook, type UnitState } from '../../../src/cli/doctor/unit-look.js';
import { tempDir } from '../../support/temp.js';
import { ROOT } from '../../support/yggd.js';

const SCOPE = new AbortController().signal;
const shipped = await readFile(join(ROOT, 'systemd/yggd.service'), 'utf8');
const rootWorkers = await readFile(join(ROOT, 'systemd/yggd.service.d/root-workers.conf.example'), 'utf8');

function outcomes(look: UnitLook, isRunning = true): Readonly<Record<string, string>> {
  return Object.fromEntries(judgeUnit(look, isRunning).map(({ check, outcome }) => [check, outcome]));
}

async function lookIn(dir: string, unit: string, dropIns: Readonly<Record<string, string>> = {}): Promise<UnitLook> {
  await mkdir(join(dir, 'yggd.service.d'), { recursive: true });
  await writeFile(join(dir, 'yggd.service'), unit);
  for (const [name, text] of Object.entries(dropIns)) await writeFile(join(dir, 'yggd.service.d', name), text);
  return lookAtUnit(SCOPE, [join(dir, 'nothing'), dir]);
}

test('the shipped unit is what doctor takes it for, and every wall in it is known', async () => {
  const settings = mergeUnit([{ path: 'yggd.service', text: shipped }]);
  assert.deepEqual(differences(settings, SHIPPED), []);
  assert.deepEqual(differences(settings, WALLS), []);
  const walls = [...settings.keys()].filter((key) =>
    /^Service\.(Protect|Private|Restrict|SystemCall|Lock|NoNew|Capab|Ambient|Device|Remove|Keyring)/.test(key),
  );
  const known = Object.keys(WALLS).map((key) => `Service.${key}`);
  // The tree of cgroups is left writable on purpose.
  assert.deepEqual(walls.filter((key) => key !== 'Service.ProtectControlGroups').sort(), known.sort());
  assert.equal(unitFlags(settings)?.[0], '--config-dir');
  await using dir = await tempDir();
  const found = outcomes(await lookIn(dir.path, shipped));
  assert.deepEqual(
    [found['service.unit'], found['service.settings'], found['service.walls'], found['service.watchdog']],
    ['ok', 'ok', 'ok', undefined],
  );
});

test('drop-ins count in their order; what they weaken is named', async () => {
  await using dir = await tempDir();
  const look = await lookIn(dir.path, shipped, {
    '20-last.conf': '[Service]\nProtectSystem=no\n',
    '10-first.conf': '[Service]\nProtectSystem=full\nNoNewPrivileges=true\nLimitNOFILE=1024\nType=exec\n',
    'readme.txt': '[Service]\nProtectHome=no\n',
  });
  const findings = judgeUnit(look, true);
  const of = (check: string): string => findings.find((each) => each.check === check)?.seen ?? '';
  assert.equal(of('service.walls'), 'weaker than what ships: ProtectSystem');
  assert.match(of('service.settings'), /: LimitNOFILE=1024 \(ships 65536\)$/);
  assert.match(of('service.watchdog'), /^Type=exec/);
  assert.match(of('service.unit'), /10-first\.conf, .*20-last\.conf$/);
});

test('the daemon as root, by the shipped drop-in, is one warning', async () => {
  await using dir = await tempDir();
  const findings = judgeUnit(await lookIn(dir.path, shipped, { 'root-workers.conf': rootWorkers }), true);
  const warnings = findings.filter(({ outcome }) => outcome === 'warning');
  assert.deepEqual(
    warnings.map(({ check }) => check),
    ['service.walls'],
  );
  assert.match(warnings[0]?.seen ?? '', /^the daemon is root/);
});

test('the state as systemd tells it', () => {
  const good: UnitState = {
    ...{ active: 'active', sub: 'running', enabled: 'enabled', result: 'success', restarts: 0, needsReload: false },
  };
  const settings = mergeUnit([{ path: 'u', text: shipped }]);
  const look = (state: Partial<UnitState>): UnitLook => ({
    ...{ kind: 'found', files: [{ path: 'u', text: shipped }], settings, mainPid: 7, state: { ...good, ...state } },
  });
  const state = (more: Partial<UnitState>, isRunning = false): readonly (string | undefined)[] => {
    const found = outcomes(look(more), isRunning);
    return ['state', 'enabled', 'restarts', 'reload'].map((name) => found[`service.${name}`]);
  };
  assert.deepEqual(state({}), ['ok', 'ok', undefined, undefined]);
  assert.deepEqual(state({ active: 'failed', restarts: 3 }), ['failed', 'ok', 'warning', undefined]);
  assert.deepEqual(state({ active: 'activating', sub: 'auto-restart' }), ['failed', 'ok', undefined, undefined]);
  assert.deepEqual(state({ active: 'inactive', enabled: 'disabled' }), ['failed', 'warning', undefined, undefined]);
  assert.deepEqual(state({ active: 'inactive', needsReload: true }, true), ['ok', 'ok', undefined, 'warning']);
});

test('no unit, and one that cannot be read', async () => {
  await using dir = await tempDir();
  assert.equal((await lookAtUnit(SCOPE, [dir.path])).kind, 'missing');
  const outcome = (isSystemd: boolean): string | undefined =>
    judgeUnit({ kind: 'missing', directories: [], isSystemd }, false)[0]?.outcome;
  assert.deepEqual([outcome(true), outcome(false)], ['warning', 'skipped']);
  await mkdir(join(dir.path, 'yggd.service'));
  const look = await lookAtUnit(SCOPE, [dir.path]);
  assert.deepEqual([look.kind, judgeUnit(look, false)[0]?.outcome], ['unreadable', 'skipped']);
});

test('words of a command with quotes, line ends and prefixes', () => {
  const flags = (line: string): readonly string[] | undefined =>
    unitFlags(mergeUnit([{ path: 'u', text: `[Service]\nExecStart=/bin/false\nExecStart=\nExecStart=${line}\n` }]));
  assert.deepEqual(flags(`-/usr/bin/yggd --state-dir "/var/lib/a b" \\\n  --config='x y'`), [
    ...['--state-dir', '/var/lib/a b', '--config=x y'],
  ]);
  assert.deepEqual(flags('/usr/bin/node /opt/yggd.js --log-level=debug'), ['--log-level=debug']);
  assert.equal(flags('/usr/bin/other'), undefined);
});
