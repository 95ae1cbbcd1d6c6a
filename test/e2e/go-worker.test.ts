/** Workers in Go, built here: one as the original's generation has them, and the one of docs/writing-a-worker.md. */
import assert from 'node:assert/strict';
import { copyFile, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { buildGoWorker, goMissing } from '../support/go.js';
import { mosquittoMissing, startMosquitto, type Mosquitto } from '../support/mosquitto.js';
import { contentOf, Operator, type Heard } from '../support/operator.js';
import { tempDir, type TempDir } from '../support/temp.js';
import { Home, ROOT, Yggd } from '../support/yggd.js';

const CONTENT = '{ "b":12345678901234567890, "a": 1.0, "é": "\\u00e9<&>" }';

async function documented(): Promise<string> {
  const text = await readFile(join(ROOT, 'docs/writing-a-worker.md'), 'utf8');
  return /```go\n(package main\n.*?)```/s.exec(text)?.[1] ?? '';
}

const original = (): Promise<string> => readFile(join(ROOT, 'test/support/original-worker.go'), 'utf8');

suite('workers in Go', { skip: goMissing || mosquittoMissing, timeout: 300_000 }, () => {
  let directory: TempDir;
  let broker: Mosquitto;
  before(async () => {
    directory = await tempDir();
    broker = await startMosquitto();
  });
  after(async () => {
    await broker[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  const sources = { 'the original’s generation': original, 'our documentation': documented };
  for (const [index, [whose, source]] of Object.entries(sources).entries()) {
    test(`a Go worker of ${whose} registers, echoes byte for byte and survives restarts`, async () => {
      const clientId = `go-${index}`;
      const program = await buildGoWorker(join(directory.path, clientId), await source());
      await using home = await Home.make();
      await copyFile(program, home.path('draft/go-echo-worker'));
      await rename(home.path('draft/go-echo-worker'), home.path('workers/go-echo-worker'));
      await using operator = await Operator.connect(broker.url, clientId);
      const options = { home, args: [`--broker=${broker.url}`, `--client-id=${clientId}`] };
      const isThere = (): Promise<unknown> =>
        operator.status((status) => 'go_echo' in status.dispatchers, 'the Go worker among the dispatchers');
      const echo = async (): Promise<void> => {
        const answer = await operator.answerTo(await operator.send('go-echo', CONTENT, { metadata: { a: 'ä' } }));
        assert.equal(contentOf(answer), CONTENT);
        assert.deepEqual(answer.metadata, { a: 'ä' });
        assert.equal(answer.directive, 'go-echo');
      };
      {
        await using yggd = await Yggd.start(options);
        await isThere();
        await echo();

        const ids = await Promise.all(Array.from({ length: 1000 }, (_, n) => operator.send('go_echo', String(n))));
        // They come in this order: each is given its time, whatever the machine's pace.
        const answers: Heard[] = [];
        for (const id of ids) answers.push(await operator.answerTo(id));
        assert.deepEqual(
          answers.map(({ content }) => content),
          ids.map((_, n) => n),
        );

        const tooLarge = await operator.answerTo(await operator.send('go_echo', `"${'x'.repeat(5 * 1024 * 1024)}"`));
        assert.equal(tooLarge.metadata?.['error-code'], 'too-large');
        await echo();

        // The file of its socket stays behind, and is no hindrance to the next one.
        const { pid } = await yggd.line('worker.started');
        operator.forget();
        process.kill(Number(pid), 'SIGKILL');
        await echo();
        assert.equal(await yggd.stop(), 0);
      }
      operator.forget();
      {
        await using yggd = await Yggd.start(options);
        await isThere();
        await echo();
        await yggd.kill();
      }
      operator.forget();
      await using yggd = await Yggd.start(options);
      await echo();
      assert.equal(await yggd.stop(), 0);
    });
  }
});
