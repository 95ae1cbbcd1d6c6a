/** The worker SDK on the stream, against an agent that speaks it over a real socket. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { replyMessageId } from '../../src/message/ids.js';
import { type Handler, serve, type ServeOptions } from '../../src/worker/index.js';
import { type FakeStreamAgent, startFakeStreamAgent } from '../support/fake-stream-agent.js';
import { type RecordingLog, recordingLog } from '../support/log.js';
import { type TempDir, tempDir } from '../support/temp.js';

const ID = '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d';

interface Rig extends AsyncDisposable {
  readonly agent: FakeStreamAgent;
  readonly log: RecordingLog;
  readonly dir: TempDir;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

async function rig(handler: Handler, options: Partial<ServeOptions> = {}): Promise<Rig> {
  const dir = await tempDir();
  const agent = await startFakeStreamAgent(dir.path);
  const log = recordingLog();
  const stop = new AbortController();
  const ended = serve(
    { handler: 'echo', address: agent.address, log, signal: stop.signal, random: () => 0.1, ...options },
    handler,
  );
  await agent.hello(1);
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
