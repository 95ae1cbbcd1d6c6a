import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseWorkerName, type WorkerName } from '../../../src/message/index.js';
import { nextWake, plan } from '../../../src/process/plan.js';
import {
  STABLE_RUN,
  stateAfter,
  type Candidate,
  type LifeFacts,
  type WorkerState,
} from '../../../src/process/state.js';

const name = parseWorkerName('echo-worker') as WorkerName;
const candidate: Candidate = { name, path: '/x/echo-worker', identity: 'new' };
const wanted = new Map([[name, candidate]]);
const running: WorkerState = { kind: 'running', since: 0, identity: 'new', failures: 0, request: undefined, pid: 7 };
const backoff: WorkerState = { kind: 'backoff', identity: 'new', until: 50, failures: 3, detail: '' };
const starting: WorkerState = { ...running, kind: 'starting', registerBy: 40 };
const facts: LifeFacts = { identity: 'new', failures: 2, registeredAt: undefined, restart: 'always' };
const world = (state: WorkerState): Map<WorkerName, WorkerState> => new Map([[name, state]]);

test('a new executable is started, a running one left alone', () => {
  assert.deepEqual(plan(wanted, new Map(), 0), [{ kind: 'start', candidate, failures: 0 }]);
  assert.deepEqual(plan(wanted, world(running), 1e9), []);
});

test('a replaced executable is stopped first, and its failures are forgotten', () => {
  const [step] = plan(wanted, world({ ...running, identity: 'old' }), 0);
  assert.ok(step?.kind === 'stop' && step.request.cause === 'replaced');
  assert.deepEqual(plan(wanted, world({ ...backoff, identity: 'old' }), 0), [
    { kind: 'start', candidate, failures: 0 },
  ]);
  for (const kind of ['waiting', 'stopped'] as const) {
    assert.equal(plan(wanted, world({ kind, identity: 'old', detail: '' }), 0)[0]?.kind, 'start');
    assert.deepEqual(plan(wanted, world({ kind, identity: 'new', detail: '' }), 0), []);
  }
});

test('a removed executable is stopped when it runs, forgotten when not, and left alone while it stops', () => {
  assert.equal(plan(new Map(), world(running), 0)[0]?.kind, 'stop');
  assert.deepEqual(plan(new Map(), world(backoff), 0), [{ kind: 'forget', name }]);
  const stopping: WorkerState = { kind: 'stopping', identity: 'new', pid: 7, detail: '' };
  assert.deepEqual(plan(new Map(), world(stopping), 0), []);
  assert.deepEqual(plan(wanted, world(stopping), 0), []);
});

test('a back-off ends at its time, and a start at its time-out', () => {
  assert.deepEqual(plan(wanted, world(backoff), 49), []);
  assert.deepEqual(plan(wanted, world(backoff), 50), [{ kind: 'start', candidate, failures: 3 }]);
  assert.equal(nextWake(world(backoff)), 50);
  assert.deepEqual(plan(wanted, world(starting), 39), []);
  const [step] = plan(wanted, world(starting), 40);
  assert.ok(step?.kind === 'stop' && step.request.cause === 'not-registered');
  assert.equal(nextWake(world(starting)), 40);
  assert.equal(nextWake(world(running)), undefined);
});

test('a crash backs off with full jitter from 1 to 60 s, ever longer, and is never given up', () => {
  const died = { kind: 'died', reason: 'it ended' } as const;
  const until = (failures: number): number => {
    const state = stateAfter(died, { ...facts, failures }, 100, () => 1);
    assert.ok(state?.kind === 'backoff');
    assert.equal(state.failures, failures + 1);
    return state.until - 100;
  };
  assert.deepEqual([0, 1, 2, 5, 6, 100].map(until), [1000, 2000, 4000, 32_000, 60_000, 60_000]);
});

test('a stable run clears the failures, a short one does not', () => {
  const died = { kind: 'died', reason: '' } as const;
  const after = (registeredAt: number): unknown => {
    const state = stateAfter(died, { ...facts, registeredAt }, STABLE_RUN + 5, () => 1);
    return state?.kind === 'backoff' ? state.failures : undefined;
  };
  assert.equal(after(5), 1);
  assert.equal(after(6), 3);
});

test('what follows a life depends on how it ended', () => {
  const after = (end: Parameters<typeof stateAfter>[0], more: Partial<LifeFacts> = {}): string =>
    stateAfter(end, { ...facts, ...more }, 0, () => 0)?.kind ?? 'none';
  assert.equal(after({ kind: 'cancelled' }), 'none');
  assert.equal(after({ kind: 'invalid', problems: ['a', 'b'] }), 'waiting');
  assert.equal(after({ kind: 'failed', reason: '' }), 'backoff');
  assert.equal(after({ kind: 'died', reason: '' }, { restart: 'never' }), 'stopped');
  for (const cause of ['unwanted', 'replaced', 'restart', 'reconfigured'] as const) {
    assert.equal(after({ kind: 'stopped', cause, reason: '' }, { restart: 'never' }), 'none');
  }
  for (const cause of ['not-registered', 'unhealthy'] as const) {
    assert.equal(after({ kind: 'stopped', cause, reason: '' }), 'backoff');
  }
});
