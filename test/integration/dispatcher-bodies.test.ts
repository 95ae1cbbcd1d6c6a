/** Bodies of stream workers, both ways, over the real dispatcher and datastore: content files on a real disk. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Refusal_Kind as Kind, type Delivery, type Result } from '../../protocol/generated/stream.js';
import { settle } from '../support/clock.js';
import { chunk } from '../support/stream-bodies.js';
import { names, openScene, type Scene } from '../support/stream-scene.js';
import { resultOf, type StreamWorker } from '../support/stream-worker.js';

const MIB = 1024 * 1024;
const GENEROUS = { maxBody: BigInt(2 ** 40) };

const settledAre = (worker: StreamWorker, count: number): Promise<boolean> =>
  worker.until(() => (worker.settled.length === count ? true : undefined));

/** A result whose body follows. */
function large(number: number, delivery: Delivery, size: number): Result {
  return { ...resultOf(number, delivery, ''), body: { size: BigInt(size) } };
}

/** The message's content is a file of `size` bytes, as after a detached fetch. Gives its SHA-256. */
async function deliverFetched(scene: Scene, id: string, size: number): Promise<string> {
  const { store } = scene;
  const [key] = await scene.deliver([id], { directive: 'waits' });
  const file = store.newContentFile();
  const hash = createHash('sha256');
  const block = randomBytes(MIB);
  for (let left = size; left > 0; left -= MIB) {
    const part = block.subarray(0, Math.min(left, MIB));
    hash.update(part);
    await file.write([part]);
  }
  assert.ok(store.markFetching(key!));
  await store.fetched(key!, await file.finish([]));
  scene.harness.dispatcher.enqueue(key!);
  return hash.digest('hex');
}

test('a body goes in chunks within its credits, a small message overtakes it, and both are settled', async () => {
  await using scene = await openScene();
  const body = randomBytes(3 * MIB + 17);
  await scene.deliver(['big'], { content: () => body });
  await scene.deliver(['small'], { directive: 'other' });
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo', 'other'], GENEROUS);
  const [big, small] = await worker.got(2);
  assert.deepEqual([big!.body?.size, big!.data?.content.length], [BigInt(body.length), 0]);
  const transfer = worker.transfer();
  transfer.isCrediting = false;
  await transfer.until(() => (transfer.chunks.length === 4 ? true : undefined));
  worker.complete({ tag: small!.tag, results: [] });
  await settledAre(worker, 1);
  const sent = transfer.chunks.reduce((bytes, { data }) => bytes + data.length, 0);
  assert.equal(sent, MIB, 'no more than was allowed');
  transfer.isCrediting = true;
  transfer.send({ credits: [{ id: big!.tag, bytes: BigInt(MIB), stop: false }] });
  assert.ok((await transfer.body(big!.tag)).equals(body));
  worker.complete({ tag: big!.tag, results: [] });
  await settledAre(worker, 2);
});

test('bodies go side by side, as many as the worker takes at once', async () => {
  await using scene = await openScene();
  await scene.deliver(names(3), { content: () => randomBytes(2 * MIB) });
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], { ...GENEROUS, window: { messages: 9, bytes: 1000, bodies: 2 } });
  const [first, second] = await worker.got(2);
  const transfer = worker.transfer();
  transfer.isCrediting = false;
  await transfer.until(() => (transfer.chunks.length === 8 ? true : undefined));
  assert.deepEqual(
    transfer.chunks.slice(0, 4).map(({ id }) => id),
    [first!.tag, second!.tag, first!.tag, second!.tag],
  );
  assert.equal(worker.deliveries.length, 2);
  worker.refuse({ tag: first!.tag, kind: Kind.FAILED, reason: 'enough' });
  const last = await transfer.until(() => transfer.chunks.find(({ last }) => last));
  assert.deepEqual([last.id, last.aborted], [first!.tag, true]);
  await worker.got(3);
});

test('a result with a body is in a content file, whole, before its completion is settled', async () => {
  await using scene = await openScene({ isOnDisk: true });
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const transfer = worker.transfer();
  const body = randomBytes(5 * MIB + 3);
  worker.complete({ tag: delivery!.tag, results: [large(1, delivery!, body.length)] });
  await settle();
  assert.deepEqual(worker.settled, []);
  await transfer.sendBody(1, body);
  await settledAre(worker, 1);
  const record = scene.store.outbound(scene.harness.returned[0]!);
  assert.equal(record?.content.kind, 'file');
  assert.ok((await scene.store.readContent(record.content)).equals(body));
});

test('a body may come before the frame that names it, be small, be empty, or be sent twice', async () => {
  await using scene = await openScene({ isOnDisk: true });
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const transfer = worker.transfer();
  const body = randomBytes(MIB);
  await transfer.sendBody(1, body);
  await transfer.sendBody(2, Buffer.from('small'));
  await transfer.sendBody(3, Buffer.alloc(0));
  await transfer.sendBody(4, body);
  await transfer.sendBody(5, Buffer.alloc(100_000, 1));
  await transfer.sendBody(6, Buffer.alloc(100_000, 1));
  // The last of them is on its way back: those before it are written.
  const results = [large(1, delivery!, MIB), large(2, delivery!, 5), large(3, delivery!, 0), large(4, delivery!, MIB)];
  worker.send({ results: [large(5, delivery!, 100_000)] });
  worker.complete({ tag: delivery!.tag, results: [...results, large(6, delivery!, 100_000)] });
  await settledAre(worker, 1);
  await worker.until(() => (worker.accepted.includes(5) ? true : undefined));
  const sizes = scene.harness.returned.map((key) => {
    const content = scene.store.outbound(key)?.content;
    return content?.kind === 'file' ? content.size : content?.bytes.length;
  });
  assert.deepEqual(sizes, [100_000, MIB, 5, 0]);
  // The copies go behind their commit.
  while ((await readdir(join(scene.stateDir, 'content'))).length > 2) await settle();
});

test('a completion behind one whose body is on the way waits in its lane, and other lanes overtake', async () => {
  await using scene = await openScene();
  await scene.deliver(['a1', 'a2']);
  await scene.deliver(['b1'], { priority: 9 });
  await scene.deliver(['c1'], { directive: 'other' });
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo', 'other']);
  await worker.got(4);
  const by = new Map(worker.deliveries.map((each) => [each.data!.messageId, each]));
  const transfer = worker.transfer();
  const body = randomBytes(100_000);
  const done = (id: string, results: Result[]): void => worker.complete({ tag: by.get(id)!.tag, results });
  done('a1', [large(1, by.get('a1')!, body.length)]);
  done('a2', [resultOf(2, by.get('a2')!)]);
  done('b1', [resultOf(3, by.get('b1')!)]);
  done('c1', [resultOf(4, by.get('c1')!)]);
  await settledAre(worker, 2);
  assert.deepEqual(new Set(worker.settled), new Set([by.get('b1')!.tag, by.get('c1')!.tag]));
  await transfer.sendBody(1, body);
  await settledAre(worker, 4);
  const answered = scene.harness.returned.map((key) => scene.store.outbound(key)?.responseTo);
  assert.deepEqual(answered.slice(2), ['a1', 'a2']);
});

test('a body that the worker breaks off is refused, its completion is owed, and those behind it go on', async () => {
  await using scene = await openScene();
  await scene.deliver(['m0', 'm1']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [first, second] = await worker.got(2);
  const transfer = worker.transfer();
  worker.complete({ tag: first!.tag, results: [large(1, first!, 2 * MIB), large(2, first!, 200_000)] });
  worker.complete({ tag: second!.tag, results: [] });
  transfer.send({
    chunks: [chunk(1, 0, Buffer.alloc(200_000)), chunk(1, 200_000, Buffer.alloc(0), { last: true, aborted: true })],
  });
  const refusal = await worker.until(() => worker.frames.flatMap((each) => each.resultRefusals)[0]);
  assert.deepEqual([refusal.number, refusal.tag, refusal.passing], [1, first!.tag, true]);
  await settledAre(worker, 1);
  // The other body of it is not wanted any more, and may still come.
  await transfer.until(() => transfer.credits.find(({ id, stop }) => id === 2 && stop));
  transfer.send({ chunks: [chunk(2, 0, Buffer.alloc(0), { last: true, aborted: true })] });
  worker.complete({ tag: first!.tag, results: [large(3, first!, 70_000)] });
  await transfer.sendBody(3, Buffer.alloc(70_000));
  await settledAre(worker, 2);
});

test('the content files of a stream that ends before its completion are gone', async () => {
  await using scene = await openScene();
  await scene.deliver(['m0']);
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const [delivery] = await worker.got(1);
  const transfer = worker.transfer();
  worker.complete({ tag: delivery!.tag, results: [large(1, delivery!, 3 * MIB), large(2, delivery!, 100_000)] });
  await transfer.sendBody(2, Buffer.alloc(100_000));
  transfer.send({ chunks: [chunk(1, 0, Buffer.alloc(200_000))] });
  await transfer.until(() => transfer.credits.find(({ id }) => id === 1));
  assert.equal((await readdir(join(scene.stateDir, 'content'))).length, 2);
  worker.die();
  await scene.harness.dispatcher.stop(0);
  while ((await readdir(join(scene.stateDir, 'content'))).length > 0) await settle();
});

test('a damaged content ends its body as worthless, and its message as dead', async () => {
  await using scene = await openScene({ limits: { maxAttempts: 10 } });
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], GENEROUS);
  const dead = scene.harness.dispatcher.dataDispatch.next(scene.harness.scope.signal);
  await scene.deliver(['m0'], { content: () => randomBytes(2 * MIB) });
  const [delivery] = await worker.got(1);
  const [file] = await readdir(join(scene.stateDir, 'content'));
  await truncate(join(scene.stateDir, 'content', file!), MIB);
  const transfer = worker.transfer();
  const last = await transfer.until(() => transfer.chunks.find((each) => each.last));
  assert.equal(last.aborted, true);
  assert.equal((await dead).outcome.kind, 'dead');
  worker.refuse({ tag: delivery!.tag, kind: Kind.FAILED, reason: 'the body was worthless' });
  await scene.deliver(['m1']);
  await worker.got(2);
});

test('a message larger than the worker takes is dead as too large', async () => {
  await using scene = await openScene();
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo'], { maxBody: 100_000n });
  const dead = scene.harness.dispatcher.dataDispatch.next(scene.harness.scope.signal);
  await scene.deliver(['m0'], { content: () => Buffer.alloc(100_001) });
  const { outcome } = await dead;
  assert.ok(outcome.kind === 'dead' && outcome.answer !== undefined);
  assert.equal(scene.store.outbound(outcome.answer)?.metadata['error-code'], 'too-large');
});

test('256 MiB go to a worker with flat memory', async (t) => {
  await using scene = await openScene();
  const size = 256 * MIB;
  const sha256 = await deliverFetched(scene, 'huge', size);
  const worker = await scene.harness.streamWorker();
  await worker.join(['waits'], GENEROUS);
  const [delivery] = await worker.got(1);
  const transfer = worker.transfer();
  const hash = createHash('sha256');
  let peak = 0;
  let received = 0;
  const whole = new Promise<void>((resolve) => {
    transfer.onChunk = ({ data, last }) => {
      hash.update(data);
      received += data.length;
      peak = Math.max(peak, process.memoryUsage().rss);
      if (received === 16 * MIB) base = peak;
      if (last) resolve();
    };
  });
  let base = Infinity;
  await whole;
  assert.deepEqual([received, hash.digest('hex')], [size, sha256]);
  t.diagnostic(`RSS grew by ${Math.round((peak - base) / MIB)} MiB over 240 MiB`);
  assert.ok(peak - base < 64 * MIB, `RSS grew by ${Math.round((peak - base) / MIB)} MiB`);
  worker.complete({ tag: delivery!.tag, results: [] });
  await settledAre(worker, 1);
});

test('a Transfer with another token is refused, also one that comes before the Welcome was sent', async () => {
  await using scene = await openScene();
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  for (const token of [Buffer.alloc(32), Buffer.from('x'), Buffer.alloc(0)]) {
    const { code } = await worker.transfer(token).end;
    assert.equal(code, token.length === 0 ? status.INVALID_ARGUMENT : status.PERMISSION_DENIED);
  }
  const good = worker.transfer();
  await settle();
  await scene.deliver(['m0'], { content: () => randomBytes(100_000) });
  await good.until(() => good.chunks.find(({ last }) => last));
  const second = await worker.transfer().end;
  assert.deepEqual([second.code, second.details], [status.INVALID_ARGUMENT, 'the stream has a Transfer already']);
});

test('a Transfer that ends with bodies under way ends its Connect; one without does not', async () => {
  await using scene = await openScene();
  const worker = await scene.harness.streamWorker();
  await worker.join(['echo']);
  const idle = worker.transfer();
  await settle();
  idle.call.end();
  assert.equal((await idle.end).code, status.OK);
  await scene.deliver(['m0'], { content: () => randomBytes(3 * MIB) });
  await worker.got(1);
  const busy = worker.transfer();
  busy.isCrediting = false;
  await busy.until(() => (busy.chunks.length === 4 ? true : undefined));
  busy.call.cancel();
  assert.equal((await worker.end).code, status.ABORTED);
});
