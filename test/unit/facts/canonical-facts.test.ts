import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { readCanonicalFacts } from '../../../src/facts/canonical-facts.js';
import { nameInHosts, systemSources, type FactSources } from '../../../src/facts/sources.js';
import { makeCertificate } from '../../support/certificates.js';
import { systemClock } from '../../../src/time.js';
import { FakeClock, settle } from '../../support/clock.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

const EMPTY = {
  insights_id: '',
  machine_id: '',
  bios_uuid: '',
  subscription_manager_id: '',
  ip_addresses: [],
  mac_addresses: [],
  fqdn: '',
};

const fail = (): never => {
  throw new Error('no such source');
};
const bare: FactSources = {
  readText: () => Promise.reject(Object.assign(new Error('none'), { code: 'ENOENT' })),
  ipv4Addresses: fail,
  macAddresses: () => Promise.reject(new Error('none')),
  hostName: fail,
  resolveHostName: fail,
};
const files = (texts: Readonly<Record<string, string>>) => (path: string) =>
  texts[path] === undefined ? bare.readText(path) : Promise.resolve(texts[path]);

function read(sources: Partial<FactSources>, options: { factsFile?: string; clock?: FakeClock } = {}) {
  const log = recordingLog();
  const facts = readCanonicalFacts({ sources: { ...bare, ...sources }, clock: new FakeClock(), log, ...options });
  return { facts, log };
}

test('a machine without any source has empty facts and nothing fails', async () => {
  assert.deepEqual(await read({}).facts, EMPTY);
});

test('all facts are read from where the original reads them', async () => {
  await using dir = await tempDir();
  const { cert } = await makeCertificate(dir.path, 'consumer', 'consumer-7');
  const { facts } = read({
    readText: files({
      '/etc/insights-client/machine-id': 'c3d1d3ba-0000-4000-8000-000000000001\n',
      '/etc/machine-id': '0123456789abcdef0123456789ABCDEF\n',
      '/sys/class/dmi/id/product_uuid': '4c4c4544-0000-1000-8000-000000000002\n',
      '/etc/pki/consumer/cert.pem': await readFile(cert, 'utf8'),
    }),
    ipv4Addresses: () => ['10.0.0.7'],
    macAddresses: () =>
      Promise.resolve(['52:54:00:00:00:02', '00:00:00:00:00:00', '', '52:54:00:00:00:01', '52:54:00:00:00:01']),
    hostName: () => 'host-7',
    resolveHostName: (host) => Promise.resolve(`${host}.example.com.`),
  });
  assert.deepEqual(await facts, {
    insights_id: 'c3d1d3ba-0000-4000-8000-000000000001',
    machine_id: '01234567-89ab-cdef-0123-456789abcdef',
    bios_uuid: '4c4c4544-0000-1000-8000-000000000002',
    subscription_manager_id: 'consumer-7',
    ip_addresses: ['10.0.0.7'],
    mac_addresses: ['52:54:00:00:00:01', '52:54:00:00:00:02'],
    fqdn: 'host-7.example.com',
  });
});

test('sources that hold nonsense give empty facts', async () => {
  const readText = files({ '/etc/machine-id': 'uninitialized\n', '/etc/pki/consumer/cert.pem': 'not a certificate' });
  assert.deepEqual(await read({ readText }).facts, EMPTY);
});

test('name servers that are silent hold nothing up: the short name is taken', async () => {
  const clock = new FakeClock();
  const { facts } = read({ hostName: () => 'host-7', resolveHostName: () => new Promise(() => undefined) }, { clock });
  await settle();
  await clock.advance(2000);
  assert.equal((await facts).fqdn, 'host-7');
  assert.equal(clock.pending, 0);
});

test('a full host name is asked of nobody, and one that nobody knows stays short', async () => {
  assert.equal((await read({ hostName: () => 'a.example.com' }).facts).fqdn, 'a.example.com');
  assert.equal((await read({ hostName: () => 'a', resolveHostName: () => Promise.resolve('') }).facts).fqdn, 'a');
});

test('members of the facts file replace the facts of their name', async () => {
  const text = JSON.stringify({ fqdn: 'x.example.com', ip_addresses: ['10.1.1.1'], machine_id: 5, other: 'y' });
  const { facts, log } = read({ readText: files({ '/f.json': text }) }, { factsFile: '/f.json' });
  assert.deepEqual(await facts, { ...EMPTY, fqdn: 'x.example.com', ip_addresses: ['10.1.1.1'] });
  assert.deepEqual((await log.line('facts.file_members')).fields.left, ['machine_id', 'other']);
});

test('a facts file that is missing is nothing, one that is broken is told', async () => {
  const absent = read({}, { factsFile: '/f.json' });
  assert.deepEqual(await absent.facts, EMPTY);
  assert.equal(absent.log.lines.filter((line) => line.level === 'warn').length, 0);
  for (const text of ['{', '[]']) {
    const broken = read({ readText: files({ '/f.json': text }) }, { factsFile: '/f.json' });
    assert.deepEqual(await broken.facts, EMPTY);
    assert.equal((await broken.log.line('facts.file_unreadable')).level, 'warn');
  }
});

test('hosts(5) gives the full name of a host where it has one', () => {
  const hosts =
    '127.0.0.1 localhost\n127.0.1.1 host-7.example.com host-7 # me\n10.0.0.1 other\n127.0.0.1 localhost.localdomain odd\n';
  assert.equal(nameInHosts(hosts, 'host-7'), 'host-7.example.com');
  assert.equal(nameInHosts(hosts, 'other'), '');
  assert.equal(nameInHosts(hosts, 'odd'), '');
  assert.equal(nameInHosts(hosts, 'nobody'), '');
});

test('the facts of this machine have the right shapes', async () => {
  const facts = await readCanonicalFacts({ sources: systemSources, clock: systemClock, log: recordingLog() });
  assert.deepEqual(Object.keys(facts).sort(), Object.keys(EMPTY).sort());
  for (const address of facts.ip_addresses) assert.match(address, /^\d+\.\d+\.\d+\.\d+$/);
  assert.ok(!facts.ip_addresses.includes('127.0.0.1'));
  for (const mac of facts.mac_addresses) assert.match(mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
  assert.notEqual(facts.fqdn, '');
});
