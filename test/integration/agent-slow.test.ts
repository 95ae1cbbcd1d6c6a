import { after, suite, test } from 'node:test';
import { cycle } from '../support/agent-cycles.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { tempDir } from '../support/temp.js';

/** An agent's own timers let the process end. */
const alive = setInterval(() => undefined, 2 ** 30);
after(() => clearInterval(alive));

suite('an agent as a library, for long', { timeout: 600_000, skip: mosquittoMissing }, () => {
  test('1,000 starts and stops in one process leave no handle, descriptor or listener', async () => {
    await using dir = await tempDir();
    await using broker = await startMosquitto();
    await cycle({ base: dir.path, broker: broker.url, rounds: 1000 });
  });
});
