/** A real dispatcher over a real store with messages in it, for tests of stream workers. */
import assert from 'node:assert/strict';
import { metadataFrom } from '../../src/message/codec.js';
import { parseDirective, type MessageKey } from '../../src/message/ids.js';
import type { Datastore } from '../../src/datastore/index.js';
import { Harness, type HarnessOptions } from '../unit/dispatcher/harness.js';
import { openTestStore, type StoreSettings } from './store.js';

export interface NewMessages {
  readonly directive?: string;
  readonly priority?: number;
  readonly content?: (id: string) => Buffer;
}

export interface Scene extends AsyncDisposable {
  readonly harness: Harness<Datastore>;
  readonly store: Datastore;
  readonly stateDir: string;
  /** Puts messages in as router and processor do, and wakes their queue. */
  deliver(ids: readonly string[], options?: NewMessages): Promise<MessageKey[]>;
}

/** `await using scene = await openScene()`. */
export async function openScene(settings: StoreSettings & Pick<HarnessOptions, 'limits'> = {}): Promise<Scene> {
  const { limits, ...storeSettings } = settings;
  const opened = await openTestStore(storeSettings);
  const { store } = opened;
  const { clock } = settings;
  const harness = await Harness.over(store, { ...(clock && { clock }), ...(limits && { limits }) });
  store.fed.connect((key) => {
    store.markReady(key);
    harness.dispatcher.enqueue(key);
  }, harness.scope.signal);
  return {
    harness,
    store,
    stateDir: opened.stateDir,
    deliver: async (
      ids,
      { directive = 'echo', priority = 5, content = (id: string) => Buffer.from(`"${id}"`) } = {},
    ) => {
      const accepted = ids.map((messageId) =>
        store.accept({
          messageId,
          responseTo: '',
          directive: parseDirective(directive)!,
          metadata: metadataFrom([]),
          priority,
          arrivedAt: clock?.now() ?? Date.now(),
          expiresAt: undefined,
          replyTopic: undefined,
          content: content(messageId),
        }),
      );
      const keys: MessageKey[] = [];
      for (const acceptance of accepted) {
        assert.ok(acceptance.kind === 'accepted');
        await acceptance.durable;
        keys.push(acceptance.key);
      }
      for (const key of keys) store.markReady(key);
      for (const key of keys) harness.dispatcher.enqueue(key);
      return keys;
    },
    [Symbol.asyncDispose]: async () => {
      await harness[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** `m0`, `m1`, … */
export const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `m${i}`);
