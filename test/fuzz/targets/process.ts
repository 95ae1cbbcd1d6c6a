/** What the machine says: /proc, cgroups, accounts, hosts, what workers write, and our own notes that another wrote over. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { dashed, readCanonicalFacts } from '../../../src/facts/canonical-facts.js';
import { nameInHosts, type FactSources } from '../../../src/facts/sources.js';
import { silentLog } from '../../../src/log/log.js';
import { ownUnit } from '../../../src/process/cgroup.js';
import { isAllowedVariable } from '../../../src/process/environment.js';
import { parseNote } from '../../../src/process/note.js';
import { LineSplitter, MAX_LINE } from '../../../src/process/output.js';
import { parseStat } from '../../../src/process/proc.js';
import { parseGroup, parsePasswd } from '../../../src/process/users.js';
import { systemClock } from '../../../src/time.js';
import { byteExamples, hostileText, jsonObject, mutated, textExamples } from '../corpus.js';
import { claim, target, type Target } from '../target.js';

const STAT = `42 (a) b (c) S 1 42 42 0 -1 4194560 ${'1 '.repeat(12)}987654 1 2 3\n`;
const NOTE = {
  bootId: ['"b"', '7'],
  children: [
    '[]',
    '[{"name":"a","executable":"/x","pid":42,"startTime":"7"}]',
    '[{"name":"a","executable":"/x","pid":-1,"startTime":"7"}]',
    '[null]',
  ],
} as const;

function linesOf(chunks: readonly Buffer[]): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  for (const chunk of chunks) splitter.write(chunk);
  splitter.end();
  return lines;
}

export const processTargets: readonly Target[] = [
  target('/proc/PID/stat', {
    inputs: hostileText([STAT, '1 (systemd) S 0']),
    examples: [...textExamples, STAT],
    run: (text) => parseStat(42, text),
    judge: (stat) => claim(stat === undefined || (stat.pid === 42 && typeof stat.startTime === 'string')),
  }),
  target('/proc/self/cgroup', {
    inputs: hostileText([
      '0::/system.slice/yggd.service\n',
      '0::/system.slice/yggd.service/agent\n',
      '1:x:/y\n0::/../x.service',
    ]),
    examples: textExamples,
    run: (text) => ownUnit(text),
    judge: (unit, text) => claim(unit === undefined || (unit.unit.endsWith('.service') && text.includes(unit.unit))),
  }),
  target('children.json', {
    inputs: fc.oneof(
      jsonObject(NOTE),
      hostileText(['{"bootId":"b","children":[{"name":"a","executable":"/x","pid":42,"startTime":"7"}]}']),
    ),
    examples: textExamples,
    run: (text) => parseNote(text),
    judge: (note) => {
      for (const { pid, name, executable, startTime } of note?.children ?? []) {
        claim(Number.isSafeInteger(pid) && pid > 1);
        claim([name, executable, startTime].every((each) => typeof each === 'string'));
      }
    },
  }),
  target('passwd and group', {
    inputs: hostileText([
      'root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:\n',
      'wheel:x:10:ann,bob\n',
      '#x\n:::\n',
    ]),
    examples: textExamples,
    run: (text) => ({ users: parsePasswd(text), groups: parseGroup(text) }),
    judge: ({ users, groups }) => {
      for (const { uid, gid } of users) claim(Number.isSafeInteger(uid) && Number.isSafeInteger(gid) && uid >= 0);
      for (const { gid } of groups) claim(Number.isSafeInteger(gid) && gid >= 0);
    },
  }),
  target('lines that a worker writes', {
    inputs: fc.tuple(
      mutated([Buffer.from('one\ntwo\r\nthree'), Buffer.alloc(20_000, 0x61), Buffer.from('\u001b[31mred\n')]),
      fc.array(fc.nat(70_000), { maxLength: 8 }),
    ),
    examples: byteExamples.map((bytes): [Buffer, number[]] => [bytes, [1, 7, 100]]),
    run: ([bytes, cuts]) => {
      const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      return linesOf(places.slice(1).map((end, n) => bytes.subarray(places[n] ?? 0, end)));
    },
    judge: (lines, [bytes]) => {
      assert.deepEqual(lines, linesOf([bytes]), 'it depends on where the stream was cut');
      for (const line of lines) {
        claim(line.length <= MAX_LINE + 10);
        // eslint-disable-next-line no-control-regex -- control characters are what it looks for
        assert.doesNotMatch(line, /[\0-\x08\x0a-\x1f\x7f-\x9f]/);
      }
    },
  }),
  target('variables of a worker’s file', {
    inputs: fc.tuple(
      hostileText(['A', 'PATH', 'LD_PRELOAD', 'YGG_X', 'NODE_OPTIONS'], 2_000),
      hostileText(['x'], 2_000),
    ),
    run: ([name, value]) => isAllowedVariable(name, value),
    judge: (isAllowed, [name, value]) =>
      claim(!isAllowed || !(/[=\0\n]|^(PATH|NODE_OPTIONS|YGG_.*|LD_.*)$/.test(name) || value.includes('\0'))),
  }),
  target('hosts and machine-id', {
    inputs: hostileText([
      '127.0.0.1 localhost\n10.0.0.1 host host.example # x\n',
      '0123456789abcdef0123456789abcdef\n',
    ]),
    examples: textExamples,
    run: (text) => ({ name: nameInHosts(text, 'host'), id: dashed(text.trim()) }),
    judge: ({ name, id }) => {
      claim(name === '' || name.includes('.'));
      assert.match(id, /^$|^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    },
  }),
  target('canonical facts', {
    inputs: hostileText([
      '{"insights_id":"x","ip_addresses":["10.0.0.1"],"mac_addresses":[],"fqdn":"a.b","__proto__":{"x":1}}',
      '0123456789abcdef0123456789abcdef',
      '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
    ]),
    examples: textExamples,
    share: 0.3,
    run: (text) => {
      const sources: FactSources = {
        readText: () => Promise.resolve(text),
        ipv4Addresses: () => [text],
        macAddresses: () => Promise.resolve([text, '00:00:00:00:00:00']),
        hostName: () => 'host.example',
        resolveHostName: () => Promise.resolve(text),
      };
      return readCanonicalFacts({ sources, clock: systemClock, log: silentLog, factsFile: '/facts.json' });
    },
    judge: (facts) => {
      const names = [
        'insights_id',
        'machine_id',
        'bios_uuid',
        'subscription_manager_id',
        'ip_addresses',
        'mac_addresses',
        'fqdn',
      ];
      assert.deepEqual(Object.keys(facts), names);
      for (const value of Object.values(facts) as unknown[]) claim(typeof value === 'string' || Array.isArray(value));
    },
  }),
];
