/**
 * The worker SDK with unary calls, against an agent that speaks them over real sockets: what worker-contract.ts, the suite
 * for all transports, does not hold.
 */
import assert from 'node:assert/strict';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus as Serving } from '../../protocol/generated/health.js';
import { type Handler, jsonReply, serve, type ServeOptions } from '../../src/worker/index.js';
import { type FakeAgent, startFakeAgent } from '../support/fake-agent.js';
import { recordingLog } from '../support/log.js';
import { deferred, sdkRig, type SdkRig } from '../support/rig.js';
import { tempDir } from '../support/temp.js';

function rig(
  handler: Handler,
  options: Partial<ServeOptions> = {},
  prepare: (agent: FakeAgent) => void = () => undefined,
): Promise<SdkRig<FakeAgent>> {
  const start = async (dir: string): Promise<FakeAgent> => {
    const agent = await startFakeAgent(dir);
    prepare(agent);
    return agent;
  };
  return sdkRig(start, handler, options);
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

describe('messages of unary calls', () => {
  test('content over gRPC’s default limit passes, since the agent alone limits it', async () => {
    await using r = await rig((message) => ({ content: message.content }));
    const content = Buffer.alloc(5 * 1024 * 1024, 0x61);
    await r.agent.send({ content });
    assert.ok(r.agent.replies[0]?.content.equals(content));
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
});

describe('many messages at once', () => {
  test('replies that are under way together are no leak, and Node warns of none', async () => {
    const warnings: string[] = [];
    const onWarning = ({ message }: Error): number => warnings.push(message);
    process.on('warning', onWarning);
    const all = deferred();
    let underWay = 0;
    await using r = await rig(
      ({ content }) => ({ content }),
      { concurrency: 24 },
      (agent) => {
        agent.onSend = async () => {
          if (++underWay === 24) all.resolve();
          await all.promise;
          return undefined;
        };
      },
    );
    await Promise.all(Array.from({ length: 24 }, (_, i) => r.agent.send({ messageId: `m${i}` })));
    await new Promise(setImmediate);
    process.off('warning', onWarning);
    assert.deepEqual(warnings, []);
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
});

describe('stop', () => {
  test('a worker that has stopped leaves no socket behind', async () => {
    await using r = await rig(() => undefined);
    await r.agent.send({});
    r.stop.abort();
    await r.ended;
    await assert.rejects(stat(r.agent.workerPath), { code: 'ENOENT' });
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
