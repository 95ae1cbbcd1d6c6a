/** Chance that can be had again: a test prints its seed, and YGG_TEST_SEED gives it one. */
import type { Random } from '../../src/time.js';

/**
 * The seed of this run: YGG_TEST_SEED, or one by chance. On CI always the same: there a change is judged, and must not
 * answer for what chance finds in the code of others; who runs tests by hand draws.
 */
export function testSeed(): number {
  const given = Number(process.env['YGG_TEST_SEED']);
  if (Number.isSafeInteger(given) && given > 0) return given;
  return process.env['CI'] === 'true' ? 4_711 : 1 + Math.floor(Math.random() * 0xffff_fffe);
}

/** A generator of 32 bits of state (mulberry32): enough to pick moments by. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from `low` to `high`, both included. */
export function between(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}
