/** The Python worker, a program of its own, on the exact contract: skipped only where grpcio is not installed. */
import assert from 'node:assert/strict';
import { rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { replyMessageId } from '../../src/message/ids.js';
import { type FakeAgent, startFakeAgent } from '../support/fake-agent.js';
import { programRig, type ProgramRig, pythonGrpcMissing } from '../support/rig.js';
import { startWorkerProcess } from '../support/worker-process.js';

const FILE = resolve('workers/python-echo/python-echo-worker');
const skip = pythonGrpcMissing();

const rig = (): Promise<ProgramRig<FakeAgent>> => programRig(startFakeAgent, FILE);

describe('the Python worker', { skip }, () => {
  test('registers, echoes byte for byte with derived ids, and lets only its user connect', async () => {
    await using r = await rig();
    const registration = await r.agent.registration(1);
    assert.equal(registration.handler, 'python_echo');
    assert.equal(registration.pid, BigInt(r.worker.child.pid ?? 0));
    const content = Buffer.from('{ "b":12345678901234567890, "a": 1.0, "é": "\\u00e9" }');
    const messageId = '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d';
    await r.agent.send({ messageId, content, directive: 'python-echo', metadata: { a: 'ä' } });
    assert.deepEqual(r.agent.replies, [
      {
        messageId: replyMessageId(messageId, 0),
        directive: 'python-echo',
        responseTo: messageId,
        metadata: { a: 'ä' },
        content,
      },
    ]);
    assert.equal((await stat(r.agent.workerPath)).mode & 0o777, 0o600);
  });

  test('returns its receipt only after the agent took the reply, which it sends again until then', async () => {
    await using r = await rig();
    let tries = 0;
    r.agent.onSend = () => (++tries < 3 ? { code: status.RESOURCE_EXHAUSTED, details: 'spool is full' } : undefined);
    await r.agent.send({});
    assert.equal(tries, 3);
    assert.equal(r.agent.replies.length, 1);
  });

  test('gives an error where the agent does not take the reply', async () => {
    await using r = await rig();
    r.agent.onSend = () => ({ code: status.INVALID_ARGUMENT, details: 'no' });
    await assert.rejects(r.agent.send({}), { code: status.INTERNAL });
  });

  test('registers again after the agent was away, and binds a socket that vanished', async () => {
    await using r = await rig();
    await r.agent.send({});
    r.agent.stop();
    await rm(r.agent.workerPath, { force: true });
    await r.agent.start();
    await r.agent.registration(2);
    await r.agent.send({ messageId: 'second' });
    assert.equal(r.agent.replies.at(-1)?.responseTo, 'second');
  });

  test('ends cleanly at SIGTERM', async () => {
    await using r = await rig();
    await r.agent.send({});
    assert.deepEqual(await r.worker.stop(), { code: 0, signal: null }, r.worker.stderr());
  });

  test('hears a SIGTERM that comes to one of its other threads', async () => {
    await using r = await rig();
    await r.agent.send({});
    assert.deepEqual(await r.worker.stopByOtherThread(), { code: 0, signal: null }, r.worker.stderr());
  });

  test('says what to do where no agent is named', async () => {
    await using worker = startWorkerProcess(FILE, [], {});
    await new Promise((done) => worker.child.once('close', done));
    assert.equal(worker.child.exitCode, 69);
    assert.match(worker.stderr(), /YGG_SOCKET_ADDR is not set/);
  });
});
