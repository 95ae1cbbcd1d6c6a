/** A worker that sends as fast as it can: what was accepted comes once, the rest is refused aloud, the others go on. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { makeBench } from '../support/bench.js';
import { readBook } from '../support/book-worker.js';
import { fault, isLong } from '../support/fault.js';
import { addLegacyWorker } from '../support/legacy-worker.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { describeSpans, roundTrips } from '../support/traffic.js';

const RESOURCE_EXHAUSTED = '8';

/** Streams the worker keeps open: as many as the agent lets it have. */
const STREAMS = 128;

/** It calls again when the agent says that its journal is slow, as PROTOCOL.md asks, and tells each 100th call. */
const FLOOD = `const { count, size, prefix, gate } = JSON.parse(String(data.content));
  if (gate !== undefined) {
    console.log('waiting');
    while (!existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  let next = 0, done = 0, accepted = 0;
  const refused = {};
  const content = Buffer.from('"' + 'x'.repeat(size) + '"');
  const stream = async () => {
    for (let n = next++; n < count; n = next++) {
      const messageId = prefix + n;
      for (;;) {
        try {
          await worker.send({ messageId, responseTo: data.messageId, directive: 'flood', content });
          note('returned', messageId);
          accepted += 1;
        } catch (error) {
          if (error.code === 14) continue;
          refused[error.code] = (refused[error.code] ?? 0) + 1;
        }
        break;
      }
      if (++done % 100 === 0) console.log('at ' + done);
    }
  };
  await Promise.all(Array.from({ length: ${STREAMS} }, stream));
  console.log('flooded ' + JSON.stringify({ accepted, refused }));`;

interface Flooded {
  readonly accepted: number;
  readonly refused: Readonly<Record<string, number>>;
}

fault('workers', 'flood of Send: all that was accepted comes once', { skip: mosquittoMissing }, async (run) => {
  await using bench = await makeBench({ persistence: 'at-stop' });
  const { home, operator } = bench;
  const gate = home.path('gate');
  await home.addWorker('echo-worker');
  await addLegacyWorker(home, 'flood-worker', { handler: 'flood', body: FLOOD });
  const yggd = await bench.startWith(['echo', 'flood'], ['--spool-limit=2MiB']);
  const flood = (request: object): Promise<string> => operator.send('flood', JSON.stringify(request));
  /** One line after the other, so that only a stall is waited for in vain, whatever the machine's pace. */
  const flooded = async (count: number): Promise<Flooded> => {
    for (let n = 100; n <= count; n += 100) await yggd.line('worker.output', ({ text }) => text === `at ${n}`);
    const line = await yggd.line('worker.output', ({ text }) => text?.startsWith('flooded ') === true);
    yggd.forget();
    return JSON.parse(String(line.text).slice('flooded '.length)) as Flooded;
  };
  const all = (prefix: string): string[] =>
    readBook(home, 'flood-worker').lines.flatMap(({ word, id }) =>
      word === 'returned' && id.startsWith(prefix) ? [id] : [],
    );
  const heard = (prefix: string): string[] =>
    operator.everything.flatMap(({ message_id: id = '' }) => (id.startsWith(prefix) ? [id] : []));
  const toCome = async (ids: readonly string[]): Promise<void> => {
    for (const id of ids) await operator.until(({ message_id }) => message_id === id, `the accepted result ${id}`);
  };

  await roundTrips(operator, 'echo', 10);
  const before = await roundTrips(operator, 'echo', 50);
  const count = isLong ? 10_000 : 2_000;
  await flood({ count, size: 10, prefix: 'first-' });
  const during = await roundTrips(operator, 'echo', 10);
  const first = await flooded(count);
  run.test.diagnostic(`echo before: ${describeSpans(before)}`);
  run.test.diagnostic(`echo beside a flood of ${count}: ${describeSpans(during)}`);
  assert.equal(first.accepted + (first.refused[RESOURCE_EXHAUSTED] ?? 0), count, 'accepted, or refused aloud');
  const accepted = all('first-');
  await toCome(accepted);

  const again = Math.min(500, count);
  await flood({ count: again, size: 10, prefix: 'first-' });
  const second = await flooded(again);
  assert.equal(second.accepted + (second.refused[RESOURCE_EXHAUSTED] ?? 0), again);
  await roundTrips(operator, 'echo', 1);
  await toCome(all('first-'));
  assert.deepEqual(
    heard('first-').toSorted(),
    [...new Set(all('first-'))].toSorted(),
    'each once, also where it was sent twice',
  );

  // The broker is away, and the spool smaller than what comes.
  const many = 800;
  await flood({ count: many, size: 4000, prefix: 'full-', gate });
  await yggd.line('worker.output', ({ text }) => text === 'waiting');
  await bench.broker.stop();
  await writeFile(gate, '');
  const full = await flooded(many);
  assert.equal(full.accepted + (full.refused[RESOURCE_EXHAUSTED] ?? 0), many);
  assert.ok(full.accepted > 0 && full.accepted < many, `${full.accepted} of 3.2 MB fit into 2 MiB`);
  run.test.diagnostic(`a full spool took ${full.accepted} of ${many} and refused the others`);
  await bench.broker.restart();
  await toCome(all('full-'));
  // One that was on its way when the broker went may come twice.
  assert.deepEqual([...new Set(heard('full-'))].toSorted(), all('full-').toSorted(), 'what was refused was not sent');
  run.count(new Set([...all('first-'), ...all('full-')]).size, heard('full-').length - new Set(heard('full-')).size);
});
