/**
 * A worker that speaks garbage on its own socket: the agent lives, other workers are served meanwhile, and its memory
 * and descriptors are what they were when it is over.
 */
import assert from 'node:assert/strict';
import { makeBench } from '../support/bench.js';
import { fault } from '../support/fault.js';
import { ATTACKS, attack, hold } from '../support/hostile-http2.js';
import { openDescriptors, residentBytes } from '../support/memory.js';
import { mosquittoMissing } from '../support/mosquitto.js';

const MIB = 1024 * 1024;
const CONNECTIONS = 1_000;
/** What the agent may take more than before, in bytes, at the worst moment of all attacks. */
const MOST_GROWTH = 160 * MIB;

fault('workers', 'a worker that speaks garbage', { skip: mosquittoMissing, timeout: 900_000 }, async (run) => {
  await using bench = await makeBench();
  await bench.home.addWorker('echo-worker');
  // It holds a socket and registers nothing; the test speaks in its place.
  await bench.home.writeWorkerFile('evil-worker', 'start-timeout = "1h"\n');
  await bench.home.addProgram('evil-worker', '#!/bin/sh\nexec sleep 3600\n');
  const yggd = await bench.startWith(['echo']);
  await yggd.line('worker.started', (entry) => entry['worker'] === 'evil-worker');
  const path = bench.home.path('run/w/evil-worker/d.sock');
  const echo = async (): Promise<void> => {
    const { metadata } = await bench.operator.answerTo(await bench.operator.send('echo', '1'));
    assert.equal(metadata?.['status'], undefined);
    run.count(1);
  };
  await echo();
  const [memory, descriptors] = [residentBytes(yggd.pid, 'VmHWM'), openDescriptors(yggd.pid)];
  const grown = (): number => residentBytes(yggd.pid, 'VmHWM') - memory;
  for (const round of run.each(1, 10)) {
    for (const [name, pieces] of Object.entries(ATTACKS)) {
      const over = attack(path, pieces(run.random));
      await echo();
      await over;
      assert.equal(yggd.child.exitCode, null, name);
      assert.ok(grown() < MOST_GROWTH, `${name}: grew by ${Math.round(grown() / MIB)} MiB`);
    }
    const held = [];
    try {
      for (let n = 0; n < CONNECTIONS; n++) held.push(await hold(path, n % 2 === 0));
      await echo();
    } finally {
      for (const socket of held) socket.destroy();
    }
    await bench.operator.answerTo(await bench.operator.command('ping'));
    run.test.diagnostic(
      `round ${round}: VmHWM grew by ${(grown() / MIB).toFixed(0)} MiB from ${(memory / MIB).toFixed(0)} MiB`,
    );
    assert.ok(grown() < MOST_GROWTH);
  }
  await echo();
  assert.ok(openDescriptors(yggd.pid) < descriptors + 50, 'connections that were closed are let go');
  assert.deepEqual(yggd.other, [], 'a line that is none of the log: a warning of Node, or a crash');
  assert.equal(await yggd.stop(), 0);
});
