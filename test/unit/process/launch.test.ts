import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { chmod, copyFile, open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { identityOf, launch, type Launched, type LaunchRequest } from '../../../src/process/launch.js';
import { FakeClock, settle } from '../../support/clock.js';
import { tempDir } from '../../support/temp.js';

/** As a look at the directory found it; of a file that is not there, none. */
function identityAt(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? '' : identityOf(stat);
}

const request = (path: string): LaunchRequest => ({
  path,
  identity: identityAt(path),
  args: [],
  environment: { PATH: '/usr/bin:/bin' },
  uid: undefined,
  gid: undefined,
});

async function program(path: string): Promise<void> {
  await copyFile('/bin/true', path);
  await chmod(path, 0o755);
}

/** Resolves when the launch waits for the file. */
async function waits(clock: FakeClock): Promise<void> {
  while (clock.pending === 0) await settle();
}

test('a program that somebody still writes to is started when that has ended', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'busy-worker');
  await program(path);
  const writer = await open(path, 'r+');
  const clock = new FakeClock();
  const launched = launch(request(path), clock, new AbortController().signal);
  // Asked for in the turn of the spawn, since the program ends at once.
  const exit = launched.then(async (outcome) =>
    outcome.kind === 'spawned' ? await once(outcome.child, 'exit') : outcome,
  );
  await waits(clock);
  await writer.close();
  await clock.advance(100);
  assert.deepEqual(await exit, [0, null]);
});

test('one that is written to for ever is given up with the reason, and a stop ends the waiting', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'busy-worker');
  await program(path);
  const writer = await open(path, 'r+');
  const clock = new FakeClock();
  let outcome: Launched | undefined;
  void launch(request(path), clock, new AbortController().signal).then((end) => (outcome = end));
  await waits(clock);
  while (outcome === undefined) await clock.advance(100);
  assert.ok(outcome.kind === 'failed');
  assert.match(outcome.reason, /cannot start .*busy-worker: somebody still writes to it/);

  const stop = new AbortController();
  const stopped = launch(request(path), clock, stop.signal);
  await waits(clock);
  stop.abort();
  assert.deepEqual(await stopped, { kind: 'cancelled' });
  await writer.close();
});

test('each way of not starting has its own words', async () => {
  await using dir = await tempDir();
  const reason = async (content: string | Buffer, mode = 0o755): Promise<string> => {
    const path = join(dir.path, 'x-worker');
    await writeFile(path, content);
    await chmod(path, mode);
    const outcome = await launch(request(path), new FakeClock(), new AbortController().signal);
    assert.ok(outcome.kind === 'failed');
    return outcome.reason;
  };
  assert.match(
    await reason('#!/no/such/interpreter\n'),
    /interpreter \/no\/such\/interpreter \(first line\) does not exist/,
  );
  assert.match(await reason('#!/bin/sh\n', 0o644), /the agent's user may not execute it or its interpreter \/bin\/sh/);
  assert.match(await reason('echo hello\n'), /neither a program nor a script/);
  assert.match(await reason(''), /neither a program nor a script/);
  // A program for another machine. The C library would have a shell run it, and that must not look like a start.
  const gone = await launch(request(join(dir.path, 'none')), new FakeClock(), new AbortController().signal);
  assert.ok(gone.kind === 'failed' && gone.reason.includes('cannot read'));
});

test('an agent that is not root is told that it may not start processes as others', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'x-worker');
  await program(path);
  await chmod(dir.path, 0o755);
  const isRoot = process.getuid?.() === 0;
  // Root gives up what makes it root for as long as it takes.
  if (isRoot) process.seteuid?.(65534);
  try {
    const outcome = await launch({ ...request(path), uid: 1 }, new FakeClock(), new AbortController().signal);
    assert.ok(outcome.kind === 'failed');
    assert.match(outcome.reason, /may not start processes as user 1/);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});

test('a file that is not the one that was looked at is not run', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'x-worker');
  const ran = join(dir.path, 'ran');
  await writeFile(path, '#!/bin/sh\nexit 0\n', { mode: 0o755 });
  const looked = request(path);
  const swaps: readonly (() => Promise<void>)[] = [
    async () => {
      await writeFile(`${path}.new`, `#!/bin/sh\ntouch ${ran}\n`, { mode: 0o755 });
      await rename(`${path}.new`, path);
    },
    () => writeFile(path, `#!/bin/sh\ntouch ${ran}\n`),
    () => chmod(path, 0o777),
  ];
  for (const swap of swaps) {
    await swap();
    const outcome = await launch(looked, new FakeClock(), new AbortController().signal);
    assert.ok(outcome.kind === 'failed');
    assert.match(outcome.reason, /x-worker was changed while it was being started/);
  }
  assert.equal(existsSync(ran), false);
});
