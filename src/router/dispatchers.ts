/**
 * The dispatchers map of a connection-status, made from the workers that are registered. Pure.
 */
import type { Dispatchers } from '../message/index.js';
import type { WorkerSummary } from './ports.js';

export interface DispatcherMap {
  readonly dispatchers: Dispatchers;
  /** The same for the same handlers and features, whatever order they came in. */
  readonly text: string;
}

/**
 * directive → features of every handler in the store; `{}` when there is none. One whose process has just crashed is
 * among them until its time to come back is over: a crash loop does not flood the broker (CONTRACT section 2).
 */
export function dispatchersOf(workers: Iterable<WorkerSummary>): DispatcherMap {
  const entries: [string, Readonly<Record<string, string>>][] = [];
  for (const { handlers } of workers) {
    for (const { directive, features } of handlers) entries.push([directive, sorted(features)]);
  }
  entries.sort(byName);
  const dispatchers = Object.fromEntries(entries);
  return { dispatchers, text: JSON.stringify(dispatchers) };
}

function sorted(features: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(features).sort(byName));
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}
