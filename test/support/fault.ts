/**
 * A row of the fault table (CONTRACT section 4) as a named test. Each prints its seed and what it counted, and leaves a
 * line for the table that `npm run test:fault` prints at its end. The short form, which every run of the suite has,
 * goes one or a few rounds; the long form (YGG_FAULT=long) many.
 */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { seeded, testSeed } from './seeded.js';
import type { Random } from '../../src/time.js';

export const GROUPS = [
  'storage',
  'network',
  'session',
  'workers',
  'content',
  'envelope',
  'local attacker',
  'operation',
] as const;
export type Group = (typeof GROUPS)[number];

/** What is killed without warning. */
export type Victim = 'agent' | 'worker' | 'broker';

/** What a row of the table says. */
export interface FaultRow {
  readonly group: Group;
  readonly fault: string;
  readonly rounds: number;
  readonly kills: Readonly<Record<Victim, number>>;
  readonly messages: number;
  readonly lost: number;
  /** Done or sent a second time, each for a reason that the contract names. */
  readonly duplicated: number;
  /** Milliseconds. */
  readonly took: number;
}

/** Whether this is the long form. */
export const isLong = process.env['YGG_FAULT'] === 'long';

/** The fault in hand: where its chance comes from, and where it counts. */
export class FaultRun {
  readonly kills: Record<Victim, number> = { agent: 0, worker: 0, broker: 0 };
  messages = 0;
  lost = 0;
  duplicated = 0;
  rounds = 0;

  constructor(
    readonly test: TestContext,
    readonly seed: number,
    readonly random: Random,
  ) {}

  /** Numbers from 1 to `quick`, or to `long` in the long form; counts them as rounds. */
  *each(quick: number, long: number): Generator<number> {
    for (let round = 1; round <= (isLong ? long : quick); round++) {
      this.rounds += 1;
      yield round;
    }
  }

  killed(victim: Victim): void {
    this.kills[victim] += 1;
  }

  /** Counts messages, of which none may be lost: each was accounted for by the caller. */
  count(messages: number, duplicated = 0): void {
    this.messages += messages;
    this.duplicated += duplicated;
  }
}

export interface FaultOptions {
  /** As of node:test: the reason why it cannot run here, or false. */
  readonly skip?: string | false;
  readonly timeout?: number;
  /** Only in the long form: it takes minutes whatever its rounds. */
  readonly isLongOnly?: boolean;
}

/** Declares a fault as a test. `work` throws when anything that was acknowledged is not accounted for. */
export function fault(group: Group, name: string, options: FaultOptions, work: (run: FaultRun) => Promise<void>): void {
  const { isLongOnly = false, ...rest } = options;
  if (isLongOnly && !isLong) return;
  test(name, rest, async (context) => {
    const seed = testSeed();
    const run = new FaultRun(context, seed, seeded(seed));
    const began = performance.now();
    context.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
    try {
      await work(run);
    } catch (error) {
      throw new Error(`seed ${seed}, round ${run.rounds}`, { cause: error });
    }
    assert.equal(run.lost, 0, 'nothing may be lost');
    record(run, { group, fault: name, took: Math.round(performance.now() - began) });
  });
}

function record(run: FaultRun, what: Pick<FaultRow, 'group' | 'fault' | 'took'>): void {
  const { kills, messages, lost, duplicated } = run;
  const row: FaultRow = { ...what, rounds: Math.max(1, run.rounds), kills, messages, lost, duplicated };
  run.test.diagnostic(
    `rounds ${row.rounds}, kills ${Object.values(kills).join('/')}, messages ${messages}, duplicated ${duplicated}`,
  );
  const table = process.env['YGG_FAULT_TABLE'];
  if (table !== undefined) appendFileSync(table, `${JSON.stringify(row)}\n`);
}
