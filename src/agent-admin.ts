/** What the operator's service is told and may do, in terms of the agent's parts. */
import type { AdminDesk, ConfigDesk, LogDesk } from './admin/index.js';
import { workerDesk, type WorkerParts } from './agent-workers.js';
import type { AgentStatus, Facts, Link, Worker } from '../protocol/generated/admin.js';
import type { Connection } from './connection/index.js';
import type { Datastore, PageStart, ProcessEntry, Replay, WorkerEntry } from './datastore/index.js';
import type { CanonicalFacts } from './message/index.js';
import type { MessageRouter } from './router/index.js';
import { messageDesk, type MessageParts } from './agent-messages.js';

export interface AdminParts extends WorkerParts, MessageParts {
  readonly version: string;
  readonly clientId: string;
  readonly pid: number;
  readonly startedAt: number;
  readonly spoolLimit: number;
  readonly store: Datastore;
  readonly connection: Connection;
  readonly router: MessageRouter;
  readonly identity: { facts(): Promise<CanonicalFacts>; tags(): Readonly<Record<string, string>> };
  readonly host: AgentHost | undefined;
}

/** What the program around the agent lets its operator see and do. */
export interface AgentHost {
  readonly log: LogDesk;
  readonly config: ConfigDesk;
}

export function adminDesk(parts: AdminParts): AdminDesk<PageStart> {
  const { store, router, host } = parts;
  return {
    status: () => statusOf(parts),
    workers: workerDesk(parts),
    log: host?.log,
    config: host?.config,
    facts: () => factsOf(parts),
    ...messageDesk(parts),
    page: (start) => store.listing.page(start),
    find: (key) => store.listing.find(key),
    content: ({ content }) => store.readContent(content),
    replay: async (key) => answerOf(await store.replay(key)),
    cancel: async (key) => {
      const message = store.listing.find(key);
      if (message === undefined) return { kind: 'unknown', reason: `there is no message ${key}` };
      if (message.kind !== 'inbound') {
        const what = message.kind === 'dead' ? 'it was given up already' : 'it is a result, which no worker waits for';
        return { kind: 'refused', reason: `the message ${key} cannot be cancelled: ${what}` };
      }
      const { kind } = await router.cancel(message.directiveKey, message.messageId);
      return kind === 'already-ended'
        ? { kind: 'unknown', reason: `the message ${key} has ended meanwhile` }
        : { kind: 'done', value: { isAsked: kind === 'in-flight' } };
    },
    setLink: (isUp) => (isUp ? router.linkUp() : router.linkDown()),
  };
}

function answerOf(replay: Replay): Awaited<ReturnType<AdminDesk['replay']>> {
  switch (replay.kind) {
    case 'replayed':
      return { kind: 'done', value: replay.key };
    case 'unknown':
      return { kind: 'unknown', reason: 'no dead message has that key' };
    case 'not-replayable':
      return { kind: 'refused', reason: replay.reason };
    case 'pending':
      return { kind: 'refused', reason: 'the same message came again and is on its way' };
    case 'superseded':
      return { kind: 'refused', reason: `the same message came again and ended: ${replay.end}` };
    case 'full':
      return { kind: 'refused', reason: 'the spool has no room for it now' };
  }
}

async function factsOf({ identity, store }: AdminParts): Promise<Facts> {
  const dispatchers = store.workers
    .all()
    .flatMap(({ id, handlers }) => handlers.map(({ directive, features }) => ({ directive, worker: id, features })));
  return {
    canonicalFacts: JSON.stringify(await identity.facts()),
    tags: identity.tags(),
    dispatchers: dispatchers.sort((a, b) => (a.directive < b.directive ? -1 : 1)),
  };
}

function statusOf({ store, router, connection, dispatcher, ...told }: AdminParts): AgentStatus {
  const { version, clientId, pid, startedAt, spoolLimit } = told;
  const { accepted, duplicates, refused } = router.counts;
  const registered = new Map(store.workers.all().map((entry) => [entry.id, entry]));
  return {
    ...{ version, clientId, pid, startedAt: BigInt(startedAt) },
    link: linkOf(connection.state),
    queues: {
      pending: BigInt(store.listing.pending),
      dead: BigInt(store.listing.dead),
      spoolBytes: BigInt(store.spoolBytes),
      spoolLimit: BigInt(spoolLimit),
      accepted: BigInt(accepted),
      duplicates: BigInt(duplicates),
      refused: BigInt(refused),
    },
    workers: store.processes
      .all()
      .map((entry) => workerOf(entry, registered.get(entry.id), dispatcher.traffic(entry.id)))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

function linkOf(state: Connection['state']): Link {
  const none = { state: state.kind, broker: '', protocol: '', reason: '', session: undefined };
  switch (state.kind) {
    case 'up': {
      const { broker, protocolVersion, sessionPresent, sessionExpiry, receiveMaximum } = state.session;
      const expiry = sessionExpiry === undefined ? undefined : BigInt(sessionExpiry);
      const session = { isResumed: sessionPresent, expiry, receiveMaximum };
      return { ...none, broker, protocol: `MQTT ${protocolVersion}`, session };
    }
    case 'connecting':
      return { ...none, broker: state.broker };
    case 'waiting':
      return { ...none, reason: state.down.reason };
    case 'down':
      return { ...none, reason: 'told to stay down; `ygg link up` brings it back' };
    case 'idle':
    case 'stopped':
      return none;
  }
}

function workerOf(
  entry: ProcessEntry,
  registered: WorkerEntry | undefined,
  { delivered, perMinute }: ReturnType<WorkerParts['dispatcher']['traffic']>,
): Worker {
  const isRegistered = registered?.state === 'registered';
  return {
    name: entry.id,
    state: entry.state,
    pid: entry.pid ?? 0,
    startedAt: BigInt(Math.round(entry.startedAt ?? 0)),
    restarts: entry.restarts,
    detail: entry.detail ?? '',
    directives: [...new Set(isRegistered ? registered.handlers.map(({ directive }) => directive) : [])].sort(),
    isRegistered,
    delivered: BigInt(delivered),
    perMinute,
  };
}
