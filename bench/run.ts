/**
 * Runs the chosen rows: round after round over all of them, so that a bad minute of the machine does not fall on one row
 * alone, and the rows of one subject on the same processes. A row that fails is told and does not keep the others back.
 */
import type { Flags } from './flags.js';
import { observeWeather, type Weather } from './machine.js';
import { measureRound, type Round } from './round.js';
import type { Row, ScenarioRow, SubjectSpec, ThroughputRow } from './rows.js';
import { measureScenario, type Measure } from './scenarios/index.js';
import { echoWorkers, type Ground, startAgent, startLimit, type Subject } from './subject.js';
import { figure } from './table.js';

/** What was measured of a row, round by round. */
export type Measured =
  | {
      readonly kind: 'throughput';
      readonly row: ThroughputRow;
      readonly rounds: readonly Round[];
      readonly weather: readonly Weather[];
    }
  | {
      readonly kind: 'scenario';
      readonly row: ScenarioRow;
      readonly rounds: readonly (readonly Measure[])[];
      readonly weather: readonly Weather[];
    };

export interface Outcome {
  readonly measured: readonly Measured[];
  /** The scope ended before all was done. */
  readonly isInterrupted: boolean;
  /** Rows in which messages were lost or a process died. */
  readonly failed: readonly { readonly name: string; readonly problem: string }[];
}

/** Scenarios that take so long that one round has to do. */
const ONCE: ReadonlySet<string> = new Set(['backlog', 'idle', 'burst', 'detached-unary', 'detached-stream']);

/** Bytes of a payload that is warmed up by messages; a larger one is by time alone. */
const LARGEST_SMALL = 16 * 1024;
/** Messages that warm up each worker of many. */
const EACH_OF_MANY = 6_000;

/** Runs the rows; `tell` hears of each as it is done. When the scope ends, what was measured until then is the outcome. */
export async function runRows(
  rows: readonly Row[],
  ground: Ground,
  flags: Flags,
  tell: (line: string) => void,
): Promise<Outcome> {
  const run = new Run(ground, flags, tell);
  try {
    for (let round = 1; round <= flags.rounds; round++) {
      const todo = rows.filter((row) => round === 1 || !ONCE.has(row.name));
      for (const group of bySubject(todo)) await run.group(group, `round ${round}/${flags.rounds}`);
    }
  } catch (error) {
    if (!ground.scope.aborted) throw error;
  }
  return {
    ...run.outcome,
    isInterrupted: ground.scope.aborted,
  };
}

class Run {
  readonly #rounds = new Map<Row, { round: Round | readonly Measure[]; weather: Weather }[]>();
  readonly #failed: { name: string; problem: string }[] = [];

  constructor(
    private readonly ground: Ground,
    private readonly flags: Flags,
    private readonly tell: (line: string) => void,
  ) {}

  get outcome(): Pick<Outcome, 'measured' | 'failed'> {
    const measured = [...this.#rounds].map(([row, rounds]) => {
      const weather = rounds.map((each) => each.weather);
      return { kind: row.kind, row, rounds: rounds.map(({ round }) => round), weather } as Measured;
    });
    return { measured, failed: this.#failed };
  }

  async group(rows: readonly Row[], label: string): Promise<void> {
    const left = [...rows];
    while (left.length > 0) {
      const [first] = left;
      if (first?.kind === 'scenario') {
        left.shift();
        await this.#attempt(first, label, () =>
          measureScenario(first.name, { ground: this.ground, flags: this.flags }),
        );
      } else if (first !== undefined) await this.#throughput(first.subject, left, label);
    }
  }

  /** Takes rows from the front of `left`, until one fails: the processes may be no good after that. */
  async #throughput(spec: SubjectSpec, left: Row[], label: string): Promise<void> {
    let subject: Subject | undefined;
    const warmed = new Set<number>();
    try {
      for (let row = left[0]; row?.kind === 'throughput'; row = left[0]) {
        left.shift();
        const isDone = await this.#attempt(row, label, async () => {
          subject ??= await startSubject(this.ground, spec);
          if (!warmed.has(row.payload)) await this.#warm(subject, row.payload);
          warmed.add(row.payload);
          return await measureRound(subject, this.#loadOf(row, subject), this.ground.scope);
        });
        if (!isDone) return;
      }
    } finally {
      await subject?.[Symbol.asyncDispose]();
    }
  }

  /** False when it failed. Rejects when all is to end. */
  async #attempt(row: Row, label: string, measure: () => Promise<Round | readonly Measure[]>): Promise<boolean> {
    try {
      const weather = observeWeather();
      const round = await measure();
      const rounds = this.#rounds.get(row) ?? [];
      rounds.push({ round, weather });
      this.#rounds.set(row, rounds);
      const result = 'throughput' in round ? `${figure(round.throughput)} msg/s` : 'done';
      this.tell(`${label} ${row.name}: ${result}`);
      return true;
    } catch (error) {
      if (this.ground.scope.aborted) throw error;
      const problem = error instanceof Error ? error.message : String(error);
      this.#failed.push({ name: row.name, problem });
      this.tell(`${label} ${row.name}: FAILED: ${problem}`);
      return false;
    }
  }

  /**
   * V8 goes on to compile for long: after 3,000 messages a third of the time was its compiler's, and of 64 workers each
   * took 528 µs for a message after 1,000 and 210 µs after 6,000 (docs/performance.md). Other sizes go other ways.
   */
  async #warm(subject: Subject, payload: number): Promise<void> {
    if (this.flags.quick) return;
    const { driver, directives, workers } = subject;
    const isLarge = payload > LARGEST_SMALL;
    const messages = Math.max(3_000, workers.length > 1 ? EACH_OF_MANY * workers.length : 0);
    const warmUp = { seconds: 10, messages: isLarge ? 0 : messages };
    const measured = { seconds: 0, messages: 1 };
    const inFlight = isLarge ? 16 : Math.max(128, 16 * workers.length);
    await driver.run({ inFlight, payload, directives, warmUp, measured }, this.ground.scope);
  }

  #loadOf({ inFlight, payload }: ThroughputRow, { directives }: Subject): Parameters<typeof measureRound>[1] {
    const { quick, seconds, messages } = this.flags;
    return {
      inFlight,
      payload,
      directives,
      // At least each place of the window was used once.
      warmUp: { seconds: quick ? 0 : 0.5, messages: quick ? 1 : inFlight },
      measured: { seconds, messages },
    };
  }
}

function startSubject(ground: Ground, spec: SubjectSpec): Promise<Subject> {
  if (spec.kind !== 'agent') return startLimit(ground, spec.kind);
  return startAgent(ground, { workers: echoWorkers(spec.workers, spec.transport, spec.concurrency) });
}

/** Runs of rows with one subject; a scenario stands alone. */
function bySubject(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const name = row.kind === 'throughput' ? row.subjectName : row.name;
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  return [...groups.values()];
}
