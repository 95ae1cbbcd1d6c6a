/**
 * Damage to what lies on the disk (CONTRACT section 4, storage): bits flip and files are cut, anywhere, thousands of
 * times in the long form. Each store is opened in a process of its own, since what is feared is its death.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LmdbJournal } from '../../src/datastore/index.js';
import { END } from '../../src/datastore/journal.js';
import { inboundPrefix, recordKey } from '../../src/datastore/keys.js';
import { encodeRecord } from '../../src/datastore/record-codec.js';
import { WriteAheadLog } from '../../src/datastore/wal.js';
import { AgentError } from '../../src/errors.js';
import { silentLog } from '../../src/log/log.js';
import { directiveKey, messageKey } from '../../src/message/index.js';
import { fault, isLong, type FaultRun } from '../support/fault.js';
import { inbound } from '../support/messages.js';
import { between } from '../support/seeded.js';
import { openTestStore } from '../support/store.js';
import { tempDir, type TempDir } from '../support/temp.js';
import { ROOT } from '../support/yggd.js';

const MESSAGES = 400;

fault('storage', 'flipped bits anywhere in the store: no crash, and all that is readable is kept', {}, async (run) => {
  await using dir = await tempDir();
  const whole = await filledStore(dir);
  const rounds = isLong ? 2_000 : 60;
  const outcomes = await inChild(dir, 'flip', between(run.random, 1, 2 ** 30), rounds);
  count(run, outcomes, rounds);
  const kept = outcomes.map(({ kept: each = 0 }) => each);
  assert.equal(Math.max(...kept), whole);
  // A page holds some ten messages; a damaged table loses only what lies in the pages hit.
  assert.ok(Math.min(...kept) > whole * 0.8, `at least ${Math.min(...kept)} of ${whole} are kept`);
  run.test.diagnostic(`kept of ${whole}: ${describeKept(kept)}`);
});

fault('storage', 'truncated store: what is left is kept, and an empty one is refused', {}, async (run) => {
  await using dir = await tempDir();
  const whole = await filledStore(dir);
  const rounds = isLong ? 500 : 30;
  const outcomes = await inChild(dir, 'cut', between(run.random, 1, 2 ** 30), rounds);
  count(run, outcomes, rounds);
  run.test.diagnostic(
    `kept of ${whole}: ${describeKept(outcomes.map(({ kept = 0 }) => kept))}; refused ${outcomes.filter(({ code }) => code !== undefined).length}`,
  );
  for (const { code } of outcomes) assert.ok(code === undefined || code === 'state.corrupt', `refused with ${code}`);
  const path = join(dir.path, 'state/journal');
  for (const make of [() => truncate(join(path, 'data.mdb'), 0), () => rm(join(path, 'data.mdb'))]) {
    await make();
    const opened = new LmdbJournal(path).open();
    await assert.rejects(opened, (error) => error instanceof AgentError && error.code === 'state.corrupt');
  }
});

fault('storage', 'flipped bits and cuts in the log of a killed agent: all whole commits are kept', {}, async (run) => {
  await using dir = await tempDir();
  const commits = await killedWithLog(dir);
  const rounds = isLong ? 1_000 : 30;
  for (const kind of ['flip-log', 'cut-log'] as const) {
    const outcomes = await inChild(dir, kind, between(run.random, 1, 2 ** 30), rounds);
    count(run, outcomes, rounds);
    // Each commit of the store holds one record of its own, so that each that is hit costs one and no other.
    for (const { round, kept, hit } of outcomes)
      assert.equal(kept, commits - (hit ?? NaN), `round ${round} of ${kind}`);
    run.test.diagnostic(`${kind}: kept of ${commits}: ${describeKept(outcomes.map(({ kept = 0 }) => kept))}`);
  }
});

fault('storage', 'lock file gone or garbage: the store is opened', {}, async (run) => {
  await using dir = await tempDir();
  const whole = await filledStore(dir);
  const path = join(dir.path, 'state/journal');
  const garbage = (): Buffer => Buffer.from(Array.from({ length: 8272 }, () => between(run.random, 0, 255)));
  for (const make of [() => rm(join(path, 'lock.mdb')), () => writeFile(join(path, 'lock.mdb'), garbage())]) {
    await make();
    const journal = new LmdbJournal(path);
    await journal.open();
    assert.equal([...journal.range('records', { after: '', before: END })].length, whole);
    await journal.close();
  }
  run.count(whole);
});

/** A store as the agent leaves it: some delivered, some waiting, results, large contents; how many records it holds. */
async function filledStore(dir: TempDir): Promise<number> {
  const stateDir = join(dir.path, 'state');
  await mkdir(stateDir);
  await using test = await openTestStore({ stateDir, isOnDisk: true });
  const { store } = test;
  for (let n = 0; n < MESSAGES; n++) {
    const content = Buffer.alloc(n % 19 === 0 ? 30_000 : (n % 7) * 100, n);
    const taken = store.accept(inbound(`id-${n}`, { content }));
    assert.ok(taken.kind === 'accepted');
    await taken.durable;
    if (n % 4 === 0) {
      store.markReady(taken.key);
      store.markDispatching(taken.key);
      await store.delivered(taken.key);
    }
  }
  return MESSAGES - MESSAGES / 4;
}

/** A store that was killed before anything of it was in its tables, its commits in both files; how many those are. */
async function killedWithLog(dir: TempDir): Promise<number> {
  const path = join(dir.path, 'journal');
  const log = new WriteAheadLog(path, silentLog, Infinity);
  const journal = new LmdbJournal(path);
  await journal.open();
  await journal.close();
  await log.open(0);
  let commits = 0;
  for (const part of [MESSAGES / 2, MESSAGES / 4]) {
    for (let n = 0; n < part; n++, commits++) {
      const { key, value } = recordOf(commits);
      await log.append([
        { table: 'records', key, value },
        { table: 'facts', key: 'sequence', value: Buffer.from(`${commits}`) },
      ]);
    }
    log.rotate();
  }
  await log.close(false);
  await mkdir(join(dir.path, 'state'));
  await rename(path, join(dir.path, 'state/journal'));
  return commits;
}

function recordOf(n: number): { readonly key: string; readonly value: Buffer } {
  const key = messageKey(n + 1);
  const { content, ...message } = inbound(`id-${n}`, { content: Buffer.alloc((n % 7) * 100, n) });
  assert.ok(Buffer.isBuffer(content));
  const value = encodeRecord({
    ...message,
    kind: 'inbound',
    key,
    state: 'accepted',
    directiveKey: directiveKey(message.directive),
    content: { kind: 'inline', bytes: content },
    isFetched: false,
    attempts: 0,
    fetches: 0,
    dueAt: 0,
    replayOf: undefined,
  });
  return { key: recordKey(inboundPrefix(directiveKey(message.directive), 5), key), value };
}

interface Outcome {
  readonly round: number;
  readonly kept?: number;
  /** Commits of the log that were damaged. */
  readonly hit?: number;
  /** It was refused with this error. */
  readonly code?: string;
}

/** Rounds of damage to copies of the store in a child, one line of output each; a child that dies fails the test. */
async function inChild(
  dir: TempDir,
  kind: 'flip' | 'cut' | 'flip-log' | 'cut-log',
  seed: number,
  rounds: number,
): Promise<Outcome[]> {
  await mkdir(join(dir.path, 'copy'), { recursive: true });
  const program = join(ROOT, 'test/support/damage-main.ts');
  const words = ['--import', 'tsx', program, join(dir.path, 'state/journal'), join(dir.path, 'copy'), kind];
  const { stdout } = await promisify(execFile)(process.execPath, [...words, `${seed}`, `${rounds}`], {
    cwd: ROOT,
    maxBuffer: 2 ** 26,
  });
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Outcome);
}

function count(run: FaultRun, outcomes: readonly Outcome[], rounds: number): void {
  assert.equal(outcomes.length, rounds);
  run.rounds += rounds;
}

function describeKept(kept: readonly number[]): string {
  const sorted = [...kept].sort((a, b) => a - b);
  return `least ${sorted[0]}, median ${sorted[sorted.length >> 1]}, most ${sorted.at(-1)}`;
}
