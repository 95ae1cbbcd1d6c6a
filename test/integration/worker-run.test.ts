/** `ygg worker run` and the shipped workers, against an agent that speaks the contract. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Command } from 'commander';
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { addWorkerCommand, environment, runWorker, type WorkerRunOptions } from '../../src/cli/worker-run.js';
import { type FakeAgent, startFakeAgent } from '../support/fake-agent.js';
import { type RecordingLog, recordingLog } from '../support/log.js';
import { tempDir } from '../support/temp.js';
import { startWorkerProcess } from '../support/worker-process.js';

interface Rig extends AsyncDisposable {
  readonly agent: FakeAgent;
  readonly log: RecordingLog;
  readonly stop: AbortController;
  /** Sends a message and gives the one reply. */
  ask(data: Partial<Data>): Promise<{ content: string; metadata: Record<string, string> }>;
}

async function rig(script: string, options: Partial<WorkerRunOptions> = {}): Promise<Rig> {
  const dir = await tempDir();
  const agent = await startFakeAgent(dir.path);
  const log = recordingLog();
  const stop = new AbortController();
  const ended = runWorker({
    handler: 'run',
    program: '/bin/sh',
    args: ['-c', script],
    address: agent.address,
    env: { PATH: '/usr/bin:/bin' },
    log,
    signal: stop.signal,
    ...options,
  });
  return {
    agent,
    log,
    stop,
    ask: async (data) => {
      await agent.send(data);
      const reply = agent.replies.at(-1);
      return { content: reply?.content.toString() ?? '', metadata: reply?.metadata ?? {} };
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
      await agent[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

describe('ygg worker run', () => {
  test('content goes to stdin and stdout is the answer, byte for byte', async () => {
    await using r = await rig('tr a-z A-Z; echo note >&2');
    assert.deepEqual(await r.ask({ content: Buffer.from('{"a": 1.0}') }), { content: '{"A": 1.0}', metadata: {} });
    assert.equal((await r.log.line('program.stderr')).text, 'note');
  });

  test('the message stands in the environment, and can set nothing else', async () => {
    await using r = await rig('env');
    const { content } = await r.ask({
      messageId: 'm1',
      directive: 'run',
      responseTo: 'r1',
      metadata: { 'return-url': 'https://x', PATH: '/evil', LD_PRELOAD: '/evil.so', nul: 'a\0b' },
    });
    const lines = content.split('\n');
    for (const line of [
      'PATH=/usr/bin:/bin',
      'YGG_MESSAGE_ID=m1',
      'YGG_DIRECTIVE=run',
      'YGG_RESPONSE_TO=r1',
      'YGG_METADATA_RETURN_URL=https://x',
      'YGG_METADATA_PATH=/evil',
      'YGG_METADATA_NUL=ab',
    ]) {
      assert.ok(lines.includes(line), line);
    }
    assert.ok(!lines.some((line) => line.startsWith('LD_PRELOAD')));
  });

  test('metadata cannot replace the message’s own variables', () => {
    const env = environment(
      { A: undefined, B: 'b' },
      { messageId: 'm', directive: 'd', responseTo: '', metadata: { json: 'x' } },
    );
    assert.deepEqual(env, {
      B: 'b',
      YGG_MESSAGE_ID: 'm',
      YGG_DIRECTIVE: 'd',
      YGG_RESPONSE_TO: '',
      YGG_METADATA_JSON: '{"json":"x"}',
    });
  });

  test('a failure is an answer with exit code and the end of stderr', async () => {
    await using r = await rig('echo half; echo broken >&2; exit 3');
    assert.deepEqual(await r.ask({}), {
      content: 'null',
      metadata: {
        status: 'error',
        'error-code': 'program-failed',
        error: '/bin/sh ended with exit code 3',
        stderr: 'broken',
        'exit-code': '3',
      },
    });
  });

  test('a death by signal is an answer that names the signal', async () => {
    await using r = await rig('kill -SEGV $$');
    const { metadata } = await r.ask({});
    assert.deepEqual([metadata['signal'], metadata['error']], ['SIGSEGV', '/bin/sh was killed by SIGSEGV']);
  });

  test('a run over its time, and one with too much output, are ended and answered', async () => {
    await using slow = await rig('exec sleep 1000', { timeout: 50 });
    assert.equal((await slow.ask({})).metadata['error'], '/bin/sh took longer than 0.05 s');
    await using loud = await rig('exec yes', { outputLimit: 100 });
    assert.equal((await loud.ask({})).metadata['error-code'], 'output-too-large');
  });

  test('exit code 75 and a program that cannot be started make the agent deliver the message again', async () => {
    await using busy = await rig('echo later >&2; exit 75');
    await assert.rejects(busy.agent.send({}), { code: status.INTERNAL, details: /asks for another try .*later/ });
    await using none = await rig('', { program: '/nowhere/program' });
    await assert.rejects(none.agent.send({}), { code: status.INTERNAL, details: /cannot run \/nowhere\/program/ });
    assert.equal(busy.agent.replies.length + none.agent.replies.length, 0);
  });

  test('a stop in the midst of a run ends the program and counts as no attempt', async () => {
    await using dir = await tempDir();
    const started = join(dir.path, 'started');
    execFileSync('mkfifo', [started]);
    await using r = await rig(`echo started >'${started}'; exec sleep 1000`);
    const receipt = r.agent.send({});
    receipt.catch(() => undefined);
    assert.equal(await readFile(started, 'utf8'), 'started\n');
    r.stop.abort();
    await assert.rejects(receipt, { code: status.UNAVAILABLE });
    assert.equal(r.agent.replies.length, 0);
  });

  test('with --text a program reads and writes plain text', async () => {
    await using r = await rig('tr a-z A-Z', { isText: true });
    assert.equal((await r.ask({ content: Buffer.from('"a \\"b\\"\\n"') })).content, '"A \\"B\\"\\n"');
    assert.equal((await r.ask({ messageId: 'n', content: Buffer.from('{"a":1}') })).content, '"{\\"A\\":1}"');
    assert.equal((await r.ask({ messageId: 'o', content: Buffer.alloc(0) })).content, '""');
  });

  test('the command line gives all of it to the worker', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    const stop = startWorkerProcess(
      process.execPath,
      [
        '--import',
        'tsx',
        resolve('test/support/worker-run-main.ts'),
        'worker',
        'run',
        '--handler',
        'shout',
        '--feature',
        'a=b=c',
        '--feature',
        'd=',
        '--detached-content',
        '--concurrency',
        '2',
        '--timeout',
        '5',
        '--output-limit',
        '1000',
        '--text',
        '--',
        '/usr/bin/tr',
        'a-z',
        'A-Z',
      ],
      { YGG_SOCKET_ADDR: agent.address },
    );
    await using worker = stop;
    const { handler, features, detachedContent } = await agent.registration(1);
    assert.deepEqual(
      { handler, features, detachedContent },
      {
        handler: 'shout',
        features: { a: 'b=c', d: '', concurrency: '2' },
        detachedContent: true,
      },
    );
    await agent.send({});
    assert.equal(agent.replies[0]?.content.toString(), '"HELLO"');
    assert.deepEqual(await worker.stop(), { code: 0, signal: null });
  });

  test('wrong flags are refused with a reason', async () => {
    const attempt = async (...flags: string[]): Promise<string> => {
      const program = new Command().exitOverride();
      let text = '';
      addWorkerCommand(program);
      for (const command of [program, ...program.commands, ...program.commands.flatMap((c) => c.commands)]) {
        command.exitOverride().configureOutput({ writeErr: (line) => (text += line) });
      }
      await assert.rejects(program.parseAsync(['worker', 'run', ...flags, '--', 'x'], { from: 'user' }));
      return text;
    };
    assert.match(await attempt(), /--handler/);
    assert.match(await attempt('--handler', 'x', '--feature', 'a'), /KEY=VALUE/);
    assert.match(await attempt('--handler', 'x', '--concurrency', '0'), /positive integer/);
    assert.match(await attempt('--handler', 'x', '--timeout', '-1'), /positive number/);
  });
});

describe('the shipped workers', () => {
  const start = (file: string, env: Record<string, string>): ReturnType<typeof startWorkerProcess> =>
    startWorkerProcess(process.execPath, ['--import', 'tsx', resolve(file)], { ...env, YGG_LOG_LEVEL: 'INFO' });

  test('echo sends content and metadata back and stops cleanly', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    await using worker = start('workers/echo/echo-worker.ts', { YGG_SOCKET_ADDR: agent.address });
    assert.deepEqual((await agent.registration(1)).features, { version: '1' });
    const content = Buffer.from(' [1.0, 12345678901234567890,"\\u00e9"]');
    await agent.send({ content, metadata: { a: 'b' } });
    assert.deepEqual([agent.replies[0]?.content, agent.replies[0]?.metadata], [content, { a: 'b' }]);
    assert.deepEqual(await worker.stop(), { code: 0, signal: null });
  });

  test('a worker without an agent ends with one line that says what to do', async () => {
    for (const file of ['workers/echo/echo-worker.ts', 'workers/command/command-worker.ts']) {
      await using worker = start(file, {});
      await once(worker.child, 'close');
      assert.equal(worker.child.exitCode, 69);
      assert.match(worker.stderr(), /^ERROR worker\.failed: .*YGG_SOCKET_ADDR is not set\. Put the worker into .*$/m);
      assert.doesNotMatch(worker.stderr(), /^\s+at /m);
    }
  });

  test('command runs what its file names and answers everything else with one clear error', async () => {
    await using dir = await tempDir();
    await using agent = await startFakeAgent(dir.path);
    const file = join(dir.path, 'commands.toml');
    await using worker = start('workers/command/command-worker.ts', {
      YGG_SOCKET_ADDR: agent.address,
      YGG_CONFIG_DIR: dir.path,
    });
    await agent.registration(1);
    let asked = 0;
    const ask = async (
      content: string,
    ): Promise<{ value: Record<string, unknown>; metadata: Record<string, string> }> => {
      await agent.send({ messageId: `m${++asked}`, directive: 'command', content: Buffer.from(content) });
      const reply = agent.replies.at(-1)!;
      return { value: JSON.parse(reply.content.toString()) as Record<string, unknown>, metadata: reply.metadata };
    };

    const missing = await ask('{"command":"say"}');
    assert.equal(missing.metadata['error-code'], 'configuration');
    assert.match(missing.metadata['error'] ?? '', /cannot read .*commands\.toml/);

    await writeFile(file, '[commands.say]\nrun = ["/bin/echo", "{word}"]\narguments.word = { pattern = ".*" }\n');
    const { value, metadata } = await ask('{"command":"say","arguments":{"word":"a; rm -rf $HOME `id`"}}');
    assert.deepEqual(metadata, {});
    assert.equal(typeof value['duration_ms'], 'number');
    assert.deepEqual(
      { ...value, duration_ms: 0 },
      {
        exit_code: 0,
        signal: null,
        stdout: 'a; rm -rf $HOME `id`\n',
        stderr: '',
        truncated: false,
        timed_out: false,
        duration_ms: 0,
      },
    );

    for (const [content, code] of [
      ['{"command":"rm"}', 'unknown-command'],
      ['{"command":"say","arguments":{"word":"-n"}}', 'bad-arguments'],
      ['"say"', 'malformed'],
      ['not json', 'malformed'],
    ] as const) {
      const refused = await ask(content);
      assert.deepEqual([refused.metadata['status'], refused.metadata['error-code']], ['error', code]);
      assert.deepEqual(refused.value, { error: refused.metadata['error'] });
    }

    await writeFile(
      file,
      '[commands.gone]\nrun = ["/nowhere/x"]\n[commands.slow]\nrun = ["/bin/sleep", "1000"]\ntimeout = 0.05\n',
    );
    assert.equal((await ask('{"command":"gone"}')).metadata['error-code'], 'not-started');
    const slow = await ask('{"command":"slow"}');
    assert.deepEqual([slow.value['timed_out'], slow.value['exit_code'], slow.value['signal']], [true, null, 'SIGTERM']);

    await writeFile(file, '[commands.x\n');
    assert.equal((await ask('{"command":"x"}')).metadata['error-code'], 'configuration');
    await chmod(file, 0o666);
    assert.match((await ask('{"command":"x"}')).metadata['error'] ?? '', /can be written by everybody/);
    assert.deepEqual(await worker.stop(), { code: 0, signal: null }, worker.stderr());
  });
});
