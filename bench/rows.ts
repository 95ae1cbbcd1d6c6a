/** The rows of the table: what is measured, by name, and how a choice of them is read. Pure. */

/** The agent and its workers, or what stands in its place. */
export type SubjectSpec =
  | {
      readonly kind: 'agent';
      readonly transport: Transport;
      readonly workers: number;
      /** Messages that one worker handles at once. */
      readonly concurrency: number;
    }
  | { readonly kind: 'limit-echo' | 'limit-grpc' };

export type Transport = 'unary' | 'stream';

/** A closed loop of one payload and so many in flight. */
export interface ThroughputRow {
  readonly kind: 'throughput';
  readonly name: string;
  /** Rows of one subject are measured on the same processes. */
  readonly subjectName: string;
  readonly subject: SubjectSpec;
  readonly inFlight: number;
  readonly payload: number;
}

export type ScenarioName =
  'start' | 'backlog' | 'idle' | 'detached-unary' | 'detached-stream' | 'priority-unary' | 'priority-stream' | 'burst';

/** Anything else; scenarios.ts says what it does. */
export interface ScenarioRow {
  readonly kind: 'scenario';
  readonly name: ScenarioName;
  readonly transport: Transport;
  readonly about: string;
}

export type Row = ThroughputRow | ScenarioRow;

const SIZES = [
  ['100B', 100],
  ['10KB', 10_000],
  ['1MiB', 1_048_576],
] as const;
const IN_FLIGHT = [1, 16, 128, 1_000] as const;
/** What the worker of the benchmark says it handles at once; one that says nothing gets one at a time. */
const CONCURRENCY = 128;

/** All rows, those of one subject together. `quick` leaves out what takes long. */
export function allRows(quick: boolean): Row[] {
  return [...throughputRows().filter(({ payload, inFlight }) => !quick || isCheap(payload, inFlight)), ...SCENARIOS];
}

function isCheap(payload: number, inFlight: number): boolean {
  return payload * inFlight <= 2_000_000;
}

function throughputRows(): ThroughputRow[] {
  const agent = (transport: Transport, workers: number, concurrency = CONCURRENCY): SubjectSpec => {
    return { kind: 'agent', transport, workers, concurrency };
  };
  return [
    // What unary calls are held against is 64 in flight.
    ...matrix('limit-echo', { kind: 'limit-echo' }, 64),
    ...matrix('limit-grpc', { kind: 'limit-grpc' }, 64),
    ...matrix('unary', agent('unary', 1), 64),
    ...matrix('stream', agent('stream', 1)),
    // A worker that says nothing about its concurrency.
    ...matrix('unary-c1', agent('unary', 1, 1)).filter(({ payload }) => payload === 100),
    ...matrix('stream-c1', agent('stream', 1, 1)).filter(({ payload }) => payload === 100),
    ...([8, 64] as const).flatMap((workers) => [
      ...matrix(`unary-${workers}w`, agent('unary', workers)).filter(isForMany),
      ...matrix(`stream-${workers}w`, agent('stream', workers)).filter(isForMany),
    ]),
  ];
}

/** `extra`: one more window, of the smallest messages. */
function matrix(subjectName: string, subject: SubjectSpec, extra?: number): ThroughputRow[] {
  return SIZES.flatMap(([size, payload]) => {
    const windows = extra === undefined || payload !== SIZES[0][1] ? IN_FLIGHT : [...IN_FLIGHT, extra];
    return windows.map((inFlight): ThroughputRow => {
      return {
        kind: 'throughput',
        name: `${subjectName}/${size}/${inFlight}`,
        subjectName,
        subject,
        inFlight,
        payload,
      };
    });
  });
}

/** Of many workers: all windows of small messages, and one of each other size. */
function isForMany({ payload, inFlight }: ThroughputRow): boolean {
  return payload === 100 || (payload === 10_000 && inFlight === 128) || (payload > 10_000 && inFlight === 16);
}

const SCENARIOS: readonly ScenarioRow[] = [
  scenario('start', 'unary', 'from the start of the process to its online status and to the first worker'),
  scenario('backlog', 'unary', 'take in, start with, work beside and drain messages that wait for a worker'),
  scenario('idle', 'unary', 'what an idle agent with one worker takes'),
  scenario('detached-unary', 'unary', '256 MiB of detached content in one call to the worker'),
  scenario('detached-stream', 'stream', '256 MiB of detached content as a stream to the worker'),
  scenario('priority-unary', 'unary', 'small messages of a higher priority beside 1 MiB ones to the same worker'),
  scenario('priority-stream', 'stream', 'small messages of a higher priority beside 1 MiB ones to the same worker'),
  scenario('burst', 'unary', 'memory after 1 GB of 1 MiB messages'),
];

function scenario(name: ScenarioName, transport: Transport, about: string): ScenarioRow {
  return { kind: 'scenario', name, transport, about };
}

export type Choice =
  { readonly kind: 'rows'; readonly rows: readonly Row[] } | { readonly kind: 'unknown'; readonly name: string };

/** The rows whose name, or the beginning of it up to a `/` or its end, is one of these; all where none is given. */
export function chooseRows(rows: readonly Row[], names: readonly string[]): Choice {
  const isMeant = (row: Row, name: string): boolean => row.name === name || row.name.startsWith(`${name}/`);
  const unknown = names.find((name) => !rows.some((row) => isMeant(row, name)));
  if (unknown !== undefined) return { kind: 'unknown', name: unknown };
  if (names.length === 0) return { kind: 'rows', rows };
  return { kind: 'rows', rows: rows.filter((row) => names.some((name) => isMeant(row, name))) };
}

/** The row of a limit with the same payload and as many in flight. */
export function limitOf({ name, subjectName }: ThroughputRow, limit: 'limit-echo' | 'limit-grpc'): string {
  return `${limit}${name.slice(subjectName.length)}`;
}
