/** The operator's calls over a real socket: streams that are read slowly, cut off and refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdminClient, adminSocket, AdminPost, type AdminDesk } from '../../../src/admin/index.js';
import { recentLines } from '../../../src/log/index.js';
import { Ring } from '../../../src/signal/index.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

interface Post extends AsyncDisposable {
  readonly client: AdminClient;
  readonly post: AdminPost;
  readonly log: ReturnType<typeof recordingLog>;
}

/** A desk with these parts; whatever else is asked of it fails. */
async function postWith(desk: Partial<AdminDesk>): Promise<Post> {
  const dir = await tempDir();
  const log = recordingLog();
  const whole = { log: undefined, config: undefined, ...desk } as AdminDesk;
  const post = new AdminPost({ runtimeDir: dir.path, desk: whole, maxMessageSize: 1024 * 1024, log });
  await post.start();
  const client = await AdminClient.connect(adminSocket(dir.path));
  return {
    ...{ client, post, log },
    [Symbol.asyncDispose]: async () => {
      client[Symbol.dispose]();
      await post.stop();
      await dir[Symbol.asyncDispose]();
    },
  };
}

const line = (level: string, n: number): string => `{"level":"${level}","n":${n},"padding":"${'x'.repeat(200)}"}`;

test('the log is read from the last lines on, by level, with the level of the agent', async () => {
  const lines = recentLines();
  await using at = await postWith({ log: { lines, level: 'info' } });
  const read = async (last: number, level: string): Promise<{ lines: string[]; level: string }> => {
    const batches = [];
    for await (const batch of at.client.log({ last, follow: false, level })) batches.push(batch);
    assert.equal(batches.length, 1);
    return batches[0]!;
  };
  assert.deepEqual(await read(10, ''), { lines: [], missed: 0n, level: 'info' });
  for (const [n, level] of ['info', 'warn', 'debug', 'error', 'info'].entries()) lines.push(line(level, n));
  assert.deepEqual((await read(2, '')).lines, [line('error', 3), line('info', 4)]);
  assert.deepEqual((await read(10, 'warn')).lines, [line('warn', 1), line('error', 3)]);
  assert.deepEqual((await read(1, 'warn')).lines, [line('error', 3)]);
  assert.deepEqual((await read(0, '')).lines, []);
  await assert.rejects(read(1, 'loud'), { code: 'admin.refused', message: 'no log level is "loud"' });
});

test('a reader that does not read is told how many lines it missed, and costs no memory', async () => {
  const lines = recentLines();
  await using at = await postWith({ log: { lines, level: 'info' } });
  const stream = at.client.log({ last: 0, follow: true, level: '' });
  await stream.next();
  const total = 50_000;
  for (let n = 0; n < total; n++) {
    lines.push(line('info', n));
    // So that the server has its turns, and fills what buffers there are.
    if (n % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  let [seen, missed] = [0, 0n];
  for await (const batch of stream) {
    seen += batch.lines.length;
    missed += batch.missed;
    if (batch.lines.at(-1) === line('info', total - 1)) break;
  }
  assert.ok(missed > 0n);
  assert.equal(BigInt(seen) + missed, BigInt(total));
});

test('a stop breaks off those who follow, and is not held up by them', async () => {
  const output = new Ring<{ at: number; pid: number; stream: string; text: string }>(
    { entries: 9, weight: 9 },
    () => 1,
  );
  const lines = recentLines();
  await using at = await postWith({
    log: { lines, level: 'info' },
    workers: { output: () => output } as unknown as AdminDesk['workers'],
  });
  lines.push(line('info', 0));
  output.push({ at: 1.5, pid: 2, stream: 'stdout', text: 'a' });
  const log = at.client.log({ last: 1, follow: true, level: '' });
  const worker = at.client.output({ worker: 'w', last: 1, follow: true });
  await log.next();
  assert.deepEqual((await worker.next()).value, {
    lines: [{ at: 2n, pid: 2, stream: 'stdout', text: 'a' }],
    missed: 0n,
  });
  const gone = { code: 'admin.not_running' };
  const ends = [assert.rejects(log.next(), gone), assert.rejects(worker.next(), gone)];
  await at.post.stop();
  await at.post.stop();
  await Promise.all(ends);
  assert.deepEqual(at.log.lines, []);
});

test('an agent in another program has no log and no settings to show, and says so', async () => {
  await using at = await postWith({});
  const says = { code: 'admin.refused', message: /this agent is part of another program/ };
  await assert.rejects(at.client.config(), says);
  await assert.rejects(at.client.reload(), says);
  await assert.rejects(at.client.log({ last: 1, follow: true, level: '' }).next(), says);
});

test('a fault of ours is logged and told, in a stream too', async () => {
  const failing = (): never => {
    throw new Error('as the test wants it');
  };
  await using at = await postWith({
    facts: () => Promise.resolve(failing()),
    workers: { output: failing } as unknown as AdminDesk['workers'],
  });
  const says = { code: 'admin.refused', message: 'as the test wants it' };
  await assert.rejects(at.client.facts(), says);
  await assert.rejects(at.client.output({ worker: 'w', last: 1, follow: false }).next(), says);
  assert.deepEqual(
    at.log.lines.map(({ event }) => event),
    ['admin.failed', 'admin.failed'],
  );
});
