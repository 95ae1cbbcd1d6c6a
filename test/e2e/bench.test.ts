/** The benchmark itself: its short form runs and prints, and a wrong flag is told. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { mosquittoMissing } from '../support/mosquitto.js';
import { ROOT } from '../support/yggd.js';

const run = promisify(execFile);

function bench(...flags: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, ['--import', 'tsx', join(ROOT, 'bench/main.ts'), ...flags], { cwd: ROOT });
}

test('a quick row beside its limit is measured and printed', { skip: mosquittoMissing }, async () => {
  const { stdout } = await bench('--quick', '--only', 'unary/100B/16,limit-echo/100B/16');
  assert.match(stdout, /^yggdrasil \d.*mosquitto \d/mu);
  const cells = /^\| unary\/100B\/16 +\|(.*)\|$/mu
    .exec(stdout)?.[1]
    ?.split('|')
    .map((cell) => cell.trim());
  assert.ok(cells !== undefined && cells.length === 13, stdout);
  assert.match(cells[2] ?? '', /^[\d.]+ %$/u);
});

test('a row that is not there is refused with 64', async () => {
  await assert.rejects(bench('--only', 'unary/100B/17'), (error: Error & { code?: number; stderr?: string }) => {
    assert.equal(error.code, 64);
    assert.match(error.stderr ?? '', /there is no row "unary\/100B\/17"; --list names them/u);
    return true;
  });
});
