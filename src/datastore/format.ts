/**
 * What the layout of the journal is called. An older one is brought up to date at the start, one step for each version,
 * in bounded commits; a newer one is refused, since nothing is known of it. The version is written last, so an upgrade
 * that was cut off begins anew: each of its steps leaves alone what is done.
 */
import { crashPoint } from '../crash-point.js';
import { AgentError } from '../errors.js';
import type { Log } from '../log/log.js';
import { changesFor } from './content-sums.js';
import { END, TABLES, type Change, type Journal } from './journal.js';
import { decodeRecord, encodeRecord } from './record-codec.js';

/**
 * 2: dead messages keep what a replay needs, and torn records have a table of their own. 3: an entry of `ended` may name
 * many ids, what is known of a message id may name the results that came with its end, and replies may be for this machine.
 * 4: a write-ahead log stands before the tables (an older version would not look into it), and what a record holds by
 * default is left out. 5: contents are known by sums under a key of the store, and large results no more by SHA-256. 6: what
 * is known of ids that have ended stands in pages of `past`; what stands among `ids` is forgotten there in its time.
 */
export const FORMAT = 6;

const KEY = 'format';
/** Changes in one commit. */
const BATCH = 256;

/** From each older version to the next: all that has to be changed, whatever of it is changed already. */
const UPGRADES: Readonly<Record<number, (journal: Journal) => Iterable<Change>>> = {
  1: tellOriginOfDead,
  // What formats 2 and 3 wrote is read as it stands.
  2: () => [],
  3: () => [],
  4: () => changesFor(true),
  5: () => [],
};

export interface FormatOptions {
  readonly journal: Journal;
  readonly stateDir: string;
  readonly log: Log;
}

/** Sees to it that the journal has the format of this version. Throws AgentError state.version. */
export async function bringUpToDate({ journal, stateDir, log }: FormatOptions): Promise<void> {
  const stored = journal.get('facts', KEY);
  const found = stored === undefined ? FORMAT : Number(stored.toString());
  if (!Number.isInteger(found) || found < 1 || found > FORMAT) {
    throw new AgentError(
      'state.version',
      `the journal in ${stateDir} has format ${String(stored)}; this version reads format ${FORMAT} and older. ` +
        'Install the version that wrote it, or start with another state-dir',
      { stateDir },
    );
  }
  for (let version = found; version < FORMAT; version++) {
    log.info('journal.upgrading', 'the journal is brought up to date', { from: version, to: version + 1 });
    await upgrade(journal, UPGRADES[version]?.(journal) ?? []);
    await journal.commit([formatChange(version + 1)]);
  }
  if (stored === undefined) {
    // A store that has lost its format keeps what it has of its key.
    await journal.commit([formatChange(FORMAT), ...(isEmpty(journal) ? changesFor(false) : [])]);
  }
  // An older version looks into the tables only: the format has to be there before anything is acknowledged. What is
  // closed has all it holds in its tables; where those cannot be written, nothing is committed behind it either.
  if (stored === undefined || found < FORMAT) {
    await journal.close();
    await journal.open();
  }
}

function isEmpty(journal: Journal): boolean {
  return TABLES.every((table) => table === 'facts' || journal.count(table) === 0);
}

function formatChange(version: number): Change {
  return { table: 'facts', key: KEY, value: Buffer.from(String(version)) };
}

async function upgrade(journal: Journal, changes: Iterable<Change>): Promise<void> {
  let batch: Change[] = [];
  const commit = async (): Promise<void> => {
    await journal.commit(batch);
    batch = [];
    FAULT: crashPoint('start.upgrading');
  };
  for (const change of changes) {
    batch.push(change);
    if (batch.length === BATCH) await commit();
  }
  if (batch.length > 0) await commit();
}

/** Of those that format 1 kept nobody knows: it is written down, so that no reader has to guess. */
function* tellOriginOfDead(journal: Journal): Generator<Change> {
  for (const [key, bytes] of rangeInParts(journal, 'dead')) {
    // The name of its content file is kept as it stands; a torn one is seen to when the journal is read.
    const record = decodeRecord(bytes, '');
    if (record?.kind === 'dead') yield { table: 'dead', key, value: encodeRecord(record) };
  }
}

/** A range that may be changed by commits while it is read. */
function* rangeInParts(journal: Journal, table: 'dead'): Generator<readonly [string, Buffer]> {
  for (let after = ''; ;) {
    const part = [...journal.range(table, { after, before: END, limit: BATCH })];
    yield* part;
    const last = part.at(-1);
    if (last === undefined) return;
    after = last[0];
  }
}
