import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { suite, test } from 'node:test';
import { tempDir } from '../support/temp.js';
import { ROOT } from '../support/yggd.js';

/** Processes whose command line names this directory. */
async function processesOf(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(directory));
}

suite('npm start', { timeout: 120_000, concurrency: 2 }, () => {
  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    test(`shows an answer, and leaves nothing behind at ${signal}`, async () => {
      await using dir = await tempDir();
      const child = spawn(process.execPath, [join(ROOT, 'dist/first-use.js')], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: process.env['PATH'], TMPDIR: dir.path },
      });
      try {
        const ended = once(child, 'exit');
        let said = '';
        for await (const line of createInterface({ input: child.stdout })) {
          said += `${line}\n`;
          if (line.includes('--handler shout')) break;
        }
        assert.match(said, /The answer: \{"hello":"world","big":12345678901234567890\}/);
        assert.notDeepEqual(await processesOf(dir.path), []);
        child.kill(signal);
        assert.deepEqual(await ended, [0, null]);
        assert.deepEqual(await processesOf(dir.path), []);
        assert.deepEqual(await readdir(dir.path), []);
      } finally {
        child.kill('SIGKILL');
      }
    });
  }
});
