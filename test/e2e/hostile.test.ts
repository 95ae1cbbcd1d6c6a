/** What comes from outside and ends in the log. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Home, Yggd } from '../support/yggd.js';

suite('what comes from outside', { timeout: 60_000 }, () => {
  test('a worker cannot forge lines of the log', async () => {
    await using home = await Home.make();
    const forged = '{"level":"error","event":"forged"}\\r<3>forged \\033[2J\\x1b]0;x\\007 forged';
    await home.addProgram('loud-worker', `#!/bin/bash\nprintf '${forged}\\n' >&2\nexec sleep 1000\n`);
    for (const format of ['json', 'journal', 'text']) {
      const args = ['--broker=mqtt://127.0.0.1:1', `--log-format=${format}`];
      await using yggd = Yggd.spawn({ home, args });
      const isTold = (): boolean => [...yggd.other, ...yggd.log.map(({ text }) => text)].join().includes('forged');
      while (!isTold()) await new Promise((next) => setImmediate(next));
      const lines = [...yggd.other, ...yggd.log.map((entry) => JSON.stringify(entry))];
      assert.ok(!yggd.log.some(({ event }) => event === 'forged'));
      assert.ok(!yggd.other.some((line) => line.startsWith('<3>forged') || line.startsWith('{"level":"error"')));
      // eslint-disable-next-line no-control-regex -- these are what must not come through
      assert.ok(!yggd.other.some((line) => /[\u0000-\u001f]/.test(line)), lines.join('\n'));
    }
  });
});
