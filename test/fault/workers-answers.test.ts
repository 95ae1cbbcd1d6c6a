/** What workers answer and send: receipts, errors and too much, by workers of the original's kind. */
import assert from 'node:assert/strict';
import { makeBench } from '../support/bench.js';
import { readBook } from '../support/book-worker.js';
import { fault } from '../support/fault.js';
import { addLegacyWorker } from '../support/legacy-worker.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { answered, answersTo, sendBurst } from '../support/traffic.js';

const skip = mosquittoMissing;
const REPLY = `await worker.send({ messageId: 're-' + data.messageId, responseTo: data.messageId, directive: data.directive, content: data.content });`;
const UNAVAILABLE = 14;

fault('workers', 'each error a worker can answer, a cut in mid-call, and an early receipt', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await addLegacyWorker(home, 'moody-worker', {
    handler: 'moody',
    features: { concurrency: '32' },
    body: `const seen = (globalThis.seen ??= new Map());
      const times = seen.get(data.messageId) ?? 0;
      seen.set(data.messageId, times + 1);
      const code = Number(data.content);
      if (times === 0 && code > 0) throw new WorkerStatus(code, 'as asked');
      ${REPLY}`,
  });
  await addLegacyWorker(home, 'cutting-worker', {
    handler: 'cutting',
    body: `if (!globalThis.hasCut) {
        globalThis.hasCut = true;
        worker.die();
        setTimeout(() => worker.join('cutting'), 50);
        return new Promise(() => undefined);
      }
      ${REPLY}`,
  });
  await addLegacyWorker(home, 'early-worker', { handler: 'early', body: 'return;' });
  const yggd = await bench.startWith(['moody', 'cutting', 'early']);

  // OK and the sixteen errors of gRPC.
  const moody = sendBurst(operator, 'moody', 17);
  await answered(operator, moody.ids);
  const failed = yggd.log.filter(({ event }) => event === 'dispatcher.retry').map((entry) => entry['messageId']);
  const expected = moody.ids.filter((_, code) => code !== 0 && code !== UNAVAILABLE);
  assert.deepEqual(failed.toSorted(), expected, 'each error counts an attempt, UNAVAILABLE and a receipt do not');

  const cut = sendBurst(operator, 'cutting', 5);
  await answered(operator, cut.ids);
  assert.deepEqual([...answersTo(operator, cut.ids).keys()], cut.ids, 'in order, and none counts an attempt');
  assert.equal(yggd.log.filter(({ event }) => event === 'dispatcher.retry').length, failed.length);

  // The receipt came before any work: from then on it is the worker's own, whatever becomes of it.
  const early = await operator.send('early', '1');
  while (!readBook(home, 'early-worker').handled.includes(early))
    await operator.answerTo(await operator.send('moody', '0'));
  await operator.answerTo(await operator.send('moody', '0'));
  const started = await yggd.line('worker.started', (entry) => entry['worker'] === 'early-worker');
  const died = yggd.next('worker.died');
  const back = yggd.next('dispatcher.registered');
  process.kill(Number(started['pid']), 'SIGKILL');
  run.killed('worker');
  await died;
  await back;
  await operator.answerTo(await operator.send('moody', '0'));
  assert.equal(readBook(home, 'early-worker').handled.filter((id) => id === early).length, 1);
  run.count(moody.ids.length + cut.ids.length + 1, expected.length + 2);
});

fault('workers', 'a cut of the connection for ever over one message', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await addLegacyWorker(home, 'cutting-worker', {
    handler: 'cutting',
    features: { concurrency: '4' },
    body: `if (data.content.toString() === '"poison"') {
        worker.die();
        setTimeout(() => worker.join('cutting', { features: { concurrency: '4' } }), 20);
        return new Promise(() => undefined);
      }
      ${REPLY}`,
  });
  const yggd = await bench.startWith(['cutting'], ['--max-attempts=2']);
  const burst = sendBurst(operator, 'cutting', 20, (n) => (n === 1 ? '"poison"' : String(n)));
  await answered(operator, burst.ids);
  const [, poison = ''] = burst.ids;
  const failed = await operator.answerTo(poison);
  assert.match(failed.metadata?.['error'] ?? '', /cut the connection again and again .* \(attempt 2 of 2\)$/);
  const retries = yggd.log.filter(({ event }) => event === 'dispatcher.retry').map((entry) => entry['messageId']);
  assert.deepEqual(retries, [poison], 'no other counts an attempt');
  for (const [id, answers] of answersTo(operator, burst.ids)) {
    assert.equal(new Set(answers.map(({ message_id }) => message_id)).size, 1, id);
    assert.ok(id === poison || answers.every(({ metadata }) => metadata?.['status'] === undefined), id);
  }
  assert.ok(!yggd.log.some(({ event }) => event === 'worker.died'), 'its process lives on');
  const { handled } = readBook(home, 'cutting-worker');
  run.count(burst.ids.length, handled.length - burst.ids.length);
});

const MIB4 = 4 * 1024 * 1024;

fault('workers', '4 MiB + 1 byte, to a worker of the original and from one', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await addLegacyWorker(home, 'small-worker', {
    handler: 'small',
    // As many bytes as it is told, as a result that is larger than what it could take itself.
    body: `const size = data.content.length > 100 ? 10 : Number(data.content);
      await worker.send({ messageId: 're-' + data.messageId, responseTo: data.messageId, directive: data.directive, content: Buffer.from('"' + 'x'.repeat(size) + '"') });`,
  });
  await bench.startWith(['small']);
  // Around the content: tags, lengths, the id and the directive.
  const around = 2 + 36 + (2 + 5) + (1 + 4);
  const sized = (size: number): string => `"${'x'.repeat(size - around - 2)}"`;
  const fits = await operator.answerTo(await operator.send('small', sized(MIB4)));
  assert.equal(fits.metadata?.['status'], undefined, 'exactly the limit passes');
  const large = await operator.answerTo(await operator.send('small', sized(MIB4 + 1)));
  assert.equal(large.metadata?.['error-code'], 'too-large');
  assert.match(large.metadata['error'] ?? '', /4194305 bytes and the worker of small takes 4194304/);
  const result = await operator.answerTo(await operator.send('small', String(MIB4 + 1)));
  assert.equal(String(result.content).length, MIB4 + 1, 'a result may be larger');
  assert.equal(readBook(home, 'small-worker').handled.length, 2, 'what is too large never reached it');
  run.count(3);
});
