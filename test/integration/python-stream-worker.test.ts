/** The Python worker on the stream, a program of its own: one client call, no server. Skipped only without grpcio. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, test } from 'node:test';
import { Refusal_Kind } from '../../protocol/generated/stream.js';
import { replyMessageId } from '../../src/message/ids.js';
import { startFakeAgent } from '../support/fake-agent.js';
import { type FakeStreamAgent, Refused, startFakeStreamAgent } from '../support/fake-stream-agent.js';
import { programRig, type ProgramRig, pythonGrpcMissing } from '../support/rig.js';
import { tempDir } from '../support/temp.js';
import { startWorkerProcess } from '../support/worker-process.js';

const FILE = resolve('workers/python-stream-echo/python-stream-echo-worker');
const skip = pythonGrpcMissing();

async function rig(): Promise<ProgramRig<FakeStreamAgent>> {
  const made = await programRig(startFakeStreamAgent, FILE);
  await made.agent.hello(1);
  return made;
}

describe('the Python worker on the stream', { skip }, () => {
  test('registers without a socket of its own, and echoes byte for byte with derived ids', async () => {
    await using r = await rig();
    const [registration] = r.agent.hellos[0]?.registrations ?? [];
    assert.equal(registration?.handler, 'python_stream_echo');
    assert.equal(registration.pid, BigInt(r.worker.child.pid ?? 0));
    const content = Buffer.from('{ "b":12345678901234567890, "a": 1.0, "é": "\\u00e9" }');
    await r.agent.deliver({ messageId: 'm', content, directive: 'python-stream-echo', metadata: { a: 'ä' } });
    assert.deepEqual(r.agent.results, [
      {
        messageId: replyMessageId('m', 0),
        directive: 'python-stream-echo',
        responseTo: 'm',
        metadata: { a: 'ä' },
        content,
      },
    ]);
    assert.deepEqual(await readdir(r.dir.path), ['d.sock']);
  });

  test('many messages come back in order, several to a frame', async () => {
    await using r = await rig();
    const ids = Array.from({ length: 200 }, (_, i) => `m${i}`);
    await Promise.all(ids.map((messageId) => r.agent.deliver({ messageId })));
    assert.deepEqual(
      r.agent.results.map(({ responseTo }) => responseTo),
      ids,
    );
  });

  test('keeps to a window of one result', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeStreamAgent(dir.path);
    agent.welcome = { window: { messages: 1, bytes: 10, bodies: 1 } };
    let under = 0;
    let most = 0;
    agent.onResults = async () => {
      most = Math.max(most, ++under);
      await new Promise(setImmediate);
      under -= 1;
      return undefined;
    };
    await using worker = startWorkerProcess(FILE, [], { YGG_SOCKET_ADDR: agent.address });
    await agent.hello(1);
    await Promise.all(Array.from({ length: 10 }, (_, i) => agent.deliver({ messageId: `m${i}` })));
    assert.equal(most, 1, worker.stderr());
  });

  test('large contents come and go as bodies, with credits', async () => {
    await using r = await rig();
    const content = Buffer.alloc(3_500_000, 'abcdefg');
    await r.agent.deliver({ messageId: 'large', content });
    await r.agent.deliver({ messageId: 'small', content: Buffer.from('1') });
    assert.ok(r.agent.results[0]?.content.equals(content));
    assert.equal(r.agent.results[1]?.content.toString(), '1');
  });

  test('sends a completion again that the agent has no room for, and refuses what it will never take', async () => {
    await using r = await rig();
    let tries = 0;
    r.agent.onResults = () => (++tries < 3 ? { isPassing: true, reason: 'spool is full' } : undefined);
    await r.agent.deliver({ messageId: 'm' });
    assert.deepEqual([tries, r.agent.results.length], [3, 1]);
    r.agent.onResults = () => ({ isPassing: false, reason: 'no' });
    await assert.rejects(
      r.agent.deliver({ messageId: 'n' }),
      (error) => error instanceof Refused && error.refusal.kind === Refusal_Kind.INVALID,
    );
  });

  test('connects anew after the agent was away', async () => {
    await using r = await rig();
    await r.agent.deliver({});
    r.agent.stop();
    await r.agent.start();
    await r.agent.hello(2);
    await r.agent.deliver({ messageId: 'second' });
    assert.equal(r.agent.results.at(-1)?.responseTo, 'second');
  });

  test('ends cleanly at SIGTERM', async () => {
    await using r = await rig();
    await r.agent.deliver({});
    assert.deepEqual(await r.worker.stop(), { code: 0, signal: null }, r.worker.stderr());
  });

  test('hears a SIGTERM that comes to one of its other threads', async () => {
    await using r = await rig();
    await r.agent.deliver({});
    assert.deepEqual(await r.worker.stopByOtherThread(), { code: 0, signal: null }, r.worker.stderr());
  });

  test('says what an agent without the stream lacks', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    await using worker = startWorkerProcess(FILE, [], { YGG_SOCKET_ADDR: agent.address });
    while (!worker.stderr().includes('has no stream')) {
      await new Promise((heard) => worker.child.stderr?.once('data', heard));
    }
    assert.equal(agent.registrations.length, 0);
  });
});
