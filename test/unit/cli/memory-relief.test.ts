/** Memory is given back after work, seldom in its midst, and nothing ticks at rest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { MemoryRelief, openCollector, openTrim } from '../../../src/cli/memory-relief.js';
import { FakeClock } from '../../support/clock.js';

const MIB = 1024 * 1024;

test('once behind the work, and each 5 s in the midst of it where there is much', async () => {
  const clock = new FakeClock();
  const scope = new AbortController();
  let resident = 80 * MIB;
  let looks = 0;
  let trims = 0;
  let collections = 0;
  const relief = new MemoryRelief(
    { clock, resident: () => ((looks += 1), resident), collect: () => (collections += 1), trim: () => (trims += 1) },
    scope.signal,
  );
  await clock.advance(60_000);
  assert.equal(looks, 0, 'nobody looks before there is work');
  relief.touch();
  await clock.advance(60_000);
  assert.deepEqual([looks, trims], [3, 0], 'in its midst and behind it, and there is little');

  resident = 300 * MIB;
  for (let second = 0; second < 20; second++) {
    relief.touch();
    await clock.advance(1_000);
  }
  assert.ok(trims >= 3 && trims <= 5, `${trims} in 20 s of work`);
  const before = trims;
  resident = 120 * MIB;
  relief.touch();
  await clock.advance(10_000);
  assert.equal(trims, before + 1, 'less is too much only behind the work');
  assert.equal(collections, 0, 'nor is it worth a collection');

  resident = 200 * MIB;
  for (let burst = 0; burst < 10; burst++) {
    relief.touch();
    await clock.advance(3_000);
  }
  assert.equal(collections, 1, 'one for 30 s, and none in the midst of work');
  const trimmed = trims;
  scope.abort();
  relief.touch();
  await clock.advance(10_000);
  assert.deepEqual([trims, collections], [trimmed, 1]);
});

test('what nobody needs is collected where V8’s collector is exposed', () => {
  setFlagsFromString('--expose-gc');
  const gone = new WeakRef({});
  const collect = openCollector();
  assert.ok(collect);
  // A WeakRef keeps what it was just asked for until the turn is over.
  return new Promise((resolve) => setImmediate(resolve)).then(() => {
    collect();
    assert.equal(gone.deref(), undefined);
    setFlagsFromString('--no-expose-gc');
    assert.equal(openCollector(), undefined);
  });
});

test('the real thing can be called again and again', async (t) => {
  const trim = await openTrim();
  if (trim === undefined) {
    t.diagnostic('no koffi, or another C library: nothing to call');
    return;
  }
  for (let n = 0; n < 3; n++) trim();
});
