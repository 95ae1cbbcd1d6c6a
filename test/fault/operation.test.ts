/**
 * What an operator does to an agent that is busy: lets 200,000 messages pile up, stops it, reloads it, upgrades it. The
 * short form has fewer messages; the figures of the contract are those of the long one.
 */
import assert from 'node:assert/strict';
import { mkdir, rename } from 'node:fs/promises';
import { describe } from 'node:test';
import { LmdbJournal } from '../../src/datastore/index.js';
import { makeBench } from '../support/bench.js';
import { isRunning, readBook } from '../support/book-worker.js';
import { fault, isLong } from '../support/fault.js';
import { Flow, footprintOf, mb, QUIET_BROKER } from '../support/flow.js';
import { writeFormatOne } from '../support/format-one.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import { HANDLERS, Storm } from '../support/storm.js';

const BACKLOG = isLong ? 200_000 : 4_000;
/** Messages between two looks at the rate. */
const STEP = BACKLOG / 10;
const RSS_LIMIT = 200e6;
const ON_LINE_WITHIN_MS = 2_000;

describe('operation', { skip: mosquittoMissing, concurrency: 1 }, () => {
  fault('operation', 'a backlog of 200,000 messages, and a start with it', {}, async (run) => {
    await using bench = await makeBench({ config: QUIET_BROKER, persistence: 'at-stop' });
    const { home, operator } = bench;
    const echo = `await serve({ handler: 'late', concurrency: 64 }, (message) => jsonReply(message.json()));`;
    await home.addSdkWorker('late-worker', echo);
    await home.addWorker('echo-worker');
    const yggd = await bench.startWith(['late', 'echo']);
    // The directive stays known; its worker is away.
    const [there, away] = [home.path('workers/late-worker'), home.path('draft/late-worker')];
    await rename(there, away);
    await operator.status(({ dispatchers }) => !('late' in dispatchers));

    const scope = new AbortController();
    const flow = new Flow(operator, scope.signal);
    const intake: number[] = [];
    for (let sent = 0; sent < BACKLOG; sent += STEP) {
      const began = performance.now();
      for (let n = 0; n < STEP; n++) flow.send('late', `"${'x'.repeat(100)}"`);
      // Behind them all, since the broker keeps the order: the answer to it says that they are in the journal.
      await operator.answerTo(await operator.send('echo', '1'));
      intake.push((STEP / (performance.now() - began)) * 1000);
    }
    const full = footprintOf(yggd.pid);
    await yggd.kill();
    run.killed('agent');

    operator.forget();
    const began = performance.now();
    const next = bench.spawn();
    const ping = operator.command('ping');
    const online = operator.status(({ state }) => state === 'online').then(() => performance.now() - began);
    await operator.answerTo(await ping);
    const pong = performance.now() - began;
    const up = await online;

    const drained: number[] = [];
    await rename(away, there);
    for (let left = BACKLOG - STEP; left >= 0; left -= STEP) {
      const from = performance.now();
      await flow.until(left);
      drained.push((STEP / (performance.now() - from)) * 1000);
    }
    scope.abort();
    const rates = (all: readonly number[]): string => all.map((rate) => rate.toFixed(0)).join(' ');
    run.test.diagnostic(`intake a second, tenth by tenth: ${rates(intake)}; drained a second: ${rates(drained)}`);
    run.test.diagnostic(
      `RSS ${mb(full.rss)}, peak ${mb(full.peak)}; after the start ${mb(footprintOf(next.pid).peak)}`,
    );
    run.test.diagnostic(`start with it: on line after ${up.toFixed(0)} ms, pong after ${pong.toFixed(0)} ms`);
    run.count(BACKLOG, flow.duplicates);
    assert.equal(flow.refused, 0);
    // Those that were answered twice were under way when nothing was killed: none.
    assert.equal(flow.duplicates, 0);
    if (!isLong) return;
    assert.ok(full.peak < RSS_LIMIT, 'RSS stays below 200 MB');
    assert.ok(up < ON_LINE_WITHIN_MS && pong < ON_LINE_WITHIN_MS, 'on line within 2 s');
  });

  fault('operation', 'SIGHUP and SIGTERM at full load', {}, async (run) => {
    for (const _round of run.each(1, 10)) {
      await using storm = await Storm.make({ random: run.random, concurrency: 4 });
      for (let n = 0; n < 300; n++) storm.sendAny();
      for (let n = 0; n < 5; n++) {
        storm.yggd.child.kill('SIGHUP');
        await storm.until(storm.open - between(run.random, 1, 30));
      }
      const before = storm.open;
      const running = HANDLERS.flatMap((name) => readBook(storm.bench.home, `${name}-worker`).starts);
      assert.equal(await storm.yggd.stop(), 0);
      assert.deepEqual(running.filter(isRunning), [], 'its workers went with it');
      assert.ok(before > 0, 'it was stopped in the midst');
      await storm.start();
      await storm.until(0);
      // No harm is on record: whatever was done twice would have nothing to excuse it.
      run.count(storm.judge().messages);
      await storm.yggd.stop();
    }
  });

  fault('operation', 'upgrade of a store of format 1 with a queue in it, killed in the midst', {}, async (run) => {
    for (const round of run.each(2, 12)) {
      await using bench = await makeBench();
      const { home, operator } = bench;
      const dead = 1_500;
      await mkdir(home.path('state'), { mode: 0o700 });
      await writeFormatOne(new LmdbJournal(home.path('state/journal')), dead, Date.now());
      // Six commits of 256 dead letters: it dies behind one of them.
      const pass = 1 + (round % 6);
      const first = bench.spawn([], { crashPoint: `start.upgrading:${pass}` });
      assert.equal((await first.ended).signal, 'SIGKILL');
      run.killed('agent');
      await home.addWorker('echo-worker');
      await bench.startWith(['echo']);
      for (const id of ['m1', 'm2', 'm3']) assert.equal((await operator.answerTo(id)).content, 'body');
      assert.equal((await operator.answerTo('m0')).message_id, 'r4');
      run.count(4);
    }
  });
});
