/**
 * kill -9 at each labelled crash point, and at random moments under load: of the agent, of its workers, of the broker.
 * Messages of every kind are under way; each that was promised comes to its end, and each that was done twice has a kill
 * to explain it. The long form is the run of docs/guarantees.md: hundreds of kills, over 100,000 messages.
 */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { CRASH_POINTS, type CrashPoint } from '../../src/crash-point.js';
import { fault, isLong, type FaultRun } from '../support/fault.js';
import { QUIET_BROKER } from '../support/flow.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import { Storm } from '../support/storm.js';

/** An upgrade of the store has its own tests. */
const LABELS = CRASH_POINTS.filter((label) => label !== 'start.upgrading');
const WAVE = 25;

/** How often such a place is passed in one wave of messages, about: a later pass of it may be chosen by chance. */
function passes(label: CrashPoint): number {
  if (label.startsWith('start.') || label === 'command.recorded') return 1;
  if (label.startsWith('complete.')) return 4;
  if (label.startsWith('fetch.') || label.startsWith('post.') || label.startsWith('content.')) return 2;
  return 10;
}

describe('kill -9', { skip: mosquittoMissing, concurrency: 1 }, () => {
  fault('storage', 'kill -9 at each labelled crash point', {}, async (run) => {
    await using storm = await Storm.make({ random: run.random });
    for (const round of run.each(1, 4)) {
      for (const label of LABELS) {
        const pass = round === 1 ? 1 : between(run.random, 1, passes(label));
        // From the death of the one before until this one is ready, or dead itself.
        await storm.ledger.harm('agent', async () => {
          if (round === 1 && label === LABELS[0]) await storm.killAgent();
          await storm.start(`${label}:${pass}`);
        });
        for (let n = 0; n < WAVE; n++)
          storm.send((['small', 'streamed', 'large', 'fetched large', 'posted'] as const)[n % 5] ?? 'small');
        const ended = storm.yggd.ended.then(({ signal }) => signal);
        const command = storm.reconnect();
        const signal = await Promise.race([ended, storm.until(0).then(() => undefined)]);
        await command;
        if (signal === undefined) {
          assert.notEqual(pass, 1, `the agent did not die at ${label}`);
          await storm.killAgent();
        } else assert.equal(signal, 'SIGKILL', label);
        run.killed('agent');
      }
    }
    await storm.ledger.harm('agent', () => storm.start());
    await storm.until(0);
    sum(run, storm);
    assert.equal(await storm.yggd.stop(), 0);
  });

  // Workers that are killed again and again wait for their back-off most of the time: several storms run side by side.
  fault('storage', 'kill -9 of agent, workers and broker at random moments under load', {}, async (run) => {
    run.rounds = 1;
    await Promise.all((isLong ? [16, 1, 16, 1] : [16]).map((concurrency) => rage(run, concurrency)));
  });
});

/** One agent in a storm of kills, until each kind of harm was done often enough. */
async function rage(run: FaultRun, concurrency: number): Promise<void> {
  const { random } = run;
  await using storm = await Storm.make({ random, concurrency, broker: { config: QUIET_BROKER } });
  const crashPoint = (): string | undefined => {
    const label = LABELS[between(random, 1, LABELS.length * 2)];
    return label && `${label}:${between(random, 1, passes(label) * 20)}`;
  };
  const endKeeping = storm.keepAlive(crashPoint, () => run.killed('agent'));
  const harms = harmsOf(isLong ? 1 : 0.06);
  while (harms.length > 0) {
    const [harm] = harms.splice(between(random, 0, harms.length - 1), 1);
    for (let n = between(random, 60, 380); n > 0; n--) storm.sendAny();
    // A moment in the midst of it, or when nearly all is done.
    await storm.until(between(random, 0, 200));
    await (harm && HARM[harm](storm, run));
  }
  await storm.until(0);
  await endKeeping();
  sum(run, storm);
  await storm.yggd.stop();
}

/** Judges the ledger and counts. */
function sum(run: FaultRun, storm: Storm): void {
  const { messages, duplicated } = storm.judge();
  run.count(messages, duplicated.length);
}

type Harm = 'agent' | 'worker' | 'broker' | 'reconnect';

const HARM: { readonly [H in Harm]: (storm: Storm, run: FaultRun) => Promise<void> } = {
  // Counted by whoever starts the next one, as those that die at a crash point are.
  agent: (storm) => storm.killAgent(),
  worker: (storm, run) =>
    storm.ledger.harm('worker', () => {
      if (storm.killWorker()) run.killed('worker');
      return Promise.resolve();
    }),
  broker: (storm, run) =>
    storm.ledger.harm('broker', async () => {
      await storm.killBroker();
      run.killed('broker');
    }),
  reconnect: (storm) => storm.reconnect(),
};

/** The kills of one storm of the long form, or a part of them. */
function harmsOf(part: number): Harm[] {
  const of = (harm: Harm, count: number): Harm[] => Array.from({ length: Math.ceil(count * part) }, () => harm);
  return [...of('agent', 40), ...of('worker', 55), ...of('broker', 28), ...of('reconnect', 10)];
}
