/** Executables that change under load, and those that claim the same handler (CONTRACT section 2). */
import assert from 'node:assert/strict';
import { chmod, open, rm, writeFile } from 'node:fs/promises';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, isRunning, readBook, type BookWorkerOptions } from '../support/book-worker.js';
import { fault, type FaultRun } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { answered, assertAllAnswered, orderOfAnswers, sendBurst } from '../support/traffic.js';

const skip = mosquittoMissing;

/** Each way to put a new version of a worker in the place of the old one. */
const SWAPS: Readonly<Record<string, (bench: Bench, text: string) => Promise<void>>> = {
  'renamed over it': ({ home }, text) => home.addProgram('swap-worker', text),
  'written in place, with a pause longer than a file must be left alone': async ({ home }, text) => {
    const file = await open(home.path('workers/swap-worker'), 'w', 0o755);
    await file.write(text.slice(0, text.length / 2));
    await new Promise((resolve) => setTimeout(resolve, 700));
    await file.write(text.slice(text.length / 2));
    await file.close();
  },
  'copied beside, made executable afterwards': async ({ home }, text) => {
    await rm(home.path('workers/swap-worker'));
    await writeFile(home.path('workers/swap-worker'), text, { mode: 0o644 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await chmod(home.path('workers/swap-worker'), 0o755);
  },
};

fault('workers', 'executable swapped under load: one copy, each version once, in order', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const version = (n: number): string =>
    bookWorker(home, 'swap-worker', {
      before: `write('version ${n}');`,
      body: `return { content: message.content, metadata: { version: '${n}' } };`,
    });
  await home.addProgram('swap-worker', version(0));
  await bench.startWith(['swap']);
  let n = 0;
  for (const _ of run.each(1, 12)) {
    operator.forget();
    const burst = sendBurst(operator, 'swap', 600);
    const swaps = Object.values(SWAPS);
    for (const [turn, swap] of swaps.entries()) {
      n += 1;
      await answered(operator, burst.ids, (turn + 1) * 150);
      await swap(bench, version(n));
      // The burst may be over by then: one more message finds the new version.
      const probe = await operator.send('swap', '0');
      await operator.answerTo(probe);
      while ((await operator.answerTo(await operator.send('swap', '0'))).metadata?.['version'] !== String(n));
    }
    await answered(operator, burst.ids);
    assert.equal(assertAllAnswered(operator, burst.ids), 0);
    assert.deepEqual(orderOfAnswers(operator, burst.ids), burst.ids);
    run.count(burst.ids.length);
  }
  const { starts, overlaps } = readBook(home, 'swap-worker');
  assert.deepEqual(overlaps, []);
  assert.equal(starts.length, n + 1, 'each version was started once');
  assert.deepEqual(starts.filter(isRunning), starts.slice(-1));
});

async function add(bench: Bench, name: string, options: BookWorkerOptions): Promise<void> {
  await bench.home.addProgram(name, bookWorker(bench.home, name, options));
}

async function handledBy(bench: Bench, run: FaultRun): Promise<string> {
  run.count(1);
  const id = await bench.operator.send('mine', '1');
  await bench.operator.answerTo(id);
  const owners = ['first-worker', 'second-worker'].filter((name) => readBook(bench.home, name).handled.includes(id));
  assert.equal(owners.length, 1, 'one worker got it');
  return owners[0] ?? '';
}

fault('workers', 'handler registered twice: one owner, for good, unless a file decides', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home } = bench;
  await add(bench, 'first-worker', { handler: 'mine' });
  let yggd = await bench.startWith(['mine']);
  await add(bench, 'second-worker', {
    handler: 'mine',
    // It asks again every 20 ms or so, and says when it has asked five times.
    options: `random: () => {
        globalThis.asked = (globalThis.asked ?? 0) + 1;
        if (globalThis.asked === 5) console.log('asked five times');
        return 0.002;
      }`,
  });
  await yggd.line('worker.output', (entry) => JSON.stringify(entry).includes('asked five times'));
  const refusals = yggd.log.filter((entry) => entry.event === 'dispatcher.registration_refused');
  assert.equal(refusals.length, 1, 'one clear line, however often it asks');
  const line = JSON.stringify(refusals[0]);
  assert.match(line, /the worker second-worker may not register: the handler mine is registered by first-worker/);
  assert.match(line, /give one of the two another handler, or remove first-worker/);
  assert.equal(await handledBy(bench, run), 'first-worker');

  // Both claim it at once at each start; the owner of before keeps it, killed or stopped.
  for (const round of run.each(2, 10)) {
    if (round % 2 === 1) {
      await yggd.kill();
      run.killed('agent');
    } else assert.equal(await yggd.stop(), 0);
    yggd = await bench.start();
    assert.equal(await handledBy(bench, run), 'first-worker');
  }

  // Removed while no agent ran: nobody could tell, and yet it is free.
  await yggd.stop();
  await rm(home.path('workers/first-worker'));
  yggd = await bench.start();
  assert.equal(await handledBy(bench, run), 'second-worker');

  // The file of the first binds it: it wins over the one that holds it.
  await home.writeWorkerFile('first-worker', 'handlers = ["mine"]\n');
  await add(bench, 'first-worker', { handler: 'mine' });
  await yggd.line('dispatcher.handler_ceded');
  assert.equal(await handledBy(bench, run), 'first-worker');
  assert.deepEqual(readBook(home, 'first-worker').overlaps, []);
});
