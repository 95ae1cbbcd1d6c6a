/** A datastore of a test's own: the real one, over a journal in memory (or on disk where the test asks). */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import {
  Datastore,
  LmdbJournal,
  MemoryJournal,
  type Acceptance,
  type DatastoreOptions,
} from '../../src/datastore/index.js';
import { silentLog } from '../../src/log/log.js';
import type { DirectiveKey, MessageKey } from '../../src/message/index.js';
import { systemClock } from '../../src/time.js';
import { settle } from './clock.js';
import { inbound } from './messages.js';
import { tempDir } from './temp.js';

export interface TestStore extends AsyncDisposable {
  readonly store: Datastore;
  readonly stateDir: string;
}

export type StoreSettings = Partial<Omit<DatastoreOptions, 'stateDir'>> & {
  readonly stateDir?: string;
  readonly isOnDisk?: boolean;
  /** The test calls `resume` itself, once it listens. */
  readonly isHeld?: boolean;
};

/** `await using test = await openTestStore()`; with `stateDir` the directory is the caller's to remove. */
export async function openTestStore(settings: StoreSettings = {}): Promise<TestStore> {
  const { stateDir: given, isOnDisk = false, isHeld = false, ...options } = settings;
  const dir = given === undefined ? await tempDir() : undefined;
  const stateDir = given ?? dir?.path ?? '';
  const store = new Datastore({
    stateDir,
    journal: isOnDisk ? new LmdbJournal(join(stateDir, 'journal')) : new MemoryJournal(),
    clock: systemClock,
    log: silentLog,
    spool: { limit: 2 ** 30, reserve: 0 },
    dead: { bytes: 2 ** 28, age: 30 * 24 * 3600_000 },
    dedupe: { age: 7 * 24 * 3600_000, count: 250_000 },
    lifetimes: { message: 24 * 3600_000, unknownDirective: 60_000, result: 7 * 24 * 3600_000 },
    ...options,
  });
  await store.open();
  if (!isHeld) store.resume();
  return {
    store,
    stateDir,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await dir?.[Symbol.asyncDispose]();
    },
  };
}

/** The key of a message that was accepted, once it is durable. */
export async function take(store: Datastore, acceptance: Acceptance): Promise<MessageKey> {
  assert.equal(acceptance.kind, 'accepted');
  await acceptance.durable;
  return acceptance.key;
}

/** Accepts messages and makes them ready. */
export async function ready(store: Datastore, ...ids: string[]): Promise<MessageKey[]> {
  const keys: MessageKey[] = [];
  for (const id of ids) {
    const key = await take(store, store.accept(inbound(id)));
    store.markReady(key);
    keys.push(key);
  }
  return keys;
}

/**
 * Delivers `count` messages of a directive, reading on as room comes, and gives their ids in that order. `look` is called
 * before each.
 */
export async function deliverAll(
  store: Datastore,
  directive: DirectiveKey,
  count: number,
  look: () => void = () => undefined,
): Promise<string[]> {
  const seen: string[] = [];
  while (seen.length < count) {
    look();
    const next = store.nextReady(directive);
    if (next === undefined) {
      await settle();
      continue;
    }
    seen.push(next.messageId);
    store.markDispatching(next.key);
    await store.delivered(next.key);
  }
  return seen;
}
