/** A worker that is a real process and is killed with messages in its hands. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import type { MessageKey } from '../../src/message/ids.js';
import { Harness, SETTINGS, workerName } from '../unit/dispatcher/harness.js';
import type { MemoryStore } from '../unit/dispatcher/memory-store.js';

const SUPPORT = new URL('../support/worker.ts', import.meta.url).href;

/** Registers for "echo", tells each message it gets, and answers none whose id begins with "hang". */
const PROGRAM = `
  import { TestWorker } from ${JSON.stringify(SUPPORT)};
  const worker = new TestWorker({ address: process.argv[1], handler: ({ messageId }) => {
    console.log(messageId);
    return messageId.startsWith('hang') ? new Promise(() => undefined) : undefined;
  } });
  await worker.join('echo', { features: { concurrency: process.argv[2] } });
`;

/** Starts the worker as a process; its death is told to the dispatcher as the process part would. */
async function startWorker(harness: Harness<MemoryStore>, concurrency: number): Promise<ChildProcess> {
  const { address } = await harness.dispatcher.prepare({ name: workerName('echo-worker'), settings: SETTINGS });
  const args = ['--import', 'tsx', '--input-type=module', '--eval', PROGRAM, address, String(concurrency)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  child.once('exit', () => harness.died());
  return child;
}

/** Resolves when the worker has told so many messages. */
async function told(child: ChildProcess, count: number): Promise<void> {
  let lines = 0;
  for await (const chunk of child.stdout!.iterator({ destroyOnReturn: false })) {
    lines += String(chunk).split('\n').length - 1;
    if (lines >= count) return;
  }
}

test('a worker killed with one message in its hands failed it, and the rest waits in order for the next', async () => {
  await using harness = await Harness.inMemory();
  const poison = harness.store.add({ messageId: 'hang' });
  const rest: MessageKey[] = [harness.store.add(), harness.store.add(), harness.store.add()];
  const first = await startWorker(harness, 1);
  await told(first, 1);
  const judged = harness.dispatcher.dataDispatch.next(harness.scope.signal);
  first.kill('SIGKILL');
  assert.deepEqual({ key: (await judged).key, kind: (await judged).outcome.kind }, { key: poison, kind: 'retry' });
  const second = await startWorker(harness, 1);
  for (const key of rest) assert.equal(await harness.store.endOf(key), 'delivered');
  assert.deepEqual(
    harness.outcomes.map(({ key }) => key),
    [poison, ...rest],
  );
  second.kill('SIGKILL');
  await once(second, 'exit');
});

test('a worker killed with several in its hands blames none of them', async () => {
  await using harness = await Harness.inMemory();
  for (const messageId of ['hang-1', 'hang-2', 'hang-3']) harness.store.add({ messageId });
  const worker = await startWorker(harness, 3);
  await told(worker, 3);
  worker.kill('SIGKILL');
  await once(worker, 'exit');
  while (harness.store.requeued.length < 3) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(harness.store.retries, []);
});
