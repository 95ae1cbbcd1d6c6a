/** What may be asked of a datastore, at random: the steps of its model test, and what they come to. */
import fc from 'fast-check';
import type { Acceptance, ResultAcceptance } from '../../src/datastore/index.js';

const MINUTE = 60_000;

export type Step =
  | {
      readonly do: 'accept';
      readonly ids: readonly number[];
      readonly isLarge: boolean;
      readonly ttl: number | undefined;
    }
  | {
      readonly do: 'dispatch';
      readonly at: number;
      readonly then: 'delivered' | 'failed' | 'requeue' | 'dead' | 'hold';
    }
  | { readonly do: 'land'; readonly then: 'delivered' | 'failed' | 'requeue' }
  | { readonly do: 'complete'; readonly at: number; readonly ids: readonly number[]; readonly isUrl: boolean }
  | { readonly do: 'fetch'; readonly at: number; readonly then: 'body' | 'file' | 'failed' | 'ended-meanwhile' }
  | { readonly do: 'cancel'; readonly id: number }
  | { readonly do: 'replay' }
  | { readonly do: 'result'; readonly ids: readonly number[]; readonly isUrl: boolean; readonly isLarge: boolean }
  | { readonly do: 'send'; readonly isUrl: boolean; readonly then: 'sent' | 'dead' | 'retry' | 'unsend' }
  | { readonly do: 'advance'; readonly by: number }
  | { readonly do: 'disk'; readonly is: 'well' | 'full' | 'flaky' }
  | { readonly do: 'restart' };

const number = fc.integer({ min: 0, max: 30 });
const at = fc.constantFrom(0, 1);
const numbers = fc.array(number, { minLength: 1, maxLength: 8 });
const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 0);
export const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('accept' as const),
      ids: numbers,
      isLarge: rarely,
      ttl: fc.constantFrom(undefined, undefined, undefined, 15_000, 0),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('dispatch' as const),
      at,
      then: fc.constantFrom('delivered', 'delivered', 'failed', 'requeue', 'dead', 'hold'),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('land' as const), then: fc.constantFrom('delivered', 'failed', 'requeue') }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('complete' as const),
      at,
      ids: fc.array(number, { maxLength: 4 }),
      isUrl: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fetch' as const),
      at,
      then: fc.constantFrom('body', 'file', 'failed', 'ended-meanwhile'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), id: number }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('replay' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('result' as const), ids: numbers, isUrl: fc.boolean(), isLarge: rarely }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      isUrl: fc.boolean(),
      then: fc.constantFrom('sent', 'sent', 'dead', 'retry', 'unsend'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('advance' as const), by: fc.constantFrom(1, 1_000, 16_000, MINUTE) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('disk' as const), is: fc.constantFrom('well', 'full', 'flaky') }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);

/** Whether it came to stable storage; heeded at once, since those of one step fail together. */
export async function outcome(acceptance: Acceptance | ResultAcceptance): Promise<boolean> {
  if (acceptance.kind === 'full') return false;
  try {
    await acceptance.durable;
    return true;
  } catch {
    return false;
  }
}
