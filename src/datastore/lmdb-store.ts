/** How this project opens LMDB: its tables, and what of lmdb-js is switched off and why. */
import type * as Lmdb from 'lmdb';
import type { Database, RootDatabase } from 'lmdb';
import { TABLES, type Table } from './journal.js';

export type Tables = Readonly<Record<Table, Database<Buffer, string>>>;

/** Opens or makes the store in the directory `path`. */
export function openLmdb(
  { open }: typeof Lmdb,
  path: string,
): { readonly root: RootDatabase<Buffer, string>; readonly tables: Tables } {
  const root = open<Buffer, string>({
    path,
    encoding: 'binary',
    maxDbs: TABLES.length,
    // With it a transaction would be seen before it is synced, and stay there when its sync fails.
    overlappingSync: false,
    // It would gather the writes of a turn under a promise of its own; when that rejects, nobody hears it, and an
    // unheard rejection ends the process. The journal gathers them itself.
    eventTurnBatching: false,
  });
  const table = (name: Table): Database<Buffer, string> => root.openDB<Buffer, string>(name, { encoding: 'binary' });
  return {
    root,
    tables: {
      records: table('records'),
      ids: table('ids'),
      ended: table('ended'),
      alarms: table('alarms'),
      dead: table('dead'),
      facts: table('facts'),
      torn: table('torn'),
      files: table('files'),
      past: table('past'),
    },
  };
}
