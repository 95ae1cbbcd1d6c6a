/**
 * Hostile inputs to every parser (test/fuzz/targets): no crash, no call over 100 ms, no growth, and the claims of each
 * target. The short form takes the corpus and some inputs by chance, and looks for hangs only; the long form a million. A failure shows the input,
 * made as small as fast-check can, and the seed that makes it again.
 */
import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { errorText } from '../../src/errors.js';
import { fault, isLong } from '../support/fault.js';
import { between } from '../support/seeded.js';
import { TARGETS } from './targets/index.js';

const QUICK_INPUTS = 200 * TARGETS.length;
const LONG_INPUTS = 1_000_000;
/** Parts of a target's run; memory is compared after the first and after the last, so only where there are several. */
const PARTS = isLong ? 10 : 1;
/** What the heap may grow by between the two, in bytes: caches of the platform, no more. */
const MOST_GROWTH = 8 * 1024 * 1024;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heap(): number {
  if (!isLong) return 0;
  collect();
  return process.memoryUsage().heapUsed;
}

fault('envelope', '1,000,000 hostile inputs to every parser', { timeout: 3_600_000 }, async (run) => {
  const only = process.env['YGG_FUZZ_TARGET'];
  const targets = TARGETS.filter(({ name }) => only === undefined || name.includes(only));
  const shares = targets.reduce((sum, { share }) => sum + share, 0);
  const inputs = isLong ? LONG_INPUTS : QUICK_INPUTS;
  const failures: unknown[] = [];
  for (const each of targets) {
    const count = Math.ceil((inputs * each.share) / shares / PARTS);
    let [longest, first, last] = [0, 0, 0];
    const began = performance.now();
    try {
      for (let part = 1; part <= PARTS; part++) {
        const seed = between(run.random, 1, 0x7fff_ffff);
        longest = Math.max(longest, await each.fuzz({ count, seed, withExamples: part === 1 }));
        last = heap();
        if (part === 1) first = last;
      }
      assert.ok(last - first < MOST_GROWTH, `${each.name}: the heap grew by ${last - first} bytes`);
    } catch (error) {
      failures.push(error);
    } finally {
      await each.close();
    }
    const done = count * PARTS + each.examples;
    run.count(done);
    const took = Math.round(performance.now() - began);
    const grown = ((last - first) / 1024).toFixed(0);
    run.test.diagnostic(
      `${each.name}: ${done} inputs in ${took} ms, longest call ${longest.toFixed(1)} ms, heap ${grown} KiB`,
    );
  }
  // The runner shows the first of several errors only.
  for (const failure of failures) run.test.diagnostic(errorText(failure));
  assert.equal(failures.length, 0, 'targets that failed');
});
