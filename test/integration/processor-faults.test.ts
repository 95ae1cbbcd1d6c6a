/** Faults of this machine: a store that fails in between counts nothing against the message, and is tried again. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { directiveKey } from '../../src/message/index.js';
import { FakeClock, settle } from '../support/clock.js';
import { startServer } from '../support/http.js';
import { ECHO, startProcessor } from './processor-setup.js';

test('a content file that cannot be written is tried again later and counts nothing', async () => {
  const clock = new FakeClock();
  const body = Buffer.alloc(100_000, 7);
  await using server = await startServer((_request, response) => response.end(body));
  let faults = 1;
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin] },
    clock,
    change: (store) => ({
      newContentFile: () => {
        const file = store.newContentFile();
        const write = (): Promise<never> => Promise.reject(new Error('no space left on device'));
        return faults-- > 0 ? { write, finish: write, discard: () => file.discard() } : file;
      },
    }),
  });
  await setup.register(ECHO, true);
  const key = await setup.send({ content: server.origin });
  const line = await setup.log.line('fetch.interrupted');
  assert.match(String(line.fields['error']), /cannot be written: no space left/);
  await settle();
  await clock.advance(10_000);
  await setup.ready(key);
  assert.deepEqual(await setup.body(key), body);
  assert.equal(setup.store.inbound(key)?.fetches, 0);
});

test('a journal that fails when the body is complete leaves no file, and the message is fetched again', async () => {
  const clock = new FakeClock();
  await using server = await startServer((_request, response) => response.end(Buffer.alloc(100_000)));
  let faults = 1;
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin] },
    clock,
    change: (store) => ({
      discardContentFile: (path) => rm(path),
      fetched: (key, content) =>
        faults-- > 0 ? Promise.reject(new Error('journal away')) : store.fetched(key, content),
    }),
  });
  await setup.register(ECHO, true);
  const key = await setup.send({ content: server.origin });
  await setup.log.line('fetch.interrupted');
  assert.deepEqual(await readdir(join(setup.stateDir, 'content')), []);
  await settle();
  await clock.advance(10_000);
  await setup.ready(key);
  assert.equal(server.requests.length, 2);
});

test('a journal that fails when a result was posted is tried again later', async () => {
  const clock = new FakeClock();
  await using server = await startServer((_request, response) => response.end());
  let faults = 1;
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin] },
    clock,
    change: (store) => ({
      nextOutbound: (lane) => {
        if (faults-- > 0) throw new Error('journal away');
        return store.nextOutbound(lane);
      },
    }),
  });
  const seen = server.seen.next(AbortSignal.timeout(20_000));
  await setup.reply({ to: server.origin, content: Buffer.from('x') });
  await setup.log.line('post.interrupted');
  await settle();
  await clock.advance(10_000);
  assert.equal((await seen).body.toString(), 'x');
});

test('a message that cannot be ended in the journal is told of in the log', async () => {
  await using setup = await startProcessor({
    change: () => ({ end: () => Promise.reject(new Error('journal away')) }),
  });
  await setup.send({ content: 1, metadata: { ttl: '0' } });
  await setup.log.line('processor.end_failed');
});

test('a part that throws while it listens does not hold the processor up', async () => {
  await using setup = await startProcessor();
  await setup.register(ECHO, false);
  setup.processor.dataProcess.connect(() => {
    throw new Error('a bug elsewhere');
  }, AbortSignal.timeout(20_000));
  const key = await setup.send({ content: 1 });
  await setup.ready(key);
  await setup.log.line('processor.handler_failed');
});

test('an outcome with an error answer nudges the router, and an expired message that came back is ended', async () => {
  const clock = new FakeClock();
  await using setup = await startProcessor({ clock });
  await setup.register(ECHO, false);
  const key = await setup.send({ id: 'back', content: 1, metadata: { ttl: '5' } });
  setup.store.markDispatching(key);
  clock.step(6_000);
  setup.processor.lapse(key);
  setup.processor.dispatched({ key, outcome: { kind: 'retry' } });
  assert.equal(setup.store.inbound(key)?.state, 'dispatching');
  setup.store.requeue(key);
  setup.processor.dispatched({ key, outcome: { kind: 'retry' } });
  const answer = await setup.answerTo('back');
  assert.equal(answer.metadata['error-code'], 'expired');
  setup.processor.dispatched({ key, outcome: { kind: 'dead', answer: answer.key } });
  assert.deepEqual(setup.consumed, [answer.key, answer.key]);
});

test('what was made ready for a worker that wanted the URL is fetched for one that wants the body', async () => {
  await using server = await startServer((_request, response) => response.end('body'));
  await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } });
  await setup.register(ECHO, false);
  const key = await setup.send({ content: server.origin });
  assert.equal(setup.store.nextReady(directiveKey(ECHO))?.key, key);
  const fetched = setup.processor.dataProcess.next(AbortSignal.timeout(20_000));
  await setup.register(ECHO, true);
  await fetched;
  assert.equal((await setup.body(key)).toString(), 'body');
});

test('after the stop nothing is taken on', async () => {
  await using setup = await startProcessor();
  await setup.register(ECHO, false);
  await setup.processor.stop();
  const key = await setup.send({ content: 1 });
  setup.processor.lapse(key);
  setup.processor.workerRegistered(ECHO);
  await setup.reply({ to: 'echo', content: Buffer.from('1') });
  assert.deepEqual([setup.processed, setup.consumed], [[], []]);
  assert.equal(setup.store.inbound(key)?.state, 'accepted');
});

test('a result whose content file has vanished is dead at once, and the next for its URL goes', async () => {
  await using server = await startServer((_request, response) => response.end());
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin] },
    change: (store) => ({
      readContent: async (content) => {
        if (content.kind === 'file') await rm(content.path);
        return store.readContent(content);
      },
    }),
  });
  await setup.reply({ to: server.origin, content: Buffer.alloc(100_000), id: 'large' });
  const next = await setup.reply({ to: server.origin, content: Buffer.from('small'), id: 'small' });
  while (setup.store.outbound(next) !== undefined) await setup.ended.next(AbortSignal.timeout(20_000));
  assert.deepEqual(
    server.requests.map(({ body }) => body.toString()),
    ['small'],
  );
  const dead = [...setup.store.deadLetters()];
  assert.deepEqual(
    dead.map(({ messageId, failure }) => [messageId, failure.code]),
    [['large', 'malformed']],
  );
});
