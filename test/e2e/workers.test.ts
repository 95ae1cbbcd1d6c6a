/** Workers of every kind under the built daemon and a real broker: shipped ones, a script of two lines, bad ones. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, readBook } from '../support/book-worker.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { contentOf } from '../support/operator.js';
import { answered, assertAllAnswered, orderOfAnswers, sendBurst } from '../support/traffic.js';
import { ROOT, type Yggd } from '../support/yggd.js';

const NODE = process.env['YGG_TEST_NODE'] ?? process.execPath;
const hasGrpc = spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf']).status === 0;

async function addBookWorker(
  bench: Bench,
  name: string,
  options: Parameters<typeof bookWorker>[2] = {},
): Promise<void> {
  await bench.home.addProgram(name, bookWorker(bench.home, name, options));
}

function startedLines(yggd: Yggd, worker: string): readonly unknown[] {
  return yggd.log.filter((entry) => entry.event === 'worker.started' && entry['worker'] === worker);
}

describe('workers under the daemon', { skip: mosquittoMissing, concurrency: 1 }, () => {
  for (const [worker, directive] of [
    ['python-echo-worker', 'python-echo'],
    ['python-stream-echo-worker', 'python-stream-echo'],
  ] as const) {
    test(
      `the Python worker ${worker} registers and answers`,
      { skip: hasGrpc ? false : 'needs grpc for /usr/bin/python3 (python3-grpcio)' },
      async () => {
        await using bench = await makeBench();
        await bench.home.addWorker(worker);
        const handler = directive.replaceAll('-', '_');
        await bench.startWith([handler]);
        const content = '{"b":12345678901234567890, "a":1.0,"é":"\\u00e9"}';
        const answer = await bench.operator.answerTo(
          await bench.operator.send(directive, content, { metadata: { key: 'value' } }),
        );
        assert.equal(contentOf(answer), content);
        assert.deepEqual(answer.metadata, { key: 'value' });
        const burst = sendBurst(bench.operator, handler, 50);
        await answered(bench.operator, burst.ids);
        assert.equal(assertAllAnswered(bench.operator, burst.ids), 0);
        assert.deepEqual(orderOfAnswers(bench.operator, burst.ids), burst.ids);
      },
    );
  }

  test('a shell script of two lines is a worker', async () => {
    await using bench = await makeBench();
    const ygg = `${NODE} ${join(ROOT, 'dist/ygg.js')}`;
    await bench.home.addProgram(
      'shout-worker',
      `#!/bin/sh\nexec ${ygg} worker run --handler shout --text -- /usr/bin/tr a-z A-Z\n`,
    );
    await bench.home.addProgram(
      'fail-worker',
      `#!/bin/sh\nexec ${ygg} worker run --handler fail -- /bin/sh -c 'echo "no such thing" >&2; exit 3'\n`,
    );
    await bench.startWith(['shout', 'fail']);
    const { operator } = bench;
    assert.equal((await operator.answerTo(await operator.send('shout', '"hello"'))).content, 'HELLO');
    const failed = await operator.answerTo(await operator.send('fail', '"x"'));
    assert.equal(failed.metadata?.['status'], 'error');
    assert.match(JSON.stringify(failed.metadata), /no such thing/);
    assert.match(JSON.stringify(failed.metadata), /exit[^,]*3/);
  });

  test('the command worker runs what its file names, and says clearly what it does not', async (t) => {
    await using bench = await makeBench();
    await bench.home.addWorker('command-worker');
    await writeFile(
      bench.home.path('config/commands.toml'),
      `
[commands.greet]
run = ["/bin/sh", "-c", "echo hello $1; echo aside >&2; exit 7", "greet", "{who}"]
[commands.greet.arguments]
who = { pattern = "[a-z]+" }
[commands.hang]
run = ["/bin/sleep", "600"]
timeout = 0.2
[commands.flood]
run = ["/usr/bin/head", "-c", "100000", "/dev/zero"]
output-limit = 1000
`,
    );
    await bench.startWith(['command']);
    const { operator } = bench;
    const run = async (request: unknown): Promise<{ metadata: Record<string, string>; content: unknown }> => {
      const answer = await operator.answerTo(await operator.send('command', JSON.stringify(request)));
      return { metadata: answer.metadata ?? {}, content: answer.content };
    };

    await t.test('exit code, stdout and stderr come back', async () => {
      const { content, metadata } = await run({ command: 'greet', arguments: { who: 'ann' } });
      const { duration_ms: _, ...rest } = content as Record<string, unknown>;
      assert.deepEqual(rest, {
        exit_code: 7,
        signal: null,
        stdout: 'hello ann\n',
        stderr: 'aside\n',
        truncated: false,
        timed_out: false,
      });
      assert.equal(metadata['status'], undefined);
    });
    await t.test('an unknown command is refused, with the known ones', async () => {
      const { metadata } = await run({ command: 'rm' });
      assert.equal(metadata['error-code'], 'unknown-command');
      assert.equal(metadata['error'], 'there is no command "rm" here; known: greet, hang, flood');
    });
    await t.test('a bad argument is refused and nothing runs', async () => {
      for (const who of ['ann; id', '$(id)', '-n', '']) {
        const { metadata } = await run({ command: 'greet', arguments: { who } });
        assert.equal(metadata['error-code'], 'bad-arguments', who);
        assert.match(metadata['error'] ?? '', /the argument "who" of "greet"/);
      }
    });
    await t.test('a command that takes too long is ended', async () => {
      const { content } = await run({ command: 'hang' });
      assert.equal((content as Record<string, unknown>)['timed_out'], true);
      assert.equal((content as Record<string, unknown>)['exit_code'], null);
    });
    await t.test('output past the limit is cut, and said to be', async () => {
      const { content } = await run({ command: 'flood' });
      assert.equal((content as Record<string, unknown>)['truncated'], true);
      assert.equal(String((content as Record<string, unknown>)['stdout']).length, 1000);
    });
  });

  test('eight executables moved in at once all run, each exactly once', async () => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    const yggd = await bench.start();
    const names = Array.from({ length: 8 }, (_, n) => `w${n}-worker`);
    for (const name of names) await writeFile(home.path('draft', name), bookWorker(home, name), { mode: 0o755 });
    await Promise.all(names.map((name) => rename(home.path('draft', name), home.path('workers', name))));
    await bench.handling(names.map((name) => name.replace('-worker', '')));
    const asked = await Promise.all(names.map((name) => operator.send(name.replace('-worker', ''), '1')));
    await answered(operator, asked);
    // One more: by the time it answers, the directory was looked at again.
    await addBookWorker(bench, 'last-worker');
    await operator.answerTo(await operator.send('last', '1'));
    for (const name of names) {
      const { starts, overlaps, handled } = readBook(home, name);
      assert.equal(starts.length, 1, `${name} was started ${starts.length} times`);
      assert.equal(startedLines(yggd, name).length, 1);
      assert.deepEqual(overlaps, []);
      assert.equal(handled.length, 1);
    }
  });

  test('what was sent while a worker was away is answered in order when it is back, each message once', async (t) => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    await addBookWorker(bench, 'away-worker');
    const yggd = await bench.startWith(['away']);
    const assertOnce = async (ids: readonly string[]): Promise<void> => {
      await answered(operator, ids);
      assert.equal(assertAllAnswered(operator, ids), 0);
      assert.deepEqual(orderOfAnswers(operator, ids), ids);
      const handled = readBook(home, 'away-worker').handled.filter((id) => ids.includes(id));
      assert.deepEqual(handled, ids);
    };
    const send = async (): Promise<readonly string[]> => {
      const burst = sendBurst(operator, 'away', 20);
      await burst.acknowledged(20);
      // A pong comes behind them: the agent has taken what came before it.
      const ping = await operator.command('ping');
      await operator.until((heard) => heard.response_to === ping, 'a pong');
      return burst.ids;
    };
    const mend = (): Promise<void> => addBookWorker(bench, 'away-worker', { options: 'features: { mended: "yes" }' });

    await t.test('its executable was removed', async () => {
      await rm(home.path('workers/away-worker'));
      await operator.status(({ dispatchers }) => !('away' in dispatchers), 'a status without it');
      operator.forget();
      const ids = await send();
      await addBookWorker(bench, 'away-worker');
      await assertOnce(ids);
    });

    await t.test('it crashed at each start, until it was replaced', async () => {
      await home.addProgram('away-worker', '#!/bin/sh\nexit 9\n');
      await yggd.line('worker.died', (entry) => entry['worker'] === 'away-worker');
      const ids = await send();
      await mend();
      await assertOnce(ids);
    });

    await t.test('it was killed with nothing in hand', async () => {
      const pid = readBook(home, 'away-worker').starts.at(-1);
      assert.ok(pid !== undefined);
      yggd.forget();
      process.kill(pid, 'SIGKILL');
      // Else a message could reach the dying worker, and would have failed once: it then gives up its place.
      await yggd.line('worker.died', (entry) => entry['worker'] === 'away-worker');
      const ids = await send();
      await assertOnce(ids);
    });
    assert.deepEqual(readBook(home, 'away-worker').overlaps, []);
  });
});
