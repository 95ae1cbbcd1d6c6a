/** The Transfer of a worker without a wire: its frames come in memory that is used again, as StreamHandlers.isPassing says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { BodyFrame, type Chunk } from '../../../../protocol/generated/stream.js';
import type { StreamHandlers } from '../../../../src/grpc/index.js';
import { RuleBroken } from '../../../../src/worker/stream/rules.js';
import { Transfer } from '../../../../src/worker/stream/transfer.js';

function scene() {
  const failures: Error[] = [];
  const memory = Buffer.alloc(4096);
  let handlers: StreamHandlers | undefined;
  const transfer = new Transfer({
    open: (given) => {
      handlers = given;
      return { write: (_frame, sent) => sent?.(), end: () => undefined, cancel: () => undefined };
    },
    bodies: 4,
    maxBody: 1_000_000,
    onFail: (error) => failures.push(error),
  });
  /** Puts a message where the one before stood. */
  const comes = (bytes: Uint8Array): void => {
    memory.set(bytes);
    handlers?.onMessage(memory.subarray(0, bytes.length));
    memory.fill(0);
  };
  const chunk = (id: number, offset: number, data: string, last = false): void => {
    const each: Chunk = { id, offset: BigInt(offset), data: Buffer.from(data), last, aborted: false };
    comes(BodyFrame.encode({ token: Buffer.alloc(0), chunks: [each], credits: [] }).finish());
  };
  return { transfer, failures, comes, chunk, end: () => handlers?.onEnd({ code: status.OK, details: 'enough' }) };
}

test('what came stays as it was, also when its frame is overwritten by the next', async () => {
  const { transfer, chunk } = scene();
  const collected = transfer.expect(1, 6);
  const streamed = transfer.expect(2, 6);
  for (const id of [1, 2, 3]) {
    chunk(id, 0, `ab${id}`);
    chunk(id, 3, `cd${id}`, true);
  }
  assert.equal(String(await collected.collect()), 'ab1cd1');
  assert.equal(String(Buffer.concat(await streamed.stream().toArray())), 'ab2cd2');
  assert.equal(String(await transfer.expect(3, 6).collect()), 'ab3cd3', 'it came before its delivery');
});

test('noise of the agent, and an end of this call alone, end the stream and throw nothing', () => {
  const noisy = scene();
  noisy.transfer.expect(1, 5);
  noisy.comes(Buffer.from([18, 200, 1]));
  assert.ok(noisy.failures[0] instanceof RuleBroken);
  const ended = scene();
  ended.transfer.expect(1, 5);
  ended.end();
  assert.match(String(ended.failures[0]), /the agent ended the transfer of bodies: enough/);
});
