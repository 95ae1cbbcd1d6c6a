/** Workers that end as soon as they are started, in every way: tried again and again, and no trouble to the others. */
import assert from 'node:assert/strict';
import { makeBench } from '../support/bench.js';
import { bookWorker } from '../support/book-worker.js';
import { fault } from '../support/fault.js';
import { addLegacyWorker } from '../support/legacy-worker.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { describeSpans, roundTrips } from '../support/traffic.js';
import type { LogEntry } from '../support/yggd.js';

/** How each ends before it registers, and what the log says of it. */
const ENDS = {
  'error-worker': { before: 'process.exit(3);', reason: 'exit code 3' },
  'content-worker': { before: 'process.exit(0);', reason: 'exit code 0' },
  'signal-worker': { before: "process.kill(process.pid, 'SIGKILL');", reason: 'SIGKILL' },
};

/** The last one registers first. */
const LATE = { name: 'late-worker', reason: 'exit code 4' };

fault('workers', 'crash loop: at once, before and after registering', { skip: mosquittoMissing }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);
  const before = await roundTrips(operator, 'echo', 50);

  await home.addProgram('shell-worker', '#!/bin/sh\nexit 1\n');
  for (const [name, { before: end }] of Object.entries(ENDS))
    await home.addProgram(name, bookWorker(home, name, { before: end }));
  await addLegacyWorker(home, LATE.name, { handler: 'late', body: '', after: 'process.exit(4);' });
  await bench.handling(['late']);
  const statuses = (): number => operator.everything.filter(({ type }) => type === 'connection-status').length;
  const told = statuses();

  const during: number[] = [];
  const reasons = { 'shell-worker': 'exit code 1', [LATE.name]: LATE.reason };
  for (const [name, { reason }] of Object.entries(ENDS)) Object.assign(reasons, { [name]: reason });
  const deaths = new Map<string, LogEntry[]>(Object.keys(reasons).map((name) => [name, []]));
  for (const round of run.each(3, 6)) {
    during.push(...(await roundTrips(operator, 'echo', 10)));
    for (const [name, seen] of deaths) {
      const isNew = (entry: LogEntry): boolean => entry['worker'] === name && !seen.includes(entry);
      const death = await yggd.line('worker.died', isNew);
      run.killed('worker');
      seen.push(death);
      assert.match(String(death.text), new RegExp(`${reasons[name as keyof typeof reasons]};`));
      assert.ok(delayOf(death) <= 2 ** (round - 1), `${name}, death ${round}: ${String(death.text)}`);
    }
  }
  for (const name of deaths.keys()) {
    const starts = yggd.log.filter((entry) => entry.event === 'worker.started' && entry['worker'] === name);
    assert.ok(starts.length >= run.rounds, `${name} is never given up`);
  }
  // The handler goes 5 s after a death, and comes back with the next start: a short pause shows nothing.
  const long = (deaths.get(LATE.name) ?? []).filter((death) => delayOf(death) > 1).length;
  assert.ok(statuses() - told <= 2 * long, `${statuses() - told} statuses for ${long} long pauses`);
  run.test.diagnostic(`echo before: ${describeSpans(before)}`);
  run.test.diagnostic(`echo beside five crash loops: ${describeSpans(during)}`);
  run.test.diagnostic(`statuses while the loops went on: ${statuses() - told}`);
  run.count(before.length + during.length);
});

/** Seconds until the next start, as the log says. */
function delayOf(death: LogEntry): number {
  return Number(/again in ([\d.]+) s$/.exec(String(death.text))?.[1]);
}
