/**
 * A process that damages copies of a store, one after the other, and prints what came of each: it is opened, read as a
 * whole and written to. `damage-main STORE COPY flip|cut SEED ROUNDS`.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LmdbJournal } from '../../src/datastore/index.js';
import { END, TABLES } from '../../src/datastore/journal.js';
import { decodeRecord } from '../../src/datastore/record-codec.js';
import { AgentError } from '../../src/errors.js';
import type { Random } from '../../src/time.js';
import { between, seeded } from './seeded.js';

const PAGE = 4096;
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

async function round(number: number): Promise<object> {
  const random = seeded(Number(seed) + number);
  const bytes = readFileSync(join(store, 'data.mdb'));
  const damaged = kind === 'flip' ? flip(bytes, random) : bytes.subarray(0, between(random, 0, bytes.length - 1));
  rmSync(copy, { recursive: true, force: true });
  await mkdir(copy);
  writeFileSync(join(copy, 'data.mdb'), damaged);
  writeFileSync(join(copy, 'made'), '');
  const journal = new LmdbJournal(copy);
  try {
    await journal.open();
  } catch (error) {
    if (error instanceof AgentError) return { round: number, code: error.code };
    throw error;
  }
  let kept = 0;
  for (const table of TABLES) {
    for (const [, value] of journal.range(table, { after: '', before: END })) {
      if (table === 'records' && decodeRecord(value, '') !== undefined) kept += 1;
    }
  }
  for (let n = 0; n < 3; n++) await journal.commit([{ table: 'facts', key: `probe/${n}`, value: Buffer.alloc(9_000) }]);
  await journal.close();
  return { round: number, kept };
}

for (let number = 0; number < Number(rounds); number++)
  process.stdout.write(`${JSON.stringify(await round(number))}\n`);
