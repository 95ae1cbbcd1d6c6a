/**
 * A process that damages copies of a store, one after the other, and prints what came of each: it is opened, read as a
 * whole and written to. `damage-main STORE COPY flip|cut|flip-log|cut-log SEED ROUNDS`.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LmdbJournal } from '../../src/datastore/index.js';
import { END, TABLES } from '../../src/datastore/journal.js';
import { decodeRecord } from '../../src/datastore/record-codec.js';
import { AgentError } from '../../src/errors.js';
import { FRAMES_AT, scan } from '../../src/datastore/wal-frames.js';
import type { Random } from '../../src/time.js';
import { between, seeded } from './seeded.js';

const PAGE = 4096;
const LOG = ['wal-0', 'wal-1'] as const;
const [store = '', copy = '', kind = '', seed = '', rounds = ''] = process.argv.slice(2);

/** One to three bits: anywhere, or, as often, in the head of a page, where they do the most harm. */
function flip(bytes: Buffer, random: Random): Buffer {
  for (let left = between(random, 1, 3); left > 0; left--) {
    const page = between(random, 0, bytes.length / PAGE - 1) * PAGE;
    const at = page + between(random, 0, random() < 0.5 ? 64 : PAGE - 1);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << between(random, 0, 7)), at);
  }
  return bytes;
}

function cut(bytes: Buffer, random: Random): Buffer {
  return bytes.subarray(0, between(random, 0, bytes.length - 1));
}

/** A log is there where the store was killed. */
function existing(...names: readonly string[]): string[] {
  return names.filter((name) => existsSync(join(store, name)));
}

/** How many commits of a file of the log are as they were written. */
function whole(bytes: Buffer): number {
  return bytes.length < FRAMES_AT ? 0 : scan(bytes).frames.length;
}

async function round(number: number): Promise<object> {
  const random = seeded(Number(seed) + number);
  rmSync(copy, { recursive: true, force: true });
  await mkdir(copy);
  writeFileSync(join(copy, 'made'), '');
  const hurt = kind.endsWith('-log') ? LOG[between(random, 0, 1)] : 'data.mdb';
  let hit: number | undefined;
  for (const name of existing('data.mdb', ...LOG)) {
    const bytes = readFileSync(join(store, name));
    const damaged = name !== hurt ? bytes : kind.startsWith('flip') ? flip(bytes, random) : cut(bytes, random);
    if (name === hurt && name !== 'data.mdb') hit = whole(readFileSync(join(store, name))) - whole(damaged);
    writeFileSync(join(copy, name), damaged);
  }
  const journal = new LmdbJournal(copy);
  try {
    await journal.open();
  } catch (error) {
    if (error instanceof AgentError) return { round: number, code: error.code };
    throw error;
  }
  let kept = 0;
  journal.get('past', 'all pages are read for it');
  for (const table of TABLES) {
    if (table === 'past') continue;
    for (const [, value] of journal.range(table, { after: '', before: END })) {
      if (table === 'records' && decodeRecord(value, '') !== undefined) kept += 1;
    }
  }
  for (let n = 0; n < 3; n++) await journal.commit([{ table: 'facts', key: `probe/${n}`, value: Buffer.alloc(9_000) }]);
  await journal.close();
  return { round: number, kept, hit };
}

for (let number = 0; number < Number(rounds); number++)
  process.stdout.write(`${JSON.stringify(await round(number))}\n`);
