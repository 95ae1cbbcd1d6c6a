/**
 * Power cuts under the built agent (CONTRACT section 4, storage): all is gone that was not synced. What the agent
 * acknowledged to the broker before that is answered all the same.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { directiveKey } from '../../src/message/index.js';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, RETURNING_ECHO } from '../support/book-worker.js';
import { contentOf as contentNamed, SIZES } from '../support/contents-main.js';
import { DiskShim, diskShimMissing } from '../support/disk-shim.js';
import { fault, type FaultRun } from '../support/fault.js';
import { enter, Ledger } from '../support/ledger.js';
import { directive } from '../support/messages.js';
import { mosquittoMissing, type Mosquitto } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import { openTestStore } from '../support/store.js';
import { answered, sendBurst } from '../support/traffic.js';
import { Home, ROOT } from '../support/yggd.js';

const WORKER = 'book-worker';
const COUNT = 200;
const PATIENCE_MS = 30_000;
const skip = mosquittoMissing === false ? diskShimMissing : mosquittoMissing;

fault('storage', 'unsynced writes lost: what the broker took is answered', { skip }, async (run) => {
  await using bench = await makeBench({ persistence: 'at-stop' });
  await using disk = await powerBench(bench);
  const ledger = new Ledger();
  for (const _ of run.each(2, 30)) {
    const yggd = await bench.startWith(['book'], [], disk);
    const acknowledgements = pubacks(bench.broker, between(run.random, 1, COUNT));
    const burst = sendBurst(bench.operator, 'book', COUNT, contentOf);
    await acknowledgements;
    await ledger.harm('agent', () => yggd.kill());
    run.killed('agent');
    await disk.cutPower(run.random() < 0.5 ? undefined : run.random);
    const next = await bench.startWith(['book'], [], disk);
    await burst.acknowledged(COUNT);
    await answered(bench.operator, burst.ids);
    assert.equal(await next.stop(), 0);
    for (const id of burst.ids) ledger.note('taken', id);
  }
  settle(run, ledger, bench);
});

fault('storage', 'unsynced writes lost at the same time as the broker’s memory', { skip }, async (run) => {
  await using bench = await makeBench();
  await using disk = await powerBench(bench);
  const { operator, broker } = bench;
  const ledger = new Ledger();
  for (const _ of run.each(2, 30)) {
    const yggd = await bench.startWith(['book'], [], disk);
    const from = broker.lines.length;
    const acknowledgements = pubacks(broker, between(run.random, 1, COUNT));
    const burst = sendBurst(operator, 'book', COUNT, contentOf);
    await acknowledgements;
    await ledger.harm('agent', () => yggd.kill());
    run.killed('agent');
    // What was published before is heard before the broker forgets who listens.
    await operator.publish('data/out', `marker ${run.rounds}`);
    await operator.until(({ raw }) => raw === `marker ${run.rounds}`, 'the marker');
    const acknowledged = acknowledgedIds(broker, from, burst.ids);
    await ledger.harm('broker', async () => {
      await broker.kill();
      run.killed('broker');
      await disk.cutPower(run.random() < 0.5 ? undefined : run.random);
      const subscribed = broker.logged.next(AbortSignal.timeout(PATIENCE_MS), (line) =>
        line.includes('Sending SUBACK to operator'),
      );
      await broker.restart();
      await subscribed;
    });
    const next = await bench.startWith(['book'], [], disk);
    await answered(operator, acknowledged);
    // The operator's end sends again what the broker had not acknowledged; the next round begins without it.
    await burst.acknowledged(COUNT);
    assert.equal(await next.stop(), 0);
    for (const id of acknowledged) ledger.note('acknowledged', id);
  }
  settle(run, ledger, bench, 'acknowledged');
});

fault(
  'storage',
  'unsynced writes lost: large contents are there with the records that name them',
  { skip },
  async () => {
    await using home = await Home.make();
    await using disk = await DiskShim.make(home);
    const stateDir = home.path('state');
    await mkdir(stateDir, { recursive: true });
    const words = ['--import', 'tsx', join(ROOT, 'test/support/contents-main.ts'), stateDir];
    const main = spawn(process.execPath, words, { cwd: ROOT, env: { ...process.env, ...disk.env }, stdio: 'inherit' });
    assert.deepEqual(await once(main, 'exit'), [null, 'SIGKILL']);
    await disk.cutPower(undefined);
    await using test = await openTestStore({ stateDir, isOnDisk: true });
    const { store } = test;
    const [key] = store.waiting(directiveKey(directive('echo')));
    const message = store.inbound(key!);
    assert.equal(message?.messageId, 'message');
    assert.ok(contentNamed('message', SIZES.message).equals(await store.readContent(message.content)));
    for (const name of ['whole', 'body', 'long'] as const) {
      const sent = store.nextOutbound('mqtt');
      assert.equal(sent?.messageId, name);
      assert.ok(contentNamed(name, SIZES[name]).equals(await store.readContent(sent.content)));
      store.markSending(sent.key);
    }
  },
);

/** Every eleventh content lives in a file of its own. */
function contentOf(n: number): string {
  return n % 11 === 5 ? JSON.stringify(`${'x'.repeat(70_000)}${n}`) : String(n);
}

async function powerBench(bench: Bench): Promise<DiskShim> {
  const worker = bookWorker(bench.home, WORKER, { handler: 'book', body: RETURNING_ECHO });
  await bench.home.addProgram(WORKER, worker);
  return DiskShim.make(bench.home);
}

const PUBACK = /Received PUBACK from host-1 \(Mid: (\d+)/;
const PUBLISH = /Sending PUBLISH to host-1 \(d\d, q1, r\d, m(\d+), '[^']*\/data\/in'/;

/** Until the agent has acknowledged so many messages to the broker, from now on. */
async function pubacks(broker: Mosquitto, count: number): Promise<void> {
  let seen = 0;
  await broker.logged.next(AbortSignal.timeout(PATIENCE_MS), (line) => PUBACK.test(line) && ++seen >= count);
}

/** Which messages the agent acknowledged: they went to it in the order they were sent, each with a Mid of its own. */
function acknowledgedIds(broker: Mosquitto, from: number, ids: readonly string[]): string[] {
  const lines = broker.lines.slice(from);
  const mids = lines.flatMap((line) => PUBLISH.exec(line)?.[1] ?? []);
  const acknowledged = new Set(lines.flatMap((line) => PUBACK.exec(line)?.[1] ?? []));
  return ids.filter((_, n) => acknowledged.has(mids[n] ?? ''));
}

function settle(run: FaultRun, ledger: Ledger, bench: Bench, promised?: 'acknowledged'): void {
  enter(ledger, { operator: bench.operator, home: bench.home, worker: WORKER });
  const verdict = ledger.assertSound(promised);
  run.count(verdict.messages, verdict.duplicated.length);
}
