import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Health } from '../../../src/metrics/health.js';
import { isHostAllowed } from '../../../src/metrics/hosts.js';
import type { Progress } from '../../../src/metrics/ports.js';
import { FakeClock } from '../../support/clock.js';

const GOOD: Progress = { isGood: true, reasons: [], isJournalOpen: true };
const broker = (): { state: string; broker: string; reason: string } => ({
  state: 'up',
  broker: 'mqtt://b',
  reason: '',
});

test('the journal is written once a second at most, whoever asks and however often', async () => {
  const clock = new FakeClock();
  let probes = 0;
  const probe = (): Promise<void> => {
    probes += 1;
    return Promise.resolve();
  };
  const health = new Health({ probe, broker, progress: () => GOOD }, clock);
  await Promise.all([health.alive(), health.ready(), health.alive()]);
  await clock.advance(999);
  assert.equal((await health.alive()).status, 200);
  assert.equal(probes, 1);
  await clock.advance(1);
  assert.equal((await health.ready()).status, 200);
  assert.equal(probes, 2);
  assert.equal(clock.pending, 0);
});

test('a disk that hangs is no disk: the answer comes without it', async () => {
  const clock = new FakeClock();
  const health = new Health({ probe: () => new Promise(() => undefined), broker, progress: () => GOOD }, clock);
  const answer = health.alive();
  await clock.advance(5_000);
  const { status, body } = await answer;
  assert.deepEqual([status, body], [503, { status: 'failing', reasons: ['the journal took no write within 5 s'] }]);
});

test('what is not open yet is told, and the journal is left alone meanwhile', async () => {
  const progress = (): Progress => ({
    isGood: false,
    reasons: ['the sockets are not open yet'],
    isJournalOpen: false,
  });
  const probe = (): Promise<void> => Promise.reject(new Error('not asked'));
  const health = new Health({ probe, broker, progress }, new FakeClock());
  const alive = await health.alive();
  assert.deepEqual(alive, { status: 200, body: { status: 'starting', reasons: ['the sockets are not open yet'] } });
  const { status, body } = await health.ready();
  assert.deepEqual(
    [status, body],
    [503, { status: 'not ready', reasons: ['the sockets are not open yet'], connection: broker() }],
  );
});

test('addresses and names of our own pass as Host; a name that anybody could make point here does not', () => {
  const names = ['Edge.Example.com'];
  for (const host of [
    '127.0.0.1',
    '10.1.2.3:9464',
    '[::1]',
    '[fe80::1]:1',
    'localhost',
    'localhost.',
    'edge.example.com:1',
  ])
    assert.equal(isHostAllowed(host, names), true, host);
  for (const host of [
    undefined,
    '',
    ' localhost',
    'evil.com',
    'edge.example.com.evil.com',
    'localhost:',
    'localhost:123456',
    'user@localhost',
    '127.1',
    '0x7f000001',
    '[127.0.0.1]',
    '[::1',
    '::1',
    '1.2.3.4.5',
    'localhost/',
    'löcalhost',
    'a'.repeat(300),
  ])
    assert.equal(isHostAllowed(host, names), false, String(host));
});
