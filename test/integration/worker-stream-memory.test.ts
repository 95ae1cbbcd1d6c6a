/** A content that no memory should hold, through a worker of its own process: its memory stays flat. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFakeStreamAgent } from '../support/fake-stream-agent.js';
import { residentBytes } from '../support/memory.js';
import { tempDir } from '../support/temp.js';
import { startWorkerProcess } from '../support/worker-process.js';

const MIB = 1024 * 1024;
const CHUNK = Buffer.alloc(MIB / 8, 1);

function* chunks(size: number): Generator<Buffer> {
  for (let sent = 0; sent < size; sent += CHUNK.length) yield CHUNK;
}

test('a content of 256 MiB is read as it comes, and takes less than half of it more than one of 4 MiB', async (t) => {
  await using dir = await tempDir();
  await using agent = await startFakeStreamAgent(dir.path);
  const file = 'test/support/streaming-worker-main.ts';
  await using worker = startWorkerProcess(process.execPath, ['--import', 'tsx', file], {
    YGG_SOCKET_ADDR: agent.address,
  });
  await agent.hello(1);
  const pid = worker.child.pid!;
  const read = async (size: number): Promise<number> => {
    await agent.deliver({ messageId: `m${size}` }, { body: { size, chunks: chunks(size) } });
    assert.match(agent.results.at(-1)!.content.toString(), new RegExp(`^{"size":${size},`));
    return residentBytes(pid, 'VmHWM');
  };
  const small = await read(4 * MIB);
  const large = await read(256 * MIB);
  t.diagnostic(`peak ${(small / MIB).toFixed(0)} MiB, then ${(large / MIB).toFixed(0)} MiB`);
  // What was read waits for the garbage collector, which comes as it likes: some 30 to 70 MiB by the version of Node.
  assert.ok(large - small < 128 * MIB, `the peak grew by ${((large - small) / MIB).toFixed(0)} MiB`);
});
