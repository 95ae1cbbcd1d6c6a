import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentFacts } from '../../../src/facts/recent-facts.js';
import type { FactSources } from '../../../src/facts/sources.js';
import { FakeClock, settle } from '../../support/clock.js';
import { recordingLog } from '../../support/log.js';

/** A machine whose name server answers when it is told to, and what it was asked. */
function machine() {
  const clock = new FakeClock();
  const asked: ((name: string) => void)[] = [];
  const sources: FactSources = {
    readText: () => Promise.resolve(''),
    ipv4Addresses: () => [],
    macAddresses: () => Promise.resolve([]),
    hostName: () => 'host',
    resolveHostName: () => new Promise((resolve) => asked.push(resolve)),
  };
  return { clock, asked, facts: new RecentFacts({ sources, clock, log: recordingLog() }) };
}

test('all who ask while the facts are read are given the same, and so is who asks within a second of it', async () => {
  const { clock, asked, facts } = machine();
  const both = [facts.read(), facts.read()];
  await settle();
  await clock.advance(1_500);
  both.push(facts.read());
  await settle();
  assert.equal(asked.length, 1);
  asked[0]?.('host.example.com');
  assert.deepEqual(new Set((await Promise.all(both)).map(({ fqdn }) => fqdn)), new Set(['host.example.com']));
  await settle();
  await clock.advance(1_000);
  assert.equal((await facts.read()).fqdn, 'host.example.com');
  assert.equal(asked.length, 1);
});

test('facts that are older are read anew', async () => {
  const { clock, asked, facts } = machine();
  const first = facts.read();
  await settle();
  asked[0]?.('old.example.com');
  await first;
  await settle();
  await clock.advance(1_001);
  const second = facts.read();
  await settle();
  asked[1]?.('new.example.com');
  assert.equal((await second).fqdn, 'new.example.com');
});
