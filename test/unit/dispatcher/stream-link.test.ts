/** A worker's stream as the queue sees it, without a wire. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentFrame } from '../../../protocol/generated/stream.js';
import { OutgoingBodies } from '../../../src/dispatcher/stream/outgoing.js';
import { PREFIX } from '../../../src/grpc/index.js';
import { IncomingBodies } from '../../../src/dispatcher/stream/incoming.js';
import { Outbox } from '../../../src/dispatcher/stream/outbox.js';
import { Results } from '../../../src/dispatcher/stream/results.js';
import { RESULTS } from '../../../src/dispatcher/stream/session.js';
import { StreamLink } from '../../../src/dispatcher/stream/stream-link.js';
import { messageKey } from '../../../src/message/ids.js';
import { deferred } from '../../../src/datastore/promises.js';
import { FakeClock } from '../../support/clock.js';
import { inboundRecord } from '../../support/messages.js';

const LIMITS = { messages: 8, bytes: 1000, bodies: 2 };

/** A link, a file that cannot be read once it is `broken`, and a commit that is through once it is `durable`. */
function streamLink(limits = LIMITS, write: (frame: Buffer) => void = () => undefined) {
  const broken = deferred();
  const durable = deferred();
  const store = {
    openContent: () => broken.done.then(() => assert.fail('unreachable')),
    newContentFile: () => assert.fail('none'),
    discardContentFile: () => Promise.resolve(),
    reserve: () => (): void => undefined,
  };
  const bodies = new OutgoingBodies(store);
  bodies.attach(() => Promise.resolve());
  const incoming = new IncomingBodies({
    files: store,
    bodies: limits.bodies,
    credit: () => undefined,
    onPressure: () => undefined,
  });
  const outbox = new Outbox({
    write: (frame, sent) => {
      write(frame);
      sent();
    },
    gather: () => undefined,
  });
  const link = new StreamLink({
    outbox,
    bodies,
    clock: new FakeClock(),
    window: limits,
    maxBody: 1000,
    end: () => undefined,
    results: new Results({ limits, checks: { resultSize: 1000, metadataSize: 200 }, store, bodies: incoming }),
    books: {
      complete: (_key, _results, watch) => {
        void durable.done.then(() => watch.durable());
        return { kind: 'taken' };
      },
      accept: () => ({ kind: 'taken', durable: durable.done }),
      recorded: () => durable.done,
    },
  });
  return { link, outbox, bodies, broken, durable };
}

const completions = (tag: number, results: number, first = 1) => ({
  hello: undefined,
  completions: [
    {
      tag,
      results: Array.from({ length: results }, (_, index) => ({
        number: first + index,
        data: { messageId: 'm', responseTo: '', directive: 'd', metadata: {}, content: Buffer.alloc(0) },
        body: undefined,
      })),
    },
  ],
  refusals: [],
  results: [],
  pongs: [],
});

test('a file that breaks off while the end of its message is being committed does not keep that end from being told', async () => {
  const { link, bodies, broken, durable } = streamLink();
  const told: string[] = [];
  const content = { kind: 'file' as const, path: '/nowhere', size: 5 };
  const record = inboundRecord({ key: messageKey(1), state: 'dispatching', content });
  link.send({ record, report: ({ kind }) => told.push(kind) }, Buffer.alloc(0));
  link.receive(completions(1, 0));
  broken.reject(new Error('EIO'));
  await new Promise(setImmediate);
  assert.equal(bodies.count, 0, 'the file was looked at');
  durable.resolve();
  await new Promise(setImmediate);
  assert.deepEqual(told, ['completed', 'written']);
});

test('what waits for a frame to ride in leaves the worker most of its window for results', async () => {
  for (let each = 1; each <= 20; each++) {
    const settled: number[] = [];
    const { link, outbox, durable } = streamLink(RESULTS, (bytes) =>
      settled.push(...AgentFrame.decode(bytes.subarray(PREFIX)).settled),
    );
    outbox.welcome({ registrations: [], window: undefined, token: Buffer.alloc(0), maxResult: 0n, config: undefined });
    durable.resolve();
    const count = 63;
    for (let tag = 1; tag <= count; tag++) {
      const record = inboundRecord({ key: messageKey(tag), state: 'dispatching' });
      link.send({ record, report: () => undefined }, Buffer.alloc(0));
    }
    await new Promise(setImmediate);
    for (let tag = 1; tag <= count; tag++) {
      link.receive(completions(tag, each, 1 + tag * each));
      await new Promise(setImmediate);
    }
    const held = (count - settled.length) * each;
    assert.ok(held <= RESULTS.messages / 4, `${held} of ${RESULTS.messages} are held where each has ${each}`);
    outbox.close();
  }
});

test('a number that comes twice is found however many results stand between the two', () => {
  for (const count of [2, 3, 16, 17, 1000]) {
    const { link } = streamLink();
    const record = inboundRecord({ key: messageKey(1), state: 'dispatching' });
    link.send({ record, report: () => undefined }, Buffer.alloc(0));
    const frame = completions(1, count);
    const last = frame.completions[0]?.results.at(-1);
    assert.ok(last !== undefined);
    last.number = 1;
    assert.throws(() => link.receive(frame), /the number 1 is that of another result in flight/);
  }
});
