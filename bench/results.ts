/** What is kept of a run: medians of the rounds beside the rounds themselves, in one file a day. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../test/support/yggd.js';
import type { Machine, Weather } from './machine.js';
import type { Round } from './round.js';
import type { Measured } from './run.js';
import type { Measure } from './scenarios/index.js';
import { median } from './statistics.js';

interface Kept {
  readonly name: string;
  /** When it was measured, and of which version. */
  readonly at: string;
  readonly yggdrasil: string;
  readonly weather: readonly Weather[];
}

/** A row with the medians of its rounds. */
export type ResultRow = Kept &
  (
    | { readonly kind: 'throughput'; readonly median: Round; readonly rounds: readonly Round[] }
    | {
        readonly kind: 'scenario';
        readonly median: readonly Measure[];
        readonly rounds: readonly (readonly Measure[])[];
      }
  );

export interface Results {
  readonly machine: Machine;
  readonly rows: readonly ResultRow[];
}

/** The medians of what was measured. Pure. */
export function resultsOf(measured: readonly Measured[], machine: Machine, at: string): Results {
  const { yggdrasil } = machine;
  const rows = measured.map((each): ResultRow => {
    const kept: Kept = { name: each.row.name, at, yggdrasil, weather: each.weather };
    return each.kind === 'throughput'
      ? { ...kept, kind: 'throughput', median: medianRound(each.rounds), rounds: each.rounds }
      : { ...kept, kind: 'scenario', median: medianMeasures(each.rounds), rounds: each.rounds };
  });
  return { machine, rows };
}

/** Field by field. */
export function medianRound(rounds: readonly Round[]): Round {
  const of = (field: (round: Round) => number): number => median(rounds.map(field));
  return {
    throughput: of((round) => round.throughput),
    messages: of((round) => round.messages),
    latency: {
      p50: of(({ latency }) => latency.p50),
      p95: of(({ latency }) => latency.p95),
      p99: of(({ latency }) => latency.p99),
    },
    cpu: {
      agent: of(({ cpu }) => cpu.agent),
      worker: of(({ cpu }) => cpu.worker),
      broker: of(({ cpu }) => cpu.broker),
      driver: of(({ cpu }) => cpu.driver),
    },
    idleRss: of((round) => round.idleRss),
    peakRss: of((round) => round.peakRss),
  };
}

function medianMeasures(rounds: readonly (readonly Measure[])[]): Measure[] {
  return (rounds[0] ?? []).map(({ name, unit }, index) => {
    return { name, unit, value: median(rounds.map((round) => round[index]?.value ?? Number.NaN)) };
  });
}

/** The rows of `newer` in place of those of the same name. Pure. */
export function merge(older: Results | undefined, newer: Results): Results {
  const names = new Set(newer.rows.map(({ name }) => name));
  return {
    machine: newer.machine,
    rows: [...(older?.rows ?? []).filter(({ name }) => !names.has(name)), ...newer.rows],
  };
}

const DIRECTORY = join(ROOT, 'bench/results');

/** Writes bench/results/DAY.json and .md, together with what was measured before on that day; their common path. */
export async function keepResults(
  day: string,
  results: Results,
  report: (results: Results) => string,
): Promise<string> {
  const path = join(DIRECTORY, day);
  const older = await readFile(`${path}.json`, 'utf8').catch(() => undefined);
  const all = merge(older === undefined ? undefined : (JSON.parse(older) as Results), results);
  await mkdir(DIRECTORY, { recursive: true });
  await writeFile(`${path}.json`, `${JSON.stringify(all, rounded, 1)}\n`);
  await writeFile(`${path}.md`, report(all));
  return path;
}

/** Four digits are more than a repetition would show. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(5)) : value;
}
