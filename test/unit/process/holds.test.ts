/** What an operator stopped stays so, whatever becomes of the agent. */
import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { WorkerName } from '../../../src/message/index.js';
import { Holds, parseHolds } from '../../../src/process/holds.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

const [A, B] = ['a-worker', 'b-worker'] as WorkerName[] as [WorkerName, WorkerName];
const candidates = new Map([A, B].map((name) => [name, { name, path: `/${name}`, identity: '1' }]));

test('a hold is kept over a restart, with the time at which it began', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'stopped.json');
  const before = new Holds(path, recordingLog());
  await before.read();
  assert.equal(before.mark(candidates), candidates);
  const [first, second] = await Promise.all([before.add(A, 1_000), before.add(A, 2_000)]);
  assert.deepEqual([first, second], [undefined, undefined]);
  assert.equal((await stat(path)).mode & 0o777, 0o600);

  const after = new Holds(path, recordingLog());
  await after.read();
  assert.deepEqual([after.has(A), after.has(B)], [true, false]);
  assert.match(
    after.mark(candidates).get(A)?.hold ?? '',
    /^stopped by hand at 1970-01-01T00:00:01\.000Z; .*start a-worker/,
  );
  assert.equal(after.mark(candidates).get(B)?.hold, undefined);
  await after.remove(A);
  assert.equal(await readFile(path, 'utf8'), '{}\n');
});

test('what cannot be written holds all the same, and says why', async () => {
  const holds = new Holds('/nonexistent/dir/stopped.json', recordingLog());
  await holds.read();
  assert.match((await holds.add(A, 1)) ?? '', /^cannot write \/nonexistent\/dir\/stopped\.json: .*ENOENT/);
  assert.ok(holds.has(A));
});

test('a damaged file is told, and holds nothing', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'stopped.json');
  const wrong = ['', '[]', '{"a-worker":"1"}', '{"../x":1}', '{"a-worker":1e300}', 'null', '{"a-worker":1,'];
  for (const text of wrong) {
    assert.equal(parseHolds(text), undefined, text);
    await writeFile(path, text);
    const log = recordingLog();
    const holds = new Holds(path, log);
    await holds.read();
    assert.ok(!holds.has(A));
    assert.match((await log.line('process.holds_unreadable')).text, /it is damaged; workers that were stopped by hand/);
  }
});
