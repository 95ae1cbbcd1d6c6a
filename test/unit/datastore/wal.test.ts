// The files of the write-ahead log by themselves: what it says it has written is found again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Change } from '../../../src/datastore/journal.js';
import { WriteAheadLog } from '../../../src/datastore/wal.js';
import { silentLog } from '../../../src/log/log.js';
import { tempDir } from '../../support/temp.js';

const record = (key: string): Change => ({ table: 'records', key, value: Buffer.from(key) });

test('a commit that is too large for the log is refused, also as the first one, and the next is found again', async () => {
  await using dir = await tempDir();
  const wal = new WriteAheadLog(dir.path, silentLog, 2 ** 20);
  await wal.open(0);
  // Nothing of that size has to be there to be refused.
  const vast = { length: 2 ** 32 } as Buffer;
  await assert.rejects(wal.append([{ table: 'records', key: 'vast', value: vast }]));
  await assert.rejects(wal.append([{ table: 'records', key: 'vast', value: { length: 2 ** 52 } as Buffer }]));
  await wal.append([record('a')]);
  await wal.append([record('b')]);
  await wal.close(false);
  const again = new WriteAheadLog(dir.path, silentLog, 2 ** 20);
  const frames = await again.open(0);
  assert.deepEqual(
    frames.map(({ changes }) => changes),
    [[record('a')], [record('b')]],
  );
  await again.close(true);
});
