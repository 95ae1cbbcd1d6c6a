import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { makeAgent, settingsFor } from '../support/agent.js';
import { cycle, fillWorkerDirectory } from '../support/agent-cycles.js';
import { assertNothingMore, heldAtRest } from '../support/leaks.js';
import { recordingLog } from '../support/log.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';

/** An agent's own timers let the process end. */
const alive = setInterval(() => undefined, 2 ** 30);
after(() => clearInterval(alive));

const NOWHERE = '--broker=mqtt://127.0.0.1:1';

suite('an agent as a library', { timeout: 120_000 }, () => {
  test('answers over a journal in memory, and says goodbye when it stops', { skip: mosquittoMissing }, async () => {
    await using dir = await tempDir();
    await using broker = await startMosquitto();
    await using operator = await Operator.connect(broker.url, 'library');
    await fillWorkerDirectory(dir.path);
    const agent = await makeAgent(dir.path, [`--broker=${broker.url}`]);
    await agent.start();
    try {
      await operator.status(({ dispatchers }) => 'echo' in dispatchers);
      const id = await operator.send('echo', '{"n":12345678901234567890}');
      assert.match((await operator.answerTo(id)).raw, /"content":\{"n":12345678901234567890\}\}$/);
    } finally {
      await agent.stop(1000);
    }
    await operator.status(({ state }) => state === 'offline');
    await agent.stop();
  });

  test('a start in a state directory that is in use fails, leaves nothing open, and lets the first go on', async () => {
    await using dir = await tempDir();
    // The next attempt to connect is far away, so that nothing comes and goes meanwhile.
    const argv = [NOWHERE, '--mqtt-reconnect-delay=1h', '--mqtt-reconnect-delay-max=1h'];
    const first = await makeAgent(dir.path, argv, { random: () => 0.9 });
    const isDown = first.connection.down.next(AbortSignal.timeout(30_000));
    await first.start();
    await isDown;
    const before = await heldAtRest();
    const second = await makeAgent(dir.path, [NOWHERE]);
    await assert.rejects(second.start(), { code: 'state.in_use' });
    await assertNothingMore(before);
    await first.checkHealth();
    await first.stop(0);
    const third = await makeAgent(dir.path, [NOWHERE]);
    await third.start();
    await third.stop(0);
  });

  test('a stop in the middle of a start ends it, whenever it comes, and the state directory is free again', async () => {
    await using dir = await tempDir();
    await fillWorkerDirectory(dir.path);
    for (let turns = 0; turns < 40; turns++) {
      const agent = await makeAgent(dir.path, [NOWHERE]);
      const started = agent.start().then(
        () => 'started',
        (error: unknown) => String(error),
      );
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      await agent.stop(0);
      assert.match(await started, /started|stopped while it started/);
    }
    const last = await makeAgent(dir.path, [NOWHERE]);
    await last.start();
    await last.stop(0);
  });

  test('a stop before the start is a start that does not happen', async () => {
    await using dir = await tempDir();
    const agent = await makeAgent(dir.path, [NOWHERE]);
    await agent.stop();
    await assert.rejects(agent.start(), /stopped while it started/);
  });

  test(
    '200 starts and stops in one process leave no handle, descriptor or listener',
    { skip: mosquittoMissing },
    async () => {
      await using dir = await tempDir();
      await using broker = await startMosquitto();
      await cycle({ base: dir.path, broker: broker.url, rounds: 200 });
    },
  );

  test('a reload that finds a worker’s file changed restarts that worker alone', async () => {
    await using dir = await tempDir();
    await fillWorkerDirectory(dir.path);
    await mkdir(join(dir.path, 'configs/workers'), { recursive: true });
    const log = recordingLog();
    const argv = [NOWHERE, '--drain-timeout=1s'];
    const agent = await makeAgent(dir.path, argv, { log });
    await agent.start();
    try {
      await log.line('dispatcher.registered');
      await writeFile(join(dir.path, 'configs/workers/echo-worker.toml'), 'concurrency = 2\n');
      const spawned = agent.processes.processSpawn.next(AbortSignal.timeout(30_000));
      await agent.reload({ settings: await settingsFor(dir.path, argv), credentials: undefined });
      await spawned;
      assert.match((await log.line('worker.stopped')).text, /its file has changed/);
    } finally {
      await agent.stop(0);
    }
  });
});
