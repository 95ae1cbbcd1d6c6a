/** What an operator may do with messages of this machine, in terms of the agent's parts. */
import type { LocalHeard, MessageDesk } from './admin/index.js';
import type { TracedMessage } from '../protocol/generated/admin.js';
import { traceOf, type Found } from './agent-trace.js';
import type { Datastore } from './datastore/index.js';
import type { LocalCalls } from './local/index.js';
import type { Content } from './message/index.js';
import type { Trace } from './trace/index.js';

export interface MessageParts {
  readonly store: Datastore;
  readonly local: LocalCalls;
  readonly trace: Trace;
}

/** Bytes of a content that are handed out at once. */
const CHUNK = 256 * 1024;

export function messageDesk({ store, local, trace }: MessageParts): MessageDesk {
  return {
    dispatch: (message) => local.dispatch(message),
    answers: (messageId, isWaiting, scope) => (isWaiting ? local.hear(messageId, scope) : present(store, messageId)),
    acknowledge: (key) => local.collected(key),
    chunks: (content) => chunksOf(store, content),
    trace: async (id) => (await traceOf(id, { store, trace })).map(traceView),
    watch: (isNotable, scope) => trace.watch(isNotable, scope),
  };
}

// eslint-disable-next-line @typescript-eslint/require-await -- the other way to answer waits
async function* present(store: Datastore, messageId: string): AsyncGenerator<LocalHeard> {
  for (const record of store.listing.answers) {
    if (record.responseTo === messageId) yield { kind: 'answer', record };
  }
}

async function* chunksOf(store: Datastore, content: Content): AsyncGenerator<Buffer> {
  if (content.kind === 'inline') {
    if (content.bytes.length > 0) yield content.bytes;
    return;
  }
  const reader = await store.openContent(content);
  try {
    for (;;) {
      const { bytes, isLast } = await reader.next(CHUNK);
      yield bytes;
      if (isLast) return;
    }
  } finally {
    await reader.close();
  }
}

function traceView({ key, kind, messageId, responseTo, directive, state, steps }: Found): TracedMessage {
  const named = { messageId, responseTo, directive, state };
  return { key: BigInt(key ?? 0), direction: kind, ...named, steps: steps.map((step) => ({ ...step })) };
}
