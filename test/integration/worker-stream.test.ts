/** The worker SDK on the stream, against an agent that speaks it over a real socket. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Refusal_Kind } from '../../protocol/generated/stream.js';
import { replyMessageId } from '../../src/message/ids.js';
import { Cancelled, type Handler, jsonReply, serve, type ServeOptions } from '../../src/worker/index.js';
import { startFakeAgent } from '../support/fake-agent.js';
import { type FakeStreamAgent, Refused, startFakeStreamAgent } from '../support/fake-stream-agent.js';
import { assertNothingMore, heldAtRest } from '../support/leaks.js';
import { recordingLog } from '../support/log.js';
import { sdkRig, type SdkRig } from '../support/rig.js';
import { tempDir } from '../support/temp.js';

const ID = '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d';

async function rig(handler: Handler, options: Partial<ServeOptions> = {}): Promise<SdkRig<FakeStreamAgent>> {
  const made = await sdkRig(startFakeStreamAgent, handler, options);
  await made.agent.hello(1);
  return made;
}

describe('a worker on the stream', () => {
  test('announces itself, its window and its limit, and needs no socket of its own', async () => {
    await using r = await rig(() => undefined, {
      concurrency: 4,
      maxMessageSize: 8_000_000,
      features: { version: '2' },
    });
    assert.deepEqual(r.agent.hellos, [
      {
        registrations: [
          {
            handler: 'echo',
            pid: BigInt(process.pid),
            detachedContent: false,
            features: { version: '2', concurrency: '4', 'max-message-size': '8000000' },
          },
        ],
        window: { messages: 256, bytes: 1024 * 1024, bodies: 4 },
        maxBody: 8_000_000n,
      },
    ]);
    await r.log.line('worker.registered');
    assert.deepEqual(await readdir(r.dir.path), ['d.sock']);
  });

  test('answers, and reply and receipt are one completion', async () => {
    await using r = await rig(({ content, metadata }) => ({ content, metadata }));
    await r.agent.deliver({ content: Buffer.from('1'), metadata: { a: 'ä' }, directive: 'e_cho' });
    assert.deepEqual(r.agent.results, [
      {
        messageId: replyMessageId(ID, 0),
        directive: 'e_cho',
        responseTo: ID,
        metadata: { a: 'ä' },
        content: Buffer.from('1'),
      },
    ]);
    const completions = r.agent.frames.flatMap((frame) => frame.completions);
    assert.deepEqual(
      completions.map(({ tag, results }) => [tag, results.length]),
      [[1, 1]],
    );
  });

  test('connects anew when its agent was restarted', async () => {
    await using r = await rig(({ content }) => ({ content }));
    await r.agent.deliver({});
    r.agent.stop();
    await r.log.line('worker.agent_lost');
    await r.agent.start();
    await r.agent.hello(2);
    await r.agent.deliver({ messageId: 'second' });
    assert.equal(r.agent.results.at(-1)?.responseTo, 'second');
  });

  test('ends its call once it is told to stop', async () => {
    await using r = await rig(({ content }) => ({ content }));
    await r.agent.deliver({});
    const ended = r.agent.ended.next(new AbortController().signal);
    r.stop.abort();
    assert.equal(await ended, 'end');
    await r.ended;
  });
});

describe('bodies', () => {
  const large = Buffer.alloc(3_000_000, 'abcdefg');

  test('a large content is collected, and a large reply goes the same way', async () => {
    await using r = await rig(({ content }) => ({ content }));
    await r.agent.deliver({ content: large });
    assert.ok(r.agent.results[0]?.content.equals(large));
    assert.ok(
      r.agent.frames.every((frame) => frame.completions.every(({ results }) => results[0]?.data?.content.length === 0)),
    );
  });

  test('the connection they go over ends with the worker', async () => {
    const behind = async <T>(content: Buffer, look: () => Promise<T>): Promise<T> => {
      await using r = await rig((message) => ({ content: message.content }));
      await r.agent.deliver({ content });
      r.stop.abort();
      await r.ended;
      return await look();
    };
    const without = await behind(Buffer.from('1'), heldAtRest);
    await behind(large, () => assertNothingMore(without));
  });

  test('chunks that come before their delivery are kept for it', async () => {
    await using r = await rig(({ content }) => ({ content }));
    await r.agent.deliver({ messageId: 'first', content: large }); // The call for bodies is there from now on.
    const content = Buffer.alloc(700_000, 'x');
    await r.agent.deliver({ messageId: 'second', content }, { isBodyFirst: true });
    assert.ok(r.agent.results[1]?.content.equals(content));
  });

  test('a small message of another lane overtakes a body that is not whole', async () => {
    const handled: string[] = [];
    await using r = await rig((message) => void handled.push(`${message.messageId} ${message.size}`));
    const tag = r.agent.nextTag;
    const slow = r.agent.deliver({ messageId: 'slow' }, { body: { size: 100_000, chunks: [] } });
    await r.agent.deliver({ messageId: 'quick', content: Buffer.from('1') }, { priority: 9 });
    const same = r.agent.deliver({ messageId: 'same lane' });
    await r.agent.writeBody({
      chunks: [{ id: tag, offset: 0n, data: Buffer.alloc(100_000), last: true, aborted: false }],
    });
    await Promise.all([slow, same]);
    assert.deepEqual(handled, ['quick 1', 'slow 100000', 'same lane 7']);
  });

  test('a stream is read as it comes, and the agent sends no more than is used', async () => {
    const size = 8 * 1024 * 1024;
    let isReading = (): void => undefined;
    const reading = new Promise<void>((resolve) => (isReading = resolve));
    await using r = await rig(
      async (message) => {
        assert.throws(() => message.content, /read it from body\(\)/);
        await reading;
        let sum = 0;
        for await (const chunk of message.body()) sum += (chunk as Buffer).length;
        return jsonReply({ sum, size: message.size });
      },
      { streamContent: true },
    );
    const chunks = Array.from({ length: size / 131_072 }, () => Buffer.alloc(131_072, 'x'));
    const settled = r.agent.deliver({}, { body: { size, chunks } });
    isReading();
    await settled;
    assert.equal(r.agent.results[0]?.content.toString(), `{"sum":${size},"size":${size}}`);
    assert.equal(r.agent.mostAhead, 1024 * 1024);
  });
});

describe('cancel', () => {
  const refusedAs =
    (kind: Refusal_Kind) =>
    (error: unknown): boolean =>
      error instanceof Refused && error.refusal.kind === kind;

  test('a message that waits is given back, and its handler never runs', async () => {
    const handled: string[] = [];
    let release = (): void => undefined;
    await using r = await rig(async ({ messageId }) => {
      handled.push(messageId);
      await new Promise<void>((resolve) => (release = resolve));
      return undefined;
    });
    const first = r.agent.deliver({ messageId: 'first' });
    const tag = r.agent.nextTag;
    const second = r.agent.deliver({ messageId: 'second' });
    r.agent.write({ cancels: [tag] });
    await assert.rejects(second, refusedAs(Refusal_Kind.CANCELLED));
    release();
    await first;
    assert.deepEqual(handled, ['first']);
  });

  test('a handler learns it by its signal, and what it throws then ends the message as cancelled', async () => {
    let reason: unknown;
    await using r = await rig(
      (_message, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            reject(new Error('given up'));
          });
        }),
    );
    const tag = r.agent.nextTag;
    const message = r.agent.deliver({});
    r.agent.write({ cancels: [tag] });
    await assert.rejects(message, refusedAs(Refusal_Kind.CANCELLED));
    assert.ok(reason instanceof Cancelled);
    await r.log.line('worker.cancelled');
  });

  test('a handler that is done all the same completes it, and a cancel that comes too late does nothing', async () => {
    let release = (): void => undefined;
    await using r = await rig(async (_message, context) => {
      await new Promise<void>((resolve) => (release = resolve));
      assert.ok(context.signal.reason instanceof Cancelled, 'also one that asks late is told');
      return jsonReply(1);
    });
    const tag = r.agent.nextTag;
    const message = r.agent.deliver({});
    r.agent.write({ cancels: [tag] });
    await pong(r.agent, 1);
    release();
    await message;
    r.agent.write({ cancels: [tag, 4711] });
    await pong(r.agent, 2);
    assert.equal(r.agent.results.length, 1);
  });
});

describe('the end of a stream', () => {
  test('a completion whose receipt got lost is given again without a second run', async () => {
    let runs = 0;
    await using r = await rig(() => jsonReply(++runs));
    let isAsked = (): void => undefined;
    const asked = new Promise<void>((resolve) => (isAsked = resolve));
    r.agent.onResults = () => {
      isAsked();
      return new Promise(() => undefined);
    };
    const lost = r.agent.deliver({});
    lost.catch(() => undefined);
    await asked;
    r.agent.stop();
    await r.log.line('worker.agent_lost');
    r.agent.onResults = () => undefined;
    await r.agent.start();
    await r.agent.hello(2);
    await r.agent.deliver({});
    assert.deepEqual([runs, r.agent.results[0]?.content.toString()], [1, '1']);
  });

  test('many whose receipts got lost are kept without a warning', async () => {
    const count = 20;
    await using r = await rig(() => undefined, { concurrency: count });
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    let asked = 0;
    r.agent.onResults = () => {
      asked += 1;
      return new Promise(() => undefined);
    };
    for (let each = 0; each < count; each++) r.agent.deliver({ messageId: `m${each}` }).catch(() => undefined);
    while (asked < count) await r.agent.came.next(AbortSignal.timeout(5_000));
    r.agent.stop();
    await r.log.line('worker.agent_lost');
    await new Promise(setImmediate);
    process.off('warning', warned);
    assert.deepEqual(warnings, []);
  });

  test('what waited is forgotten with it, and runs when it comes again', async () => {
    const handled: string[] = [];
    let release = (): void => undefined;
    await using r = await rig(async ({ messageId }) => {
      handled.push(messageId);
      if (messageId === 'first') await new Promise<void>((resolve) => (release = resolve));
      return undefined;
    });
    for (const messageId of ['first', 'second']) r.agent.deliver({ messageId }).catch(() => undefined);
    await pong(r.agent, 1);
    r.agent.stop();
    await r.log.line('worker.agent_lost');
    await r.agent.start();
    await r.agent.hello(2);
    release();
    await r.agent.deliver({ messageId: 'third' });
    assert.deepEqual(handled, ['first', 'third']);
  });

  test('a worker that stops waits until its last completion is durable', async () => {
    await using r = await rig(() => jsonReply(1));
    const answers: (() => void)[] = [];
    const asked = new Promise<void>((resolve) => {
      r.agent.onResults = () => {
        resolve();
        return new Promise((answer) => answers.push(() => answer(undefined)));
      };
    });
    const message = r.agent.deliver({});
    await asked;
    let isEnded = false;
    void r.ended.then(() => (isEnded = true));
    r.stop.abort();
    await pong(r.agent, 1);
    assert.equal(isEnded, false);
    answers[0]?.();
    await message;
    await r.ended;
  });
});

describe('agents of other kinds', () => {
  test('one that refuses the registration is asked again, and its reason is in the log', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeStreamAgent(dir.path);
    agent.welcome = { registrations: [{ registered: false, reason: 'taken by other-worker' }] };
    const log = recordingLog();
    const stop = new AbortController();
    const random = (): number => 0;
    const ended = serve({ handler: 'echo', address: agent.address, log, signal: stop.signal, random }, () => undefined);
    void agent.hello(1).then(() => agent.call().end());
    const line = await log.line('worker.refused');
    assert.match(line.text, /cannot register handler echo .*: taken by other-worker/);
    agent.welcome = {};
    await log.line('worker.registered');
    stop.abort();
    await ended;
  });

  test('a worker of the stream alone says what an agent without it lacks, and asks again', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    const log = recordingLog();
    const stop = new AbortController();
    const options = { handler: 'echo', address: agent.address, log, signal: stop.signal };
    const ended = serve({ ...options, transport: 'stream' }, () => undefined);
    const line = await log.line('worker.no_stream');
    assert.equal(line.level, 'error');
    assert.match(line.text, /has no stream.*upgrade the agent/);
    stop.abort();
    await ended;
    assert.equal(agent.registrations.length, 0);
  });

  test('an agent that is upgraded is met on the stream, and the socket of the unary calls is gone; and back again', async () => {
    await using dir = await tempDir();
    await using old = await startFakeAgent(dir.path);
    const log = recordingLog();
    const stop = new AbortController();
    const options = { handler: 'echo', address: old.address, log, signal: stop.signal, random: () => 0.1 };
    const ended = serve(options, ({ content }) => ({ content }));
    await old.send({});
    assert.equal(old.replies.length, 1);
    old.stop();
    await using upgraded = await startFakeStreamAgent(dir.path);
    await upgraded.hello(1);
    await upgraded.deliver({});
    assert.equal(upgraded.results.length, 1);
    await assert.rejects(stat(old.workerPath), { code: 'ENOENT' });
    upgraded.stop();
    await old.start();
    await old.registration(2);
    await old.send({});
    assert.equal(old.replies.length, 2);
    stop.abort();
    await ended;
  });
});

describe('an agent that breaks a rule', () => {
  const data = { messageId: 'm', directive: 'echo', metadata: {}, responseTo: '', content: Buffer.from('1') };
  const delivery = { tag: 7, priority: 5, data, body: undefined };
  const body = { ...delivery, data: { ...data, content: Buffer.alloc(0) }, body: { size: 100_000n } };
  const chunk = { id: 7, offset: 0n, data: Buffer.alloc(10), last: false, aborted: false };
  const many = Array.from({ length: 5 }, (_, i) => ({ ...chunk, id: 100 + i }));
  const faults: Record<string, (agent: FakeStreamAgent) => void> = {
    'a second Welcome': (agent) =>
      agent.write({
        welcome: { registrations: [], token: Buffer.alloc(0), window: undefined, maxResult: 0n, config: undefined },
      }),
    'a tag that is in use': (agent) => agent.write({ deliveries: [body, body] }),
    'a delivery without data': (agent) => agent.write({ deliveries: [{ ...delivery, data: undefined }] }),
    'a priority of 10': (agent) => agent.write({ deliveries: [{ ...delivery, priority: 10 }] }),
    'a content and a body': (agent) => agent.write({ deliveries: [{ ...delivery, body: { size: 1n } }] }),
    'a body over the limit': (agent) => agent.write({ deliveries: [{ ...body, body: { size: 5_000_000n } }] }),
    'settled for nothing': (agent) => agent.write({ settled: [99] }),
    'accepted for nothing': (agent) => agent.write({ accepted: [99] }),
    'a refusal of no result': (agent) =>
      agent.write({ resultRefusals: [{ number: 99, tag: undefined, passing: true, reason: '' }] }),
    'deliveries beyond the window': (agent) => {
      const deliveries = Array.from({ length: 5 }, (_, i) => ({
        ...body,
        tag: 50 + i,
        data: { ...body.data, messageId: `m${i}` },
      }));
      agent.write({ deliveries });
    },
    'chunks out of order': (agent) => {
      agent.write({ deliveries: [body] });
      void agent.writeBody({ chunks: [{ ...chunk, offset: 5n }] });
    },
    'a chunk after the last one': (agent) => {
      agent.write({ deliveries: [body] });
      const last = { ...chunk, data: Buffer.alloc(100_000), last: true };
      // It counts as one that comes ahead, as do those of four more bodies: one more than the window.
      void agent.writeBody({ chunks: [last, { ...chunk, offset: 100_000n }, ...many] });
    },
    'chunks of bodies that nothing names': (agent) => {
      agent.write({ deliveries: [body] });
      void agent.writeBody({ chunks: many });
    },
  };
  for (const [name, fault] of Object.entries(faults)) {
    test(`${name}: the worker ends the call, says why, and connects anew`, async () => {
      await using r = await rig(({ content }) => ({ content }));
      fault(r.agent);
      assert.match(
        String((await r.log.line('worker.agent_lost')).fields['reason']),
        /the agent broke a rule of the stream: /,
      );
      await r.agent.hello(2);
      await r.agent.deliver({});
      assert.equal(r.agent.results.at(-1)?.content.toString(), '"hello"');
    });
  }
});

async function pong(agent: FakeStreamAgent, number: number): Promise<void> {
  const answered = agent.came.next(new AbortController().signal, (frame) =>
    frame.pongs.some((answer) => answer.number === number),
  );
  agent.write({ pings: [number] });
  await answered;
}
