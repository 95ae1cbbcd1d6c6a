/**
 * What the fuzzer works on: a parser with the inputs made for it and the claims its outcome is held to. Each input is
 * one call, which is timed; a slow one is measured again, also in processor time, since other programs share the cores,
 * and the least counts.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isLong } from '../support/fault.js';

/**
 * The longest a call may take, in milliseconds; above 1 MiB of input in proportion. The short form runs beside other
 * tests and with coverage: there only what hangs counts.
 */
const LONGEST_CALL = isLong ? 100 : 5_000;
const SIZE_OF_LONGEST_CALL = 1024 * 1024;
const MEASUREMENTS = 4;
/** No other program makes a call so much slower: then it is not measured again. */
const HOPELESS = 10;
/** How long a failure is made smaller, in milliseconds. */
const LONGEST_SHRINKING = 5_000;

export interface TargetSpec<I, O> {
  readonly inputs: fc.Arbitrary<I>;
  /** Inputs that every run has, before those made by chance. */
  readonly examples?: readonly I[];
  /** The call that is timed. What it throws is a crash: a parser whose contract is to throw catches that here. */
  readonly run: (input: I) => O;
  /** Fails when the outcome breaks a claim. */
  readonly judge: (outcome: Awaited<O>, input: I) => void;
  /** How much of all inputs it gets, against 1 of most: less where a call costs much. */
  readonly share?: number;
  readonly close?: () => Promise<void>;
}

export interface Target {
  readonly name: string;
  readonly share: number;
  readonly examples: number;
  /** Runs the examples when `withExamples`, and `count` inputs by chance; resolves with the longest call. */
  fuzz(options: { readonly count: number; readonly seed: number; readonly withExamples: boolean }): Promise<number>;
  close(): Promise<void>;
}

export function target<I, O>(name: string, spec: TargetSpec<I, O>): Target {
  const { inputs, examples = [], run, judge, share = 1, close = () => Promise.resolve() } = spec;
  return {
    name,
    share,
    examples: examples.length,
    close,
    async fuzz({ count, seed, withExamples }) {
      let longest = 0;
      let failedAt: number | undefined;
      const hold = async (input: I): Promise<void> => {
        try {
          await holdOnce(input);
        } catch (error) {
          failedAt ??= performance.now();
          throw error;
        }
      };
      const holdOnce = async (input: I): Promise<void> => {
        // What is slow takes long to be made smaller: what is left then passes, and the smallest so far is shown.
        if (failedAt !== undefined && performance.now() - failedAt > LONGEST_SHRINKING) return;
        const limit = LONGEST_CALL * Math.max(1, sizeOf(input) / SIZE_OF_LONGEST_CALL);
        const { outcome, took } = await timed(run, input, limit);
        longest = Math.max(longest, took);
        if (took > limit) throw new Error(`a call took ${Math.round(took)} ms`);
        judge(outcome, input);
        assertNothingPolluted();
      };
      for (const [n, example] of (withExamples ? examples : []).entries()) {
        // Not through fast-check, which would try to make an example of megabytes smaller.
        await hold(example).catch((error: unknown) => {
          throw failureOf(name, `example ${n}, ${shown(example)}`, error);
        });
      }
      const result = await fc.check(fc.asyncProperty(inputs, hold), { numRuns: count, seed });
      if (result.failed) {
        const { counterexample, errorInstance, counterexamplePath } = result;
        const where = `fast-check seed ${seed}, path ${counterexamplePath ?? ''}`;
        throw failureOf(name, `${shown(counterexample)} (${where})`, errorInstance);
      }
      return longest;
    },
  };
}

/** What a call gave, and how long it took at least. */
async function timed<I, O>(
  run: (input: I) => O,
  input: I,
  limit: number,
): Promise<{ outcome: Awaited<O>; took: number }> {
  let least = Infinity;
  for (let n = 1; ; n++) {
    const [began, used] = [performance.now(), n === 1 ? undefined : process.cpuUsage()];
    const started = run(input);
    const outcome = started instanceof Promise ? ((await started) as Awaited<O>) : (started as Awaited<O>);
    const spent = used === undefined ? undefined : process.cpuUsage(used);
    const processor = spent === undefined ? Infinity : (spent.user + spent.system) / 1_000;
    least = Math.min(least, performance.now() - began, processor);
    if (least <= limit || n === MEASUREMENTS || least > HOPELESS * limit) return { outcome, took: least };
  }
}

function sizeOf(input: unknown): number {
  return Buffer.isBuffer(input) || typeof input === 'string' ? input.length : 0;
}

function failureOf(name: string, input: string, cause: unknown): Error {
  const why = cause instanceof Error ? (cause.stack ?? cause.message).slice(0, 1_500) : String(cause);
  return new Error(`${name}: ${input}: ${why}`, { cause });
}

/** Inputs may have megabytes: their beginning. */
function shown(input: unknown): string {
  if (Buffer.isBuffer(input))
    return `${input.length} bytes ${JSON.stringify(input.subarray(0, 300).toString('latin1'))}`;
  return typeof input === 'string' ? JSON.stringify(input.slice(0, 300)) : fc.stringify(input).slice(0, 1_000);
}

const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, String.prototype] as const;
const MEMBERS = PROTOTYPES.map((each) => Object.getOwnPropertyNames(each).length);

/** Nothing that came from outside may add to what all objects inherit. */
function assertNothingPolluted(): void {
  for (const [i, each] of PROTOTYPES.entries()) {
    assert.equal(Object.getOwnPropertyNames(each).length, MEMBERS[i], 'a prototype was changed');
  }
}

/** As `assert.ok`, which takes seconds to find a text for a failure: too long while one is made smaller. */
export function claim(holds: unknown, what = 'a claim does not hold'): asserts holds {
  if (holds === false || holds === undefined || holds === null) throw new Error(what);
}

/** Control characters, line separators, and marks that turn the direction of text: none may stand in a reason. */
// eslint-disable-next-line no-control-regex -- finding control characters is what it is for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** The longest reason for a refusal, in characters. */
export const LONGEST_REASON = 1_024;

/** A secret that inputs carry, and that no reason and no log line may show. */
export const SECRET = 'hunter2Zq9';

/** A reason for a person is one printable line of bounded length that shows no secret. */
export function assertReason(reason: string, longest = LONGEST_REASON): void {
  const shown = JSON.stringify(reason.slice(0, 300));
  assert.notEqual(reason, '', 'a reason is empty');
  claim(reason.length <= longest, `a reason of ${reason.length} characters: ${shown}`);
  assert.doesNotMatch(reason, UNPRINTABLE, `a reason that is not printable: ${shown}`);
  claim(!reason.includes(SECRET), `a reason shows a secret: ${shown}`);
}

/** For a parser that may throw: the error, which must be one, or what it returned. */
export function caught<T>(run: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: run() };
  } catch (error) {
    claim(error instanceof Error);
    return { error };
  }
}
