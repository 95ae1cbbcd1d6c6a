/** The report of a run: where it was measured, one table of the loads beside their limits, one of the rest. Pure. */
import type { Machine } from './machine.js';
import type { Round } from './round.js';
import { limitOf, type Row, type ThroughputRow } from './rows.js';
import type { ResultRow, Results } from './results.js';
import { median } from './statistics.js';
import { figure, megabytes, table } from './table.js';

const HEAD = [
  'row',
  'msg/s',
  'lowest–highest',
  'of echo',
  'of gRPC',
  'p50 ms',
  'p95',
  'p99',
  'agent µs',
  'worker',
  'broker',
  'driver',
  'idle MB',
  'peak MB',
];

/** The whole report, in the order of `rows`. */
export function reportOf({ machine, rows: results }: Results, rows: readonly Row[]): string {
  const found = new Map(results.map((result) => [result.name, result]));
  const loads = rows.flatMap((row) => {
    const result = found.get(row.name);
    return row.kind === 'throughput' && result?.kind === 'throughput' ? [cellsOf(row, result, found)] : [];
  });
  const others = rows.flatMap((row) => {
    const result = found.get(row.name);
    if (row.kind !== 'scenario' || result?.kind !== 'scenario') return [];
    return result.median.map(({ name, unit, value }) => [`${row.name}: ${name}`, figure(value), unit]);
  });
  const parts = [aboutMachine(machine), aboutWeather(results)];
  if (loads.length > 0) parts.push(table(HEAD, loads), NOTES);
  if (others.length > 0) parts.push(table(['row', 'value', 'unit'], others));
  return `${parts.join('\n\n')}\n`;
}

const NOTES = `A row is SUBJECT/PAYLOAD/IN FLIGHT. limit-echo: one mqtt client that publishes what it gets; limit-grpc: MQTT, one call to a
worker, one call back, MQTT, no journal. unary, stream: the agent with one worker that takes 128 at once; c1: one at a time; 8w, 64w: that many
workers. "of echo", "of gRPC": msg/s as a share of that limit's with the same payload and as many in flight. µs: processor time of each process for
a message. For a limit, "agent" is the program that stands in the agent's place.`;

function cellsOf(
  row: ThroughputRow,
  result: ResultRow & { kind: 'throughput' },
  found: ReadonlyMap<string, ResultRow>,
): string[] {
  const { throughput, latency, cpu, idleRss, peakRss } = result.median;
  const all = result.rounds.map((round) => round.throughput);
  const share = (limit: 'limit-echo' | 'limit-grpc'): string => {
    const its = found.get(limitOf(row, limit));
    if (row.subjectName === limit || its?.kind !== 'throughput') return '–';
    return `${figure((100 * throughput) / its.median.throughput)} %`;
  };
  return [
    row.name,
    figure(throughput),
    `${figure(Math.min(...all))}–${figure(Math.max(...all))}`,
    share('limit-echo'),
    share('limit-grpc'),
    ...[latency.p50, latency.p95, latency.p99].map(figure),
    ...costs(cpu),
    megabytes(idleRss),
    megabytes(peakRss),
  ];
}

function costs({ agent, worker, broker, driver }: Round['cpu']): string[] {
  return [agent, worker, broker, driver].map(figure);
}

function aboutMachine({ cpu, cores, memoryGb, kernel, node, mosquitto, yggdrasil, syncMs }: Machine): string {
  return `yggdrasil ${yggdrasil}, Node ${node}, mosquitto ${mosquitto}; ${cpu}, ${cores} cores, ${memoryGb} GB, Linux ${kernel}; fdatasync ${figure(syncMs)} ms.`;
}

/** A fixed piece of work before each row tells how steady the processor was. */
function aboutWeather(rows: readonly ResultRow[]): string {
  const weather = rows.flatMap((row) => row.weather);
  const work = weather.map(({ workMs }) => workMs);
  const loads = weather.map(({ load }) => load);
  const steady = `A fixed piece of work took ${figure(median(work))} ms of processor time (${figure(Math.min(...work))} to ${figure(Math.max(...work))})`;
  return `${steady}; the load of the machine was ${figure(Math.min(...loads))} to ${figure(Math.max(...loads))}. Medians of ${roundsOf(rows)}.`;
}

function roundsOf(rows: readonly ResultRow[]): string {
  const counts = rows.map(({ rounds }) => rounds.length);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? `${most} ${most === 1 ? 'round' : 'rounds'}` : `${least} to ${most} rounds`;
}
