/** What an operator may do with workers, in terms of the agent's parts. */
import type { Answer, WorkerDesk } from './admin/index.js';
import type { Datastore } from './datastore/index.js';
import type { Dispatcher } from './dispatcher/index.js';
import { parseWorkerName, quoted, type WorkerName } from './message/index.js';
import type { ProcessManager, ProcessSettings } from './process/index.js';

type Processes = Pick<ProcessManager<ProcessSettings>, 'restart' | 'hold' | 'release' | 'isHeld' | 'output'>;

export interface WorkerParts {
  readonly store: Pick<Datastore, 'processes'>;
  readonly dispatcher: Pick<Dispatcher, 'release' | 'traffic'>;
  readonly processes: Processes;
}

export function workerDesk({ store, dispatcher, processes }: WorkerParts): WorkerDesk {
  const stateOf = (name: WorkerName): string | undefined => store.processes.get(name)?.state;
  return {
    restart: (word) => {
      const name = parseWorkerName(word);
      if (name !== undefined && processes.isHeld(name)) {
        return refused(`${name} was stopped by hand: \`ygg workers start ${name}\` starts it`);
      }
      return name !== undefined && processes.restart(name) ? { kind: 'done', value: undefined } : unknown(word);
    },
    stop: async (word) => {
      const name = parseWorkerName(word);
      const held = name === undefined ? undefined : await processes.hold(name);
      if (held === undefined) return unknown(word);
      return { kind: 'done', value: { wasStopped: held.wasHeld, problem: held.problem ?? '' } };
    },
    start: async (word) => {
      const name = parseWorkerName(word);
      if (name === undefined) return unknown(word);
      const wasRunning = ['starting', 'running'].includes(stateOf(name) ?? '');
      const released = await processes.release(name);
      if (released === undefined) return unknown(word);
      const entry = store.processes.get(name);
      if (entry === undefined) return refused(`${name} is not held any more, but there is no such executable`);
      if (entry.state === 'refused') return refused(`${name} cannot be started: ${entry.detail ?? 'it is refused'}`);
      return { kind: 'done', value: { wasRunning, problem: released.problem ?? '' } };
    },
    release: async (handler) => {
      const release = await dispatcher.release(handler);
      if (release.kind !== 'released') return release;
      return { kind: 'done', value: { worker: release.worker, wasRegistered: release.wasRegistered } };
    },
    output: (word) => {
      const name = parseWorkerName(word);
      return name === undefined ? undefined : processes.output(name);
    },
  };
}

function unknown<T>(word: string): Answer<T> {
  return { kind: 'unknown', reason: `there is no worker ${quoted(word)}` };
}

function refused<T>(reason: string): Answer<T> {
  return { kind: 'refused', reason };
}
