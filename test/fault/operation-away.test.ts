/**
 * CONTRACT section 4, group operation: the broker is away for ten minutes of simulated time while two workers produce
 * results all the time. The agent is a process of its own, so that it can be killed in between.
 */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { resultId, WORKERS, type Order, type Report } from '../support/away-main.js';
import { fault, isLong, type FaultRun } from '../support/fault.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { between } from '../support/seeded.js';
import { Signal } from '../../src/signal/index.js';
import { tempDir } from '../support/temp.js';
import { ROOT } from '../support/yggd.js';

const options = { skip: mosquittoMissing, timeout: 600_000 };
const MINUTES = 10;
/** Seconds between two results of a worker, and so how many there are. */
const PERIOD = isLong ? 1 : 5;
const RESULTS = (MINUTES * 60) / PERIOD;
const START = Date.parse('2026-01-01T00:00:00Z');

fault('operation', 'broker away for 10 minutes while results are produced', options, (run) => away(run, 0));

fault('operation', 'broker away for 10 minutes while results are produced, agent killed in between', options, (run) =>
  away(run, 1),
);

/** `kills`: how often the agent dies meanwhile (more often in the long form), at a moment taken by chance. */
async function away(run: FaultRun, kills: number): Promise<void> {
  for (const _ of run.each(1, 5)) {
    await using dir = await tempDir();
    await using broker = await startMosquitto({ persistence: 'at-stop' });
    await using operator = await Operator.connect(broker.url, 'library', {
      clientId: 'operator',
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 50,
    });
    await mkdir(join(dir.path, 'workers'));
    const receipts = new Set<string>();
    let agent = await Simulation.start(dir.path, broker.url, START);
    agent.reports.connect((report) => note(report, receipts), agent.scope);
    agent.order({ kind: 'run' });
    await operator.status(({ dispatchers }) => WORKERS.every((name) => name in dispatchers));
    await agent.kill();

    await broker.stop();
    let next = 0;
    for (let kill = 0; kill < kills * run.rounds + 1; kill++) {
      agent = await Simulation.start(dir.path, broker.url, START + (60 + next * PERIOD) * 1000);
      agent.reports.connect((report) => note(report, receipts), agent.scope);
      const isLast = kill === kills * run.rounds;
      agent.order({ kind: 'produce', from: next, to: RESULTS, period: PERIOD });
      if (isLast) await agent.report('produced');
      else {
        const until = between(run.random, next, next + Math.floor((RESULTS - next) / 2));
        await agent.reports.next(
          agent.patience(),
          (report) => report.kind === 'receipt' && numberOf(report.id) >= until,
        );
        await agent.kill();
        run.killed('agent');
        // What has no receipt is the worker's to repeat.
        next = Math.min(...WORKERS.map((name) => firstMissing(name, receipts)));
      }
    }
    assert.equal(receipts.size, WORKERS.length * RESULTS);
    run.test.diagnostic(`${agent.attempts} attempts to connect in the last life`);
    await broker.restart();
    agent.order({ kind: 'run' });

    const heard = new Map<string, number[]>(WORKERS.map((name) => [name, []]));
    const isLast = new Set<string>();
    await operator.until(({ directive = '', content }) => {
      if (content === RESULTS - 1) isLast.add(directive);
      return isLast.size === WORKERS.length;
    }, 'the last results');
    for (const { type, directive = '', content } of operator.heard) {
      if (type === 'data') heard.get(directive)?.push(Number(content));
    }
    const expected = Array.from({ length: RESULTS }, (_, n) => n);
    let duplicated = 0;
    for (const [worker, numbers] of heard) {
      assert.deepEqual([...new Set(numbers)], expected, `the results of ${worker}, each once and in order`);
      duplicated += numbers.length - RESULTS;
    }
    run.count(WORKERS.length * RESULTS, duplicated);
    await agent.kill();
  }
}

const numberOf = (id: string): number => Number(id.split('-')[1]);

function note(report: Report, receipts: Set<string>): void {
  if (report.kind === 'receipt') receipts.add(report.id);
}

function firstMissing(worker: string, receipts: ReadonlySet<string>): number {
  let number = 0;
  while (receipts.has(resultId(worker, number))) number += 1;
  return number;
}

/** The agent's process. */
class Simulation {
  readonly reports = new Signal<Report>('reports');
  attempts = 0;
  readonly #ended = new AbortController();

  private constructor(private readonly child: ChildProcess) {
    child.on('message', (report: Report) => {
      if (report.kind === 'failed') this.attempts = report.attempts;
      this.reports.emit(report);
    });
    child.once('exit', () => this.#ended.abort(new Error('the agent has ended')));
  }

  static async start(base: string, broker: string, wall: number): Promise<Simulation> {
    const main = join(ROOT, 'test/support/away-main.ts');
    const child = fork(main, [base, broker, String(wall)], { execArgv: ['--import', 'tsx'], cwd: ROOT });
    const orphanGuard = (): boolean => child.kill('SIGKILL');
    process.once('exit', orphanGuard);
    child.once('exit', () => process.removeListener('exit', orphanGuard));
    const simulation = new Simulation(child);
    await simulation.report('ready');
    return simulation;
  }

  /** Ends with the process. */
  get scope(): AbortSignal {
    return this.#ended.signal;
  }

  patience(): AbortSignal {
    return AbortSignal.any([this.scope, AbortSignal.timeout(120_000)]);
  }

  order(order: Order): void {
    this.child.send(order);
  }

  async report(kind: Report['kind']): Promise<void> {
    await this.reports.next(this.patience(), (report) => report.kind === kind);
  }

  async kill(): Promise<void> {
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}
