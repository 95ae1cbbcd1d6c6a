/** From what was seen to what it means: the judges of doctor that need no machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { may, READ, WRITE } from '../../../src/cli/doctor/account.js';
import { judgeClock } from '../../../src/cli/doctor/clock.js';
import { judgeDisk, mountsOf, type DiskLook } from '../../../src/cli/doctor/disk.js';
import { formatOf, interpretersOf } from '../../../src/cli/doctor/executable.js';
import { checkOf, countsOf, type Finding } from '../../../src/cli/doctor/finding.js';
import { judgeAgent } from '../../../src/cli/doctor/judge-agent.js';
import { apart, isSoon } from '../../../src/cli/doctor/judge-broker.js';
import { judgeMqtt, type MqttContext } from '../../../src/cli/doctor/judge-mqtt.js';
import { judgeProcess, type ProcessLook } from '../../../src/cli/doctor/process-look.js';
import { reportText } from '../../../src/cli/doctor/report.js';
import type { AgentLook } from '../../../src/cli/doctor/target.js';
import { judgeVersions } from '../../../src/cli/doctor/versions.js';
import type { MqttSeen } from '../../../src/connection/index.js';
import { parseBrokerAddress } from '../../../src/connection/index.js';

const brief = (findings: readonly Finding[]): readonly string[] =>
  findings.map(({ check, outcome }) => `${check} ${outcome}`);
const DAY = 86_400_000;
const GIB = 1024 ** 3;

test('the clock: before it was installed, far ahead, stepped back, kept by nobody', () => {
  const now = Date.parse('2026-11-26T12:00:00Z');
  const good = { now, built: now - DAY, lastWritten: now, sync: { kind: 'unknown' } } as const;
  assert.deepEqual(brief(judgeClock(good)), ['clock.time ok', 'clock.sync skipped']);
  assert.deepEqual(brief(judgeClock({ ...good, now: now - 3 * DAY }))[0], 'clock.time failed');
  assert.deepEqual(brief(judgeClock({ ...good, now: Date.parse('2106-02-07T00:00:00Z') }))[0], 'clock.time failed');
  assert.deepEqual(brief(judgeClock({ ...good, lastWritten: now + DAY }))[0], 'clock.time warning');
  const sync = (isSynchronized: boolean, isWanted: boolean): Finding | undefined =>
    judgeClock({ ...good, sync: { kind: 'known', isSynchronized, isWanted, source: 'timedatectl' } })[1];
  assert.equal(sync(true, true)?.outcome, 'ok');
  assert.match(sync(false, true)?.todo ?? '', /why the time servers do not answer/);
  assert.match(sync(false, false)?.todo ?? '', /set-ntp true/);
});

test('the disk: full, too small for the spool, out of inodes, read-only, noexec', () => {
  const settings = { stateDir: '/s', spoolLimit: GIB, spoolReserve: GIB / 16, deadLimit: GIB / 4 };
  const good: DiskLook = {
    ...{ path: '/s', free: 10 * GIB, total: 20 * GIB, inodes: { free: 9e6, total: 1e7 }, used: 0, mounts: [] },
  };
  assert.deepEqual(brief(judgeDisk(good, settings)), ['disk.space ok', 'disk.inodes ok']);
  assert.equal(judgeDisk({ ...good, free: GIB / 32 }, settings)[0]?.outcome, 'failed');
  assert.equal(judgeDisk({ ...good, free: GIB }, settings)[0]?.outcome, 'warning');
  assert.equal(judgeDisk({ ...good, free: GIB, used: GIB }, settings)[0]?.outcome, 'ok');
  assert.deepEqual(brief(judgeDisk({ ...good, inodes: { free: 3, total: 9 } }, settings))[1], 'disk.inodes failed');
  assert.deepEqual(brief(judgeDisk({ ...good, inodes: undefined }, settings)), ['disk.space ok']);
  assert.equal(judgeDisk({ reason: 'EACCES' }, settings)[0]?.outcome, 'skipped');
  const table = [
    '1 0 8:1 / / rw,relatime - ext4 /dev/a rw',
    '2 1 8:2 / /s ro,relatime - ext4 /dev/b ro',
    '3 1 8:3 / /w\\040x rw,noexec - ext4 /dev/c rw',
  ].join('\n');
  const mounts = [...mountsOf(table, 'state-dir', '/s/below'), ...mountsOf(table, 'worker-dir', '/w x')];
  assert.deepEqual(brief(judgeDisk({ ...good, mounts }, settings)).slice(2), [
    'disk.mount failed',
    'disk.mount failed',
  ]);
  assert.deepEqual(mountsOf(table, 'state-dir', '/sx')[0]?.mountPoint, '/');
});

test('executables by their first bytes', () => {
  const kind = (text: string): string => {
    const format = formatOf(Buffer.from(text, 'latin1'));
    return format.kind === 'unknown' ? format.problem : format.kind;
  };
  assert.match(kind('#!\n'), /names no interpreter/);
  assert.match(kind('\u007fELF'), /cut short/);
  assert.match(kind('MZ\0'), /neither a script nor a program/);
  const script = formatOf(Buffer.from('#! /usr/bin/env -S A=1 python3 -u\n'));
  assert.ok(script.kind === 'script');
  assert.deepEqual(interpretersOf(script), [
    { program: '/usr/bin/env', isOnPath: false },
    { program: 'python3', isOnPath: true },
  ]);
  // A 32-bit big-endian program with a loader.
  const elf = Buffer.alloc(256);
  elf.write('\u007fELF\u0001\u0002\u0001', 'latin1');
  elf.writeUInt16BE(20, 18);
  elf.writeUInt32BE(64, 28);
  elf.writeUInt16BE(32, 42);
  elf.writeUInt16BE(1, 44);
  elf.writeUInt32BE(3, 64);
  elf.writeUInt32BE(128, 68);
  elf.writeUInt32BE(12, 80);
  elf.write('/lib/ld.so.1', 128);
  assert.deepEqual(formatOf(elf), { kind: 'elf', machine: 'ppc', loader: '/lib/ld.so.' });
});

test('versions: Node too old, untested, another agent, no koffi', () => {
  const good = { ygg: '1.0.0', node: '22.1.0', hasKoffi: true, agent: '1.0.0', isNodeGone: false };
  assert.deepEqual(brief(judgeVersions(good)), ['version.node ok', 'version.koffi ok', 'version.agent ok']);
  assert.equal(judgeVersions({ ...good, node: '20.18.1' })[0]?.outcome, 'failed');
  assert.equal(judgeVersions({ ...good, node: '23.0.0' })[0]?.outcome, 'warning');
  const other = judgeVersions({ ...good, hasKoffi: false, agent: '0.9.0', isNodeGone: true });
  assert.deepEqual(brief(other).slice(1), [
    'version.koffi warning',
    'version.agent warning',
    'version.restart warning',
  ]);
  assert.equal(judgeVersions({ ...good, agent: undefined })[2]?.outcome, 'skipped');
});

test('limits of the process', () => {
  const good: ProcessLook = {
    ...{ pid: 1, fileLimit: 65_536, files: 30, memoryMax: undefined, memory: 1, killed: 0, tasks: undefined },
    isNodeGone: false,
  };
  assert.deepEqual(brief(judgeProcess(good)), ['limits.files ok', 'limits.memory ok']);
  assert.equal(judgeProcess({ ...good, fileLimit: 1024 })[0]?.outcome, 'warning');
  assert.equal(judgeProcess({ ...good, fileLimit: 1024, files: 1000 })[0]?.outcome, 'failed');
  assert.equal(judgeProcess({ ...good, fileLimit: undefined })[0]?.outcome, 'skipped');
  assert.equal(judgeProcess({ ...good, killed: 2 })[1]?.outcome, 'failed');
  assert.equal(judgeProcess({ ...good, memoryMax: 100, memory: 95 })[1]?.outcome, 'warning');
  assert.deepEqual(brief(judgeProcess({ ...good, tasks: { now: 99, max: 100 } }))[2], 'limits.tasks warning');
  assert.equal(judgeProcess(undefined)[0]?.outcome, 'skipped');
});

test('the agent: silent, off the broker, full, workers in every state', () => {
  assert.equal(judgeAgent({ kind: 'silent', socket: '/s', reason: 'late' })[0]?.outcome, 'failed');
  const worker = (name: string, state: string, isRegistered: boolean, restarts = 0): object => ({
    ...{ name, state, pid: 1, startedAt: 0n, restarts, detail: 'why', directives: ['d'], isRegistered },
  });
  const look = (link: object, workers: readonly object[], spool = 0n): AgentLook =>
    ({
      kind: 'running',
      socket: '/s',
      status: {
        ...{ version: '1', clientId: 'c', pid: 1, startedAt: 0n, link, workers },
        queues: {
          dead: 0n,
          pending: 1n,
          spoolBytes: spool,
          spoolLimit: 100n,
          accepted: 0n,
          duplicates: 0n,
          refused: 2n,
        },
      },
    }) as unknown as AgentLook;
  const link = (state: string): object => ({ state, broker: 'b', protocol: 'p', reason: 'no. Check it.' });
  const outcomesOf = (found: readonly Finding[], check: string): readonly string[] =>
    found.filter((each) => each.check === check).map(({ outcome }) => outcome);
  const states = ['up', 'down', 'connecting', 'waiting'].flatMap((state) =>
    outcomesOf(judgeAgent(look(link(state), [])), 'agent.link'),
  );
  assert.deepEqual(states, ['ok', 'failed', 'warning', 'failed']);
  const full = judgeAgent(look(link('up'), [], 80n));
  assert.deepEqual([outcomesOf(full, 'agent.spool'), outcomesOf(full, 'agent.refused')], [['failed'], ['warning']]);
  const workers = [
    worker('a', 'running', true),
    worker('b', 'running', true, 4),
    worker('c', 'starting', false),
    worker('d', 'stopped', false),
    worker('e', 'backoff', false),
    worker('f', 'refused', false),
  ];
  assert.deepEqual(outcomesOf(judgeAgent(look(link('up'), workers)), 'agent.worker'), [
    ...['ok', 'warning', 'warning', 'warning', 'failed', 'failed'],
  ]);
});

const SEEN: MqttSeen = {
  version: '5',
  took: 1,
  limits: {
    ...{ receiveMaximum: 20, maximumPacketSize: undefined, topicAliasMaximum: 10, maximumQos: undefined },
    ...{ isRetainAvailable: true, serverKeepalive: undefined },
  },
  subscriptions: [{ topic: 'x/control/in', code: 1 }],
  out: { kind: 'answered', code: 0 },
  status: undefined,
  pings: [1, 1, 1],
  pairs: { of: 'messages', took: [1, 1, 1] },
  echo: 'back',
  backlog: { sent: 64, inFlight: 64, kept: 64 },
};
const CONTEXT: MqttContext = {
  ...{ clientId: 'host', isAgentUp: false, isAgentHere: false },
  settings: { retainStatus: true, maxMessageSize: 1024 },
};

function mqtt(seen: Partial<MqttSeen>, context: Partial<MqttContext> = {}): Readonly<Record<string, string>> {
  const address = parseBrokerAddress('mqtt://broker');
  const look = {
    ...{ address, proxy: undefined, names: { kind: 'none' as const }, doors: [], tls: undefined },
    mqtt: { kind: 'seen', seen: { ...SEEN, ...seen } },
  } as const;
  return Object.fromEntries(judgeMqtt(look, { ...CONTEXT, ...context }).map(({ check, outcome }) => [check, outcome]));
}

test('the broker: rules, limits, times and who is on line', () => {
  assert.equal(mqtt({})['broker.rules'], 'ok');
  assert.equal(mqtt({ out: { kind: 'answered', code: 0x10 } })['broker.rules'], 'ok');
  assert.equal(mqtt({ out: { kind: 'answered', code: 0x97 } })['broker.rules'], 'failed');
  assert.equal(mqtt({ out: { kind: 'cut' } })['broker.rules'], 'failed');
  const refused = { subscriptions: [{ topic: 'x/data/in', code: 0x87 }] };
  assert.equal(mqtt(refused)['broker.rules'], 'failed');
  assert.equal(mqtt(refused, { isAgentUp: true })['broker.rules'], 'skipped');
  assert.equal(mqtt({}, { clientId: undefined })['broker.rules'], 'skipped');
  // The kernel may acknowledge at once now and then, for all that it waits.
  assert.equal(mqtt({ pairs: { of: 'pings', took: [1, 41, 42, 41] } })['broker.round-trip'], 'warning');
  // Far away, but with no wait of its own; and one slow packet is no rule.
  assert.equal(mqtt({ pings: [80, 80, 80], pairs: { of: 'messages', took: [81, 82, 83] } })['broker.round-trip'], 'ok');
  assert.equal(mqtt({ pairs: { of: 'pings', took: [1, 2, 42, 1] } })['broker.round-trip'], 'ok');
  assert.equal(mqtt({ pings: [1500], pairs: { of: 'messages', took: [1500] } })['broker.round-trip'], 'warning');
  const status = (state: string): Buffer => Buffer.from(JSON.stringify({ content: { state } }));
  assert.equal(mqtt({ status: status('online') })['broker.client-id'], 'warning');
  assert.equal(mqtt({ status: status('offline') })['broker.client-id'], 'ok');
  assert.equal(mqtt({ status: status('online') }, { isAgentHere: undefined })['broker.client-id'], 'ok');
  for (const odd of ['', '[]', '{"content":1}', 'null'])
    assert.equal(mqtt({ status: Buffer.from(odd) })['broker.client-id'], 'skipped');
});

test('limits of the broker that hinder an agent are told one by one', () => {
  const address = parseBrokerAddress('mqtt://broker');
  const limits = {
    ...SEEN.limits,
    maximumQos: 0,
    isRetainAvailable: false,
    maximumPacketSize: 512,
    serverKeepalive: 30,
  };
  const look = { address, proxy: undefined, names: { kind: 'none' }, doors: [], tls: undefined } as const;
  const found = judgeMqtt({ ...look, mqtt: { kind: 'seen', seen: { ...SEEN, limits } } }, CONTEXT);
  assert.deepEqual(
    found.filter(({ check }) => check === 'broker.limits').map(({ outcome }) => outcome),
    ['failed', 'warning', 'warning', 'ok'],
  );
});

test('who may do what by the mode', () => {
  const user = { uid: 5, gid: 50, groups: [50, 60], name: 'u' };
  assert.equal(may(user, READ, { uid: 5, gid: 1, mode: 0o100_400 }), true);
  assert.equal(may(user, READ, { uid: 5, gid: 50, mode: 0o100_044 }), false);
  assert.equal(may(user, WRITE, { uid: 1, gid: 60, mode: 0o100_020 }), true);
  assert.equal(may(user, READ, { uid: 1, gid: 1, mode: 0o100_640 }), false);
  assert.equal(may({ ...user, uid: 0 }, READ, { uid: 1, gid: 1, mode: 0 }), true);
});

test('certificates that end soon, and sentences taken apart', () => {
  const now = Date.parse('2026-11-26T12:00:00Z');
  const certificate = (lived: number, left: number): Parameters<typeof isSoon>[0] => ({
    ...{ subject: 's', issuer: 'i', names: '', validFrom: now - lived * DAY, validTo: now + left * DAY },
  });
  assert.deepEqual(
    [
      isSoon(certificate(350, 15), now),
      isSoon(certificate(351, 13), now),
      isSoon(certificate(1, 5), now),
      isSoon(certificate(5, 1), now),
    ],
    [false, true, false, true],
  );
  assert.deepEqual(apart('x refused: no. Check the file.'), ['x refused: no', 'Check the file']);
  assert.deepEqual(apart('it was lost.'), ['it was lost', '']);
});

test('a report fits its width, in colours or not, and spells control characters out', () => {
  const findings = [
    checkOf('a.b', 'x').failed('one two three four five six seven eight nine ten \u001b[2J', 'do this'),
    checkOf('c').ok('well'),
  ];
  const plain = reportText(findings, { isColoured: false, columns: 40 });
  assert.equal(
    plain,
    [
      'failed   a.b x: one two three four five',
      '         six seven eight nine ten',
      '         \\u001b[2J',
      '         → do this',
      'ok       c: well',
      '',
      '1 ok, 0 warning, 1 failed, 0 skipped',
      '',
    ].join('\n'),
  );
  assert.ok(reportText(findings, { isColoured: true, columns: 0 }).startsWith('\u001b[31mfailed\u001b[0m   a.b'));
  assert.deepEqual(countsOf(findings), { ok: 1, warning: 0, failed: 1, skipped: 0 });
});
