/** Programs that a worker runs: real children, real process groups. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type ProgramOptions, runProgram } from '../../src/worker/index.js';
import { tempDir } from '../support/temp.js';

const sh = (script: string, options: Partial<ProgramOptions> = {}): ReturnType<typeof runProgram> =>
  runProgram({
    file: '/bin/sh',
    args: ['-c', script],
    env: { PATH: '/usr/bin:/bin' },
    outputLimit: 1_000_000,
    ...options,
  });

describe('runProgram', () => {
  test('gives input, takes output, error and exit code, and inherits nothing', async () => {
    const result = await sh('cat; echo problem >&2; env >&2; exit 3', {
      input: Buffer.from('in'),
      env: { ONE: '1', PATH: '/bin' },
    });
    assert.equal(result.stdout.toString(), 'in');
    assert.match(result.stderr.toString(), /^problem\n/);
    assert.doesNotMatch(result.stderr.toString(), /HOME=/);
    assert.deepEqual([result.exitCode, result.signal, result.isTimedOut], [3, null, false]);
  });

  test('input that the program does not read is no failure', async () => {
    const result = await sh('exec true', { input: Buffer.alloc(4_000_000) });
    assert.equal(result.exitCode, 0);
  });

  test('output past the limit is dropped, and the program goes on', async () => {
    const result = await sh('head -c 500000 /dev/zero; head -c 500000 /dev/zero >&2', { outputLimit: 1_000 });
    assert.deepEqual([result.stdout.length, result.stderr.length], [1_000, 1_000]);
    assert.deepEqual([result.isStdoutTruncated, result.isStderrTruncated, result.exitCode], [true, true, 0]);
  });

  test('output of exactly the limit is whole', async () => {
    const result = await sh('printf 12345', { outputLimit: 5 });
    assert.deepEqual([result.stdout.toString(), result.isStdoutTruncated], ['12345', false]);
  });

  test('a program that never stops writing is ended where the limit is fatal', async () => {
    const result = await sh('exec yes', { outputLimit: 1_000, isLimitFatal: true });
    assert.equal(result.signal, 'SIGTERM');
    assert.equal(result.stdout.length, 1_000);
  });

  test('the time-out ends the whole process group, also a child that ignores SIGTERM', async () => {
    await using dir = await tempDir();
    const pidFile = join(dir.path, 'pid');
    const script = `sh -c 'trap "" TERM; echo $$ >${pidFile}; while :; do sleep 0.05; done' & wait`;
    const result = await sh(script, { timeout: 300 });
    assert.deepEqual([result.isTimedOut, result.signal], [true, 'SIGTERM']);
    const pid = Number(await readFile(pidFile, 'utf8'));
    await gone(pid);
  });

  test('a program that ignores SIGTERM is killed', async () => {
    const result = await sh('trap "" TERM; while :; do sleep 0.05; done', { timeout: 100 });
    assert.deepEqual([result.isTimedOut, result.signal], [true, 'SIGKILL']);
  });

  test('what a program leaves behind in its group is ended with it', async () => {
    const result = await sh('sleep 1000 & echo $!');
    assert.equal(result.exitCode, 0);
    await gone(Number(result.stdout.toString()));
  });

  test('a process that left the group does not hold up the answer', async () => {
    const result = await sh('setsid sleep 1000 & echo $!');
    const pid = Number(result.stdout.toString());
    assert.equal(result.exitCode, 0);
    process.kill(pid, 'SIGKILL');
  });

  test('the signal ends it, also one that was aborted before', async () => {
    const stop = new AbortController();
    const running = sh('exec sleep 1000', { signal: stop.signal });
    stop.abort();
    assert.equal((await running).signal, 'SIGTERM');
    assert.equal((await sh('exec sleep 1000', { signal: AbortSignal.abort() })).signal, 'SIGTERM');
  });

  test('a program that is not there or not executable is an error with its code', async () => {
    const nowhere = { env: {}, args: [], outputLimit: 1 };
    await assert.rejects(runProgram({ file: '/nowhere/x', ...nowhere }), { code: 'ENOENT' });
    await assert.rejects(runProgram({ file: '/etc/passwd', ...nowhere }), { code: 'EACCES' });
  });
});

/** Resolves when the process is gone; one that was killed but not yet collected by init (a zombie) is. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    if (text === '' || /\) [ZX] /.test(text)) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
