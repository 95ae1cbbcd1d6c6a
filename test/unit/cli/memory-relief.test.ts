/** Memory is given back after work, seldom in its midst, and nothing ticks at rest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRelief, openTrim } from '../../../src/cli/memory-relief.js';
import { FakeClock } from '../../support/clock.js';

const MIB = 1024 * 1024;

test('once behind the work, and each 5 s in the midst of it where there is much', async () => {
  const clock = new FakeClock();
  const scope = new AbortController();
  let resident = 80 * MIB;
  let looks = 0;
  let trims = 0;
  const relief = new MemoryRelief(
    { clock, resident: () => ((looks += 1), resident), trim: () => (trims += 1) },
    scope.signal,
  );
  await clock.advance(60_000);
  assert.equal(looks, 0, 'nobody looks before there is work');
  relief.touch();
  await clock.advance(60_000);
  assert.deepEqual([looks, trims], [2, 0], 'in its midst and behind it, and there is little');

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
  scope.abort();
  relief.touch();
  await clock.advance(10_000);
  assert.equal(trims, before + 1);
});

test('the real thing can be called again and again', async (t) => {
  const trim = await openTrim();
  if (trim === undefined) {
    t.diagnostic('no koffi, or another C library: nothing to call');
    return;
  }
  for (let n = 0; n < 3; n++) trim();
});
