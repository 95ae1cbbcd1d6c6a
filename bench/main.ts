/** `npm run bench`: starts broker, agent and workers, measures, prints one table. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { QUIET_BROKER } from '../test/support/flow.js';
import { startMosquitto } from '../test/support/mosquitto.js';
import { buildPrograms } from './programs.js';
import { measureRound, type Round } from './round.js';
import { startAgent, startLimit } from './subject.js';
import { figure, megabytes, table } from './table.js';

const { values } = parseArgs({
  options: {
    profile: { type: 'string' },
    seconds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const directory = await mkdtemp(join(tmpdir(), 'bench-'));
process.env['TMPDIR'] = directory;
const scope = new AbortController();
process.once('SIGINT', () => scope.abort(new Error('SIGINT')));
process.once('SIGTERM', () => scope.abort(new Error('SIGTERM')));
const seconds = Number(values.seconds);
const rows: [string, Round][] = [];
try {
  await buildPrograms(directory);
  await using broker = await startMosquitto({ config: QUIET_BROKER });
  const ground = { broker, programs: directory, profile: values.profile, scope: scope.signal };
  for (const kind of ['limit-echo', 'limit-grpc', 'unary-c1', 'unary-c128'] as const) {
    if (values.only !== '' && !values.only.split(',').includes(kind)) continue;
    await using subject =
      kind === 'limit-echo' || kind === 'limit-grpc'
        ? await startLimit(ground, kind)
        : await startAgent(ground, { transport: 'unary', workers: 1, concurrency: kind === 'unary-c1' ? 1 : 128 });
    for (const inFlight of [1, 16, 128, 1000]) {
      const load = {
        inFlight,
        payload: 100,
        directives: subject.directives,
        warmUp: { seconds: 1, messages: inFlight },
        measured: { seconds, messages: 1 },
      };
      rows.push([`${kind}/100B/${inFlight}`, await measureRound(subject, load, scope.signal)]);
    }
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
const head = ['row', 'msg/s', 'p50 ms', 'p95', 'p99', 'agent µs', 'worker', 'broker', 'driver', 'idle MB', 'peak MB'];
const cells = rows.map(([name, { throughput, latency, cpu, idleRss, peakRss }]) => [
  name,
  figure(throughput),
  ...[latency.p50, latency.p95, latency.p99, cpu.agent, cpu.worker, cpu.broker, cpu.driver].map(figure),
  megabytes(idleRss),
  megabytes(peakRss),
]);
console.log(table(head, cells));
