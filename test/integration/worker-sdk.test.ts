/** The worker SDK against an agent that speaks the contract over real sockets. */
import assert from 'node:assert/strict';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus as Serving } from '../../protocol/generated/health.js';
import { Event } from '../../protocol/generated/yggdrasil.js';
import { replyMessageId } from '../../src/message/ids.js';
import {
  type Handler,
  jsonReply,
  Refusal,
  serve,
  type ServeOptions,
  type WorkerEvent,
} from '../../src/worker/index.js';
import { type FakeAgent, startFakeAgent } from '../support/fake-agent.js';
import { type RecordingLog, recordingLog } from '../support/log.js';
import { type TempDir, tempDir } from '../support/temp.js';

const ID = '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d';

interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

function deferred(): Deferred {
  let settle = (): void => undefined;
  const promise = new Promise<void>((resolve) => (settle = resolve));
  return { promise, resolve: () => settle() };
}

interface Rig extends AsyncDisposable {
  readonly agent: FakeAgent;
  readonly log: RecordingLog;
  readonly dir: TempDir;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** An agent and a worker that registers with it; both are gone when the test is. */
async function rig(
  handler: Handler,
  options: Partial<ServeOptions> = {},
  prepare: (agent: FakeAgent) => void = () => undefined,
): Promise<Rig> {
  const dir = await tempDir();
  const agent = await startFakeAgent(dir.path);
  prepare(agent);
  const log = recordingLog();
  const stop = new AbortController();
  const ended = serve(
    { handler: 'echo', address: agent.address, log, signal: stop.signal, random: () => 0.1, ...options },
    handler,
  );
  return {
    agent,
    log,
    dir,
    stop,
    ended,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
      await agent[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

describe('registration', () => {
  test('a worker announces its handler, pid, features, concurrency and message size', async () => {
    await using r = await rig(() => undefined, {
      features: { version: '2' },
      concurrency: 4,
      maxMessageSize: 8_000_000,
      detachedContent: true,
    });
    assert.deepEqual(await r.agent.registration(1), {
      handler: 'echo',
      pid: BigInt(process.pid),
      detachedContent: true,
      features: { version: '2', concurrency: '4', 'max-message-size': '8000000' },
    });
  });

  test('only the worker’s user can connect to its socket, and the process keeps its umask', async () => {
    const before = process.umask(0o022);
    await using r = await rig(() => undefined);
    await r.log.line('worker.registered');
    assert.equal((await stat(r.agent.workerPath)).mode & 0o777, 0o600);
    assert.equal(process.umask(before), 0o022);
  });

  test('a worker that starts before its agent registers once the agent is there', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    agent.stop();
    const log = recordingLog();
    const stop = new AbortController();
    const ended = serve(
      { handler: 'echo', address: agent.address, log, signal: stop.signal, random: () => 0.1 },
      () => undefined,
    );
    const line = await log.line('worker.unreachable');
    assert.match(line.text, /cannot register handler echo with the agent at unix:.*trying again/);
    await agent.start();
    await agent.registration(1);
    stop.abort();
    await ended;
  });

  test('a worker whose handler is taken says so and asks again', async () => {
    let asked = 0;
    await using r = await rig(
      () => undefined,
      { random: () => 0 },
      (agent) => {
        agent.onRegister = () => ({ registered: ++asked > 2, address: agent.workerPath });
      },
    );
    const line = await r.log.line('worker.refused');
    assert.equal(line.level, 'error');
    assert.match(line.text, /handler echo .* taken by another worker/);
    await r.log.line('worker.registered');
    assert.equal(asked, 3);
  });

  test('a worker registers again when its agent was restarted, and goes on answering', async () => {
    await using r = await rig((message) => ({ content: message.content }));
    await r.agent.send({});
    r.agent.stop();
    await r.log.line('worker.agent_lost');
    await r.agent.start();
    await r.agent.registration(2);
    await r.agent.send({ content: Buffer.from('2') });
    assert.equal(r.agent.replies.at(-1)?.content.toString(), '2');
  });

  test('after a restart a worker listens where the new registration says', async () => {
    await using r = await rig((message) => ({ content: message.content }));
    await r.agent.send({});
    const first = r.agent.workerPath;
    r.agent.stop();
    r.agent.workerPath = join(r.dir.path, 'other.sock');
    await r.agent.start();
    await r.agent.registration(2);
    await r.agent.send({ content: Buffer.from('2') });
    assert.equal(r.agent.replies.length, 2);
    await assert.rejects(stat(first), { code: 'ENOENT' });
  });

  test('a worker binds its socket again when the agent removed the file', async () => {
    await using r = await rig((message) => ({ content: message.content }));
    await r.agent.send({});
    r.agent.stop();
    await rm(r.agent.workerPath);
    await r.agent.start();
    await r.agent.registration(2);
    await r.agent.send({ content: Buffer.from('2') });
    assert.equal(r.agent.replies.length, 2);
  });

  test('an address that is no socket is reported, and the worker tries again', async () => {
    let asked = 0;
    await using r = await rig(
      () => undefined,
      {},
      (agent) => {
        agent.onRegister = () => ({ registered: true, address: asked++ === 0 ? 'localhost:80' : agent.workerPath });
      },
    );
    assert.match((await r.log.line('worker.listen_failed')).text, /"localhost:80": not a Unix socket/);
    await r.log.line('worker.registered');
  });

  test('a directory that is not there is reported with its path', async () => {
    let asked = 0;
    await using r = await rig(
      () => undefined,
      {},
      (agent) => {
        agent.onRegister = () => ({ registered: true, address: asked++ === 0 ? '/nowhere/w.sock' : agent.workerPath });
      },
    );
    assert.match((await r.log.line('worker.listen_failed')).text, /cannot listen at \/nowhere\/w\.sock/);
    await r.log.line('worker.registered');
  });

  test('wrong options and a missing address are refused at once', async () => {
    const never = (): undefined => undefined;
    await assert.rejects(serve({ handler: '../x', address: 'unix:/x' }, never), { code: 'config.invalid' });
    await assert.rejects(serve({ handler: 'x', concurrency: 0, address: 'unix:/x' }, never), {
      code: 'config.invalid',
    });
    await assert.rejects(serve({ handler: 'x', address: '' }, never), {
      code: 'worker.unreachable',
      message: /YGG_SOCKET_ADDR is not set/,
    });
    await assert.rejects(serve({ handler: 'x', address: 'localhost:1' }, never), { code: 'worker.unreachable' });
  });
});

describe('an abstract socket', () => {
  test('serves where the agent asks for one', async () => {
    const name = `yg-${process.pid}-${Date.now()}`;
    await using r = await rig(
      (message) => ({ content: message.content }),
      {},
      (agent) => {
        agent.onRegister = () => ({ registered: true, address: `@${name}` });
        agent.workerPath = `\0${name}`;
      },
    );
    await r.log.line('worker.registered');
    await r.agent.send({});
    assert.equal(r.agent.replies.length, 1);
  });
});

describe('messages', () => {
  test('a handler gets the bytes and the reply goes back byte for byte with derived ids', async () => {
    const content = Buffer.from('{ "b":12345678901234567890, "a": 1.0 }');
    await using r = await rig((message) => ({ content: message.content, metadata: message.metadata }));
    await r.agent.send({ content, metadata: { a: 'ä' }, directive: 'e_cho' });
    assert.deepEqual(r.agent.replies, [
      { messageId: replyMessageId(ID, 0), directive: 'e_cho', responseTo: ID, metadata: { a: 'ä' }, content },
    ]);
  });

  test('content over gRPC’s default limit passes, since the agent alone limits it', async () => {
    await using r = await rig((message) => ({ content: message.content }));
    const content = Buffer.alloc(5 * 1024 * 1024, 0x61);
    await r.agent.send({ content });
    assert.ok(r.agent.replies[0]?.content.equals(content));
  });

  test('replies keep their order and number, whether sent or returned', async () => {
    await using r = await rig((_message, context) => {
      void context.send({ content: '0', directive: 'https://example.com/r' });
      void context.send(jsonReply(1));
      assert.equal(context.replyIndex, 2);
      return [jsonReply(2), { content: '3', messageId: 'own' }];
    });
    await r.agent.send({});
    assert.deepEqual(
      r.agent.replies.map((reply) => [reply.content.toString(), reply.messageId, reply.directive]),
      [
        ['0', replyMessageId(ID, 0), 'https://example.com/r'],
        ['1', replyMessageId(ID, 1), 'echo'],
        ['2', replyMessageId(ID, 2), 'echo'],
        ['3', 'own', 'echo'],
      ],
    );
  });

  test('the receipt comes only after the agent accepted the reply', async () => {
    const gate = deferred();
    let isReceived = false;
    await using r = await rig(
      () => jsonReply(1),
      {},
      (agent) => {
        agent.onSend = () => gate.promise.then(() => undefined);
      },
    );
    const receipt = r.agent.send({}).then(() => (isReceived = true));
    await r.agent.health();
    assert.equal(isReceived, false);
    gate.resolve();
    await receipt;
    assert.equal(r.agent.replies.length, 1);
  });

  test('a reply is sent again while the agent has no room', async () => {
    let tries = 0;
    await using r = await rig(
      () => jsonReply(1),
      {},
      (agent) => {
        agent.onSend = () => (++tries < 3 ? { code: status.RESOURCE_EXHAUSTED, details: 'spool is full' } : undefined);
      },
    );
    await r.agent.send({});
    assert.equal(tries, 3);
    assert.equal((await r.log.line('worker.reply_delayed')).fields['reason'], 'spool is full');
  });

  test('a reply that is too large for the agent ends the call instead of coming for ever', async () => {
    await using r = await rig(
      () => jsonReply(1),
      {},
      (agent) => {
        agent.onSend = () => ({
          code: status.RESOURCE_EXHAUSTED,
          details: 'Received message larger than max (9 vs 4)',
        });
      },
    );
    await assert.rejects(r.agent.send({}), { code: status.INVALID_ARGUMENT, details: /larger than max/ });
  });

  test('a reply that the agent cannot take makes the agent deliver the message again', async () => {
    await using r = await rig(
      () => jsonReply(1),
      {},
      (agent) => {
        agent.onSend = () => ({ code: status.INTERNAL, details: 'broken' });
      },
    );
    await assert.rejects(r.agent.send({}), { code: status.INTERNAL, details: /does not take reply .* broken/ });
  });

  test('a reply outlives a restart of the agent', async () => {
    const entered = deferred();
    const release = deferred();
    await using r = await rig(async () => {
      entered.resolve();
      await release.promise;
      return jsonReply(7);
    });
    const lost = r.agent.send({});
    lost.catch(() => undefined);
    await entered.promise;
    r.agent.stop();
    await assert.rejects(lost);
    release.resolve();
    await r.log.line('worker.agent_lost');
    await r.agent.start();
    await r.agent.replied.next(AbortSignal.timeout(30_000));
    assert.equal(r.agent.replies[0]?.content.toString(), '7');
  });

  test('a message that comes again while its handler runs joins that run', async () => {
    const release = deferred();
    let runs = 0;
    await using r = await rig(
      async () => {
        runs += 1;
        await release.promise;
        return jsonReply(runs);
      },
      { concurrency: 4 },
    );
    const calls = [r.agent.send({}), r.agent.send({})];
    await r.agent.health();
    release.resolve();
    await Promise.all(calls);
    assert.equal(runs, 1);
    assert.equal(r.agent.replies.length, 1);
  });

  test('no more handlers run at once than the worker allows', async () => {
    let running = 0;
    let most = 0;
    const both = deferred();
    await using r = await rig(
      async () => {
        most = Math.max(most, ++running);
        if (running === 2) both.resolve();
        await both.promise;
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        return undefined;
      },
      { concurrency: 2 },
    );
    await Promise.all(Array.from({ length: 10 }, (_, i) => r.agent.send({ messageId: `m${i}` })));
    assert.equal(most, 2);
  });

  test('a handler that throws gives an error with its text, so that the agent tries again', async () => {
    await using r = await rig(() => {
      throw new Error('no disk \ud800');
    });
    await assert.rejects(r.agent.send({}), { code: status.INTERNAL, details: 'no disk \ufffd' });
    assert.equal((await r.log.line('worker.handler_failed')).fields['message_id'], ID);
  });

  test('a refusal and content that is not JSON are told apart from a failure', async () => {
    await using r = await rig((message) => {
      if (message.json() === 1) throw new Refusal('not one');
      return undefined;
    });
    await assert.rejects(r.agent.send({ content: Buffer.from('1') }), {
      code: status.INVALID_ARGUMENT,
      details: 'not one',
    });
    await assert.rejects(r.agent.send({ content: Buffer.from('{') }), {
      code: status.INVALID_ARGUMENT,
      details: /is not JSON/,
    });
  });

  test('a reply after the handler is done is an error, not a silent loss', async () => {
    let late: (() => Promise<void>) | undefined;
    await using r = await rig((_message, context) => {
      late = () => context.send(jsonReply(1));
      return undefined;
    });
    await r.agent.send({});
    await assert.rejects(late?.() ?? Promise.resolve(), /after its handler was done/);
    assert.equal(r.agent.replies.length, 0);
  });
});

describe('health and events', () => {
  test('the health service says SERVING, and knows no other service', async () => {
    await using r = await rig(() => undefined);
    assert.equal((await r.agent.health()).status, Serving.SERVING);
    assert.equal((await r.agent.health('yggdrasil.Worker')).status, Serving.SERVING);
    await assert.rejects(r.agent.health('other'), { code: status.NOT_FOUND });
  });

  test('a health watch hears that the worker stops, and does not hold it up', async () => {
    await using r = await rig(() => undefined);
    await r.agent.health();
    const seen: Serving[] = [];
    const watch = r.agent.healthClient().watch({ service: '' });
    const first = deferred();
    const end = deferred();
    watch.on('data', (answer: { status: Serving }) => {
      seen.push(answer.status);
      first.resolve();
    });
    watch.on('end', () => end.resolve());
    watch.on('error', () => undefined);
    await first.promise;
    r.stop.abort();
    await end.promise;
    await r.ended;
    assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING]);
  });

  test('events of the agent reach onEvent, and one that throws is logged', async () => {
    const events: WorkerEvent[] = [];
    await using r = await rig(() => undefined, {
      onEvent: (event) => {
        events.push(event);
        if (event.name === 'unknown') throw new Error('odd');
      },
    });
    const detail = 'd';
    for (const name of [
      Event.RECEIVED_DISCONNECT,
      Event.UNEXPECTED_DISCONNECT,
      Event.CONNECTION_RESTORED,
      Event.UNKNOWN,
    ])
      await r.agent.notify({ name, detail, metadata: { a: 'b' } });
    assert.deepEqual(
      events.map((event) => event.name),
      ['disconnect-received', 'disconnected', 'connection-restored', 'unknown'],
    );
    assert.deepEqual(events[0]?.metadata, { a: 'b' });
    assert.match((await r.log.line('worker.event_failed')).text, /odd/);
  });
});

describe('stop', () => {
  test('a handler under way finishes, its reply is accepted and its receipt returned', async () => {
    const entered = deferred();
    await using r = await rig(async (_message, context) => {
      entered.resolve();
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
      return jsonReply('last');
    });
    const receipt = r.agent.send({});
    await entered.promise;
    r.stop.abort();
    await receipt;
    await r.ended;
    assert.equal(r.agent.replies.length, 1);
    await assert.rejects(stat(r.agent.workerPath), { code: 'ENOENT' });
  });

  test('a handler that gives up because of the stop counts as no attempt, and what waited is refused', async () => {
    const entered = deferred();
    await using r = await rig(async (_message, context) => {
      entered.resolve();
      await new Promise((_resolve, reject) =>
        context.signal.addEventListener('abort', () => reject(new Error('broken off'))),
      );
      return undefined;
    });
    const first = r.agent.send({ messageId: 'a' });
    await entered.promise;
    const second = r.agent.send({ messageId: 'b' });
    second.catch(() => undefined);
    await r.agent.health();
    r.stop.abort();
    await assert.rejects(first, { code: status.UNAVAILABLE, details: 'broken off' });
    await assert.rejects(second, { code: status.UNAVAILABLE });
  });

  test('a handler that does not finish is cut off at the stop time-out', async () => {
    const entered = deferred();
    await using r = await rig(
      () => {
        entered.resolve();
        return new Promise(() => undefined);
      },
      { stopTimeout: 10 },
    );
    const receipt = r.agent.send({});
    receipt.catch(() => undefined);
    await entered.promise;
    r.stop.abort();
    await r.ended;
    await assert.rejects(receipt);
  });

  test('a worker that is still looking for its agent stops at once', async () => {
    await using dir = await tempDir();
    const stop = new AbortController();
    const log = recordingLog();
    const ended = serve({ handler: 'echo', address: `${dir.path}/d.sock`, log, signal: stop.signal }, () => undefined);
    await log.line('worker.unreachable');
    stop.abort();
    await ended;
  });
});
