/**
 * Disks that fail, fill up, are slow or cannot be written, under the built agent (CONTRACT section 4, storage): nothing
 * is acknowledged that is not safe, the agent stays, and goes on by itself once the disk is in order.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, RETURNING_ECHO } from '../support/book-worker.js';
import { DiskShim, diskShimMissing } from '../support/disk-shim.js';
import { fault } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import { SmallDisk, smallDiskMissing } from '../support/small-disk.js';
import { answered, assertAllAnswered, sendBurst } from '../support/traffic.js';
import type { Yggd } from '../support/yggd.js';

const WORKER = 'book-worker';
const PUBACK = 'Received PUBACK from host-1 ';
const skip = mosquittoMissing === false ? diskShimMissing : mosquittoMissing;
const skipSmall = mosquittoMissing === false ? smallDiskMissing : mosquittoMissing;

fault(
  'storage',
  'fsync that fails: nothing is acknowledged, and all goes on when it works again',
  { skip },
  async (run) => {
    await using bench = await benchWithWorker();
    await using disk = await DiskShim.make(bench.home);
    const yggd = await bench.startWith(['book'], [], disk);
    for (const _ of run.each(2, 10)) {
      await disk.behave({ sync: 'EIO' });
      const before = pubacks(bench);
      const burst = sendBurst(bench.operator, 'book', 50, contentOf);
      await burst.acknowledged(50);
      await untilWarned(yggd);
      assert.equal(pubacks(bench), before, 'a message was acknowledged that is not on stable storage');
      await disk.behave({});
      await answered(bench.operator, burst.ids);
      assertAllAnswered(bench.operator, burst.ids, valueOf);
      run.count(50);
      yggd.forget();
    }
  },
);

fault(
  'storage',
  'fsync that takes 2 s: workers get their answer in time, and nothing is lost',
  { skip },
  async (run) => {
    // Only those that are called have a time to keep; on the stream nobody waits with a clock in hand.
    await using bench = await benchWithWorker(`transport: 'unary'`);
    await using disk = await DiskShim.make(bench.home);
    const yggd = await bench.startWith(['book'], [], disk);
    for (const _ of run.each(1, 5)) {
      yggd.forget();
      await disk.behave({ syncDelay: 2_000 });
      const before = pubacks(bench);
      const burst = sendBurst(bench.operator, 'book', 3, contentOf);
      await bench.operator.answerTo(await bench.operator.command('ping'));
      assert.equal(pubacks(bench) - before <= 1, true, 'the answer to a ping waited for the disk');
      // The journal cannot keep a result within a second, so the worker is told to send it again.
      await yggd.line('worker.output', ({ text }) => text?.includes('did not answer within 900 ms') === true);
      await answered(bench.operator, burst.ids);
      assertAllAnswered(bench.operator, burst.ids, valueOf);
      await disk.behave({});
      run.count(3);
    }
  },
);

fault(
  'storage',
  'ENOSPC then space again: small, large and dead messages, and results',
  { skip: skipSmall },
  async (run) => {
    await using bench = await benchWithWorker();
    await using disk = await SmallDisk.mount(bench.home, 24);
    const yggd = await bench.startWith(['book'], ['--spool-reserve=0']);
    for (const _ of run.each(2, 10)) {
      await disk.fill();
      const before = pubacks(bench);
      const burst = sendBurst(bench.operator, 'book', 40, contentOf);
      await burst.acknowledged(40);
      await untilWarned(yggd);
      // The journal reuses pages of its own file, so that some of the messages may find room in it.
      assert.ok(pubacks(bench) - before < 40, 'all were acknowledged, though there is no room for them');
      const told = yggd.log.filter(({ event }) => event === 'data.not_recorded').length;
      assert.ok(told <= 3, `it is told ${told} times`);
      await disk.empty();
      await answered(bench.operator, burst.ids);
      assertAllAnswered(bench.operator, burst.ids, valueOf);
      run.count(40);
      yggd.forget();
    }
  },
);

fault('storage', 'read-only at start: a clear error, and nothing is changed', { skip: skipSmall }, async (run) => {
  await using bench = await benchWithWorker();
  await using disk = await SmallDisk.mount(bench.home, 24);
  const first = await bench.startWith(['book'], ['--spool-reserve=0']);
  await bench.operator.answerTo(await bench.operator.send('book', '1'));
  assert.equal(await first.stop(), 0);
  const before = await contents(bench);
  await disk.makeReadOnly();
  const yggd = bench.spawn();
  const { code } = await yggd.ended;
  assert.equal(code, 73);
  const said = [...yggd.log.map(({ text }) => text ?? ''), ...yggd.other].join('\n');
  assert.match(said, /state\.unwritable|read-only/i);
  assert.deepEqual(await contents(bench), before);
  run.count(1);
});

async function benchWithWorker(options = ''): Promise<Bench> {
  const bench = await makeBench({ persistence: 'at-stop' });
  await addWorker(bench, options);
  return bench;
}

function addWorker({ home }: Bench, options = ''): Promise<void> {
  return home.addProgram(WORKER, bookWorker(home, WORKER, { handler: 'book', body: RETURNING_ECHO, options }));
}

fault('storage', 'content files flipped, cut and gone: each message ends with an answer', { skip }, async (run) => {
  await using bench = await makeBench({ persistence: 'at-stop' });
  const { operator, home } = bench;
  const content = home.path('state/content');
  const known = new Set<string>();
  for (const _ of run.each(1, 5)) {
    const first = await bench.start();
    await operator.status(({ state }) => state === 'online');
    const ids: string[] = [];
    for (let n = 0; n < 4; n++) {
      const puback = bench.broker.logged.next(AbortSignal.timeout(30_000), (line) => line.includes(PUBACK));
      ids.push(await operator.send('book', JSON.stringify(`${LARGE}${n}`)));
      await puback;
    }
    assert.equal(await first.stop(), 0);
    // What is there besides belongs to the dead messages of the rounds before.
    const fresh = (await readdir(content)).filter((name) => !known.has(name));
    const files = await Promise.all(fresh.map((name) => named(join(content, name))));
    const [flipped, cut, gone] = files.sort((a, b) => a.last.localeCompare(b.last)).map(({ path }) => path);
    assert.ok(flipped !== undefined && cut !== undefined && gone !== undefined);
    await flip(flipped, between(run.random, 0, LARGE.length));
    await truncate(cut, between(run.random, 0, LARGE.length));
    await rm(gone);
    await addWorker(bench);
    const next = await bench.start();
    const answers = await Promise.all(ids.map((id) => operator.answerTo(id)));
    assert.deepEqual(
      answers.map(({ metadata }) => metadata?.['status']),
      ['error', 'error', 'error', undefined],
    );
    assert.equal(answers[3]?.content, `${LARGE}3`);
    assert.equal(await next.stop(), 0);
    await rm(home.path('workers', WORKER));
    operator.forget();
    for (const name of await readdir(content)) known.add(name);
    run.count(4);
  }
});

const LARGE = 'x'.repeat(70_000);

/** A content file and the last of what it holds before the closing quote. */
async function named(path: string): Promise<{ readonly path: string; readonly last: string }> {
  return { path, last: (await readFile(path, 'utf8')).slice(-2) };
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
}

/** Every seventh content lives in a file of its own. */
function valueOf(n: number): unknown {
  return n % 7 === 3 ? `${'x'.repeat(70_000)}${n}` : n;
}

function contentOf(n: number): string {
  return JSON.stringify(valueOf(n));
}

async function untilWarned(yggd: Yggd): Promise<void> {
  await yggd.line('data.not_recorded');
}

function pubacks({ broker }: Bench): number {
  return broker.lines.filter((line) => line.includes(PUBACK)).length;
}

/** The bytes of every file of the state directory. */
async function contents({ home }: Bench): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(home.path('state'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = `${entry.parentPath}/${entry.name}`;
    found.set(path, (await readFile(path)).toString('base64'));
  }
  return found;
}
