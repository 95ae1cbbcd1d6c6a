import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { WorkerName } from '../../src/message/index.js';
import { parseWorkerName } from '../../src/message/index.js';
import { LineSplitter, MAX_LINE } from '../../src/process/output.js';
import { nextWake, plan, type Step } from '../../src/process/plan.js';
import type { Candidate, StopRequest, WorkerState } from '../../src/process/state.js';

const NAMES = ['a-worker', 'b-worker', 'c-worker'].flatMap((text) => parseWorkerName(text) ?? []);
const identity = fc.constantFrom('1', '2', '3');
const instant = fc.integer({ min: 0, max: 1000 });
const request = fc.option(fc.constant<StopRequest>({ cause: 'unhealthy', detail: 'it hangs' }), { nil: undefined });

const state: fc.Arbitrary<WorkerState> = fc.oneof(
  fc.record({
    kind: fc.constant('starting' as const),
    since: instant,
    identity,
    failures: fc.nat(9),
    request,
    pid: fc.option(fc.nat(), { nil: undefined }),
    registerBy: fc.option(instant, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant('running' as const),
    since: instant,
    identity,
    failures: fc.nat(9),
    request,
    pid: fc.nat(),
  }),
  fc.record({ kind: fc.constant('stopping' as const), identity, pid: fc.constant(1), detail: fc.constant('') }),
  fc.record({
    kind: fc.constant('backoff' as const),
    identity,
    until: instant,
    failures: fc.nat(9),
    detail: fc.constant(''),
  }),
  fc.record({ kind: fc.constant('waiting' as const), identity, detail: fc.constant('') }),
  fc.record({ kind: fc.constant('stopped' as const), identity, detail: fc.constant('') }),
);

const observed = fc
  .array(fc.tuple(fc.constantFrom(...NAMES), state), { maxLength: 5 })
  .map((entries) => new Map<WorkerName, WorkerState>(entries));
const hold = fc.constantFrom(undefined, undefined, 'by hand', 'by another hand');
const desired = fc.array(fc.tuple(fc.constantFrom(...NAMES), identity, hold), { maxLength: 5 }).map(
  (entries) =>
    new Map<WorkerName, Candidate>(
      entries.map(([name, id, why]) => {
        const candidate = { name, path: `/${name}`, identity: id };
        return [name, why === undefined ? candidate : { ...candidate, hold: why }];
      }),
    ),
);
const nameOf = (step: Step): WorkerName => ('candidate' in step ? step.candidate.name : step.name);

/** The world after a step, when all goes well: a model of the executor. */
function apply(
  world: ReadonlyMap<WorkerName, WorkerState>,
  steps: readonly Step[],
  now: number,
): Map<WorkerName, WorkerState> {
  const next = new Map(world);
  // What was stopping has stopped by now.
  for (const [name, { kind }] of world) if (kind === 'stopping') next.delete(name);
  for (const step of steps) {
    if (step.kind === 'forget') next.delete(step.name);
    else if (step.kind === 'stop') next.set(step.name, { kind: 'stopping', identity: '', pid: 1, detail: '' });
    else if (step.kind === 'hold') {
      const { name, identity: id } = step.candidate;
      next.set(name, { kind: 'stopped', identity: id, detail: step.detail });
    } else {
      const { identity: id, name } = step.candidate;
      next.set(name, {
        kind: 'running',
        since: now,
        identity: id,
        failures: step.failures,
        request: undefined,
        pid: 1,
      });
    }
  }
  return next;
}

test('the plan reaches what is desired in a few rounds, and then has no more steps', () => {
  fc.assert(
    fc.property(desired, observed, (want, world) => {
      // Late enough for every back-off and start-timeout.
      const now = 2000;
      let at: Map<WorkerName, WorkerState> = world;
      for (let round = 0; round < 4; round++) at = apply(at, plan(want, at, now), now);
      assert.deepEqual(plan(want, at, now), []);
      assert.deepEqual([...at.keys()].sort(), [...want.keys()].sort());
      for (const [name, candidate] of want) {
        const state = at.get(name);
        assert.equal(state?.identity, candidate.identity);
        // Only what waits for a person does not run.
        if (candidate.hold === undefined) assert.ok(state.kind === 'running' || world.get(name)?.kind === state.kind);
        else assert.deepEqual(state, { kind: 'stopped', identity: candidate.identity, detail: candidate.hold });
      }
    }),
  );
});

test('the plan is the same each time, has one step for each worker at most, and never two processes of one worker', () => {
  fc.assert(
    fc.property(desired, observed, instant, (want, world, now) => {
      const steps = plan(want, world, now);
      assert.deepEqual(plan(want, world, now), steps);
      const names = steps.map(nameOf);
      assert.equal(new Set(names).size, names.length);
      for (const step of steps) {
        const name = nameOf(step);
        const kind = world.get(name)?.kind;
        const isAlive = kind === 'starting' || kind === 'running' || kind === 'stopping';
        const isHeld = want.get(name)?.hold !== undefined;
        if (step.kind === 'start') assert.ok(!isAlive && want.has(name) && !isHeld);
        if (step.kind === 'hold') assert.ok(!isAlive && isHeld);
        if (step.kind === 'stop') assert.ok(isAlive && kind !== 'stopping');
        if (step.kind === 'forget') assert.ok(!isAlive && !want.has(name));
      }
    }),
  );
});

test('before the next wake-up time alone changes nothing', () => {
  fc.assert(
    fc.property(desired, observed, instant, (want, world, now) => {
      const wake = nextWake(new Map([...world].filter(([name]) => want.has(name))));
      const later = wake === undefined ? now + 10_000 : wake - 1;
      if (later <= now) return;
      assert.deepEqual(plan(want, world, later), plan(want, world, now));
    }),
  );
});

test('lines are the same however the bytes are cut into chunks, and never longer than the limit', () => {
  const bytes = fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.uint8Array({ maxLength: 30 }) },
      { weight: 1, arbitrary: fc.constant(new Uint8Array(MAX_LINE + 5).fill(0x61)) },
      { weight: 3, arbitrary: fc.constant(Uint8Array.of(0x0a)) },
    ),
    { maxLength: 12 },
  );
  const linesOf = (chunks: readonly Uint8Array[]): string[] => {
    const lines: string[] = [];
    const splitter = new LineSplitter((line) => lines.push(line));
    for (const chunk of chunks) splitter.write(Buffer.from(chunk));
    splitter.end();
    return lines;
  };
  fc.assert(
    fc.property(bytes, (chunks) => {
      const whole = linesOf([Buffer.concat(chunks)]);
      assert.deepEqual(linesOf(chunks), whole);
      assert.ok(whole.every((line) => line.length <= MAX_LINE + ' … [cut]'.length && !line.includes('\u001b')));
    }),
    { numRuns: 60 },
  );
});
