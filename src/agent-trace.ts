/** Which signals tell the trace what, and what it tells of a message together with the journal. */
import type { Connection } from './connection/index.js';
import type { Datastore, PageStart } from './datastore/index.js';
import type { Dispatcher } from './dispatcher/index.js';
import type { LocalCalls } from './local/index.js';
import { messageKey, type DeadRecord, type LiveRecord, type MessageKey } from './message/index.js';
import type { DataProcessor } from './processor/index.js';
import type { MessageRouter } from './router/index.js';
import { STEP, type TakenStep, type Trace, type TracedMessage } from './trace/index.js';

export interface TraceSources {
  readonly trace: Trace;
  readonly store: Datastore;
  readonly connection: Connection;
  readonly router: MessageRouter;
  readonly processor: DataProcessor;
  readonly dispatcher: Dispatcher;
  readonly local: LocalCalls;
}

/** The steps that signals announce; the others are told by the store (traced-store.ts). */
export function connectTrace(sources: TraceSources, scope: AbortSignal): void {
  const { trace, store, connection, router, processor, dispatcher, local } = sources;
  router.dataRecv.connect((key) => trace.mark(key, STEP.journaled), scope);
  local.dataRecv.connect((key) => trace.mark(key, STEP.journaled), scope);
  processor.dataProcess.connect((key) => trace.mark(key, STEP.ready), scope);
  dispatcher.dataReturn.connect((key) => trace.mark(key, STEP.journaled), scope);
  dispatcher.dataDispatch.connect(({ key, outcome }) => {
    if (outcome.kind === 'delivered') trace.ended(key, 'delivered');
    else if (outcome.kind === 'retry') trace.mark(key, STEP.back);
  }, scope);

  store.processes.changed.connect((id) => {
    trace.note(() => {
      const { state = 'removed', pid, detail = '' } = store.processes.get(id) ?? {};
      return { kind: 'worker', name: state, worker: id, detail: detail || (pid === undefined ? '' : `pid ${pid}`) };
    });
  }, scope);
  dispatcher.workerRegister.connect(({ name, directive }) => {
    trace.note(() => ({ kind: 'worker', name: 'registered', worker: name, directive }));
  }, scope);
  dispatcher.workerUnregister.connect(({ name, directive }) => {
    trace.note(() => ({ kind: 'worker', name: 'unregistered', worker: name, directive }));
  }, scope);
  dispatcher.workerUnhealthy.connect(({ name, reason }) => {
    trace.note(() => ({ kind: 'worker', name: 'unhealthy', worker: name, detail: reason }));
  }, scope);
  connection.up.connect(({ broker, protocolVersion }) => {
    trace.note(() => ({ kind: 'connection', name: 'up', detail: `${broker}, MQTT ${protocolVersion}` }));
  }, scope);
  connection.down.connect(({ reason }) => {
    trace.note(() => ({ kind: 'connection', name: 'down', detail: reason }));
  }, scope);
  router.malformed.connect(({ messageId = '', directive = '', failure }) => {
    trace.note(() => ({ kind: 'message', name: 'refused', messageId, directive, detail: failure.text }));
  }, scope);
}

type Record = LiveRecord | DeadRecord;

/** A message as it is traced: what is remembered of it and what the journal holds, with the state it is in. */
export interface Found extends Omit<TracedMessage, 'key' | 'end'> {
  /** Undefined when nothing but its end is known. */
  readonly key: MessageKey | undefined;
  readonly state: string;
}

/** All that is known of a message by its id or key, and of its answers, in the order of arrival. */
export async function traceOf(id: string, { trace, store }: Pick<TraceSources, 'trace' | 'store'>): Promise<Found[]> {
  const key = /^[1-9]\d{0,15}$/.test(id) && Number.isSafeInteger(Number(id)) ? messageKey(Number(id)) : undefined;
  const ofKey = key === undefined ? undefined : trace.at(key);
  const records = new Map<MessageKey, Record>();
  const take = (record: Record | undefined): void => {
    if (record !== undefined) records.set(record.key, record);
  };
  if (key !== undefined) take(store.listing.find(key));
  // Whoever names an answer by its key wants the message that it answers too.
  const ids = new Set([id]);
  for (const each of [ofKey, key === undefined ? undefined : records.get(key)]) {
    if (each !== undefined) ids.add(responseToOf(each) || each.messageId);
  }
  ids.delete('');
  for await (const record of allRecords(store)) {
    if (ids.has(record.messageId) || ids.has(responseToOf(record))) take(record);
  }
  const remembered = new Map([...ids].flatMap((each) => trace.of(each)).map((each) => [each.key, each]));
  if (ofKey !== undefined && !remembered.has(ofKey.key)) remembered.set(ofKey.key, ofKey);
  const keys = [...new Set([...records.keys(), ...remembered.keys()])].sort((a, b) => a - b);
  const found = keys.map((each) => foundOf(each, remembered.get(each), records.get(each)));
  return found.some(({ kind }) => kind === 'inbound') ? found : [...endsOf(ids, store), ...found];
}

function foundOf(key: MessageKey, traced: TracedMessage | undefined, record: Record | undefined): Found {
  const kind =
    record === undefined ? (traced?.kind ?? 'inbound') : record.kind === 'dead' ? record.direction : record.kind;
  const steps = [...(traced?.steps ?? [])];
  const has = (name: string): boolean => steps.some((step) => step.name === name);
  if (record?.kind === 'dead') {
    const at = steps.findIndex(({ name }) => name === 'dead');
    const dead = { name: 'dead', at: steps[at]?.at ?? record.endedAt, detail: record.failure.text };
    if (at >= 0) steps[at] = dead;
    else steps.push(dead);
  } else if (record !== undefined) {
    const first = kind === 'inbound' ? 'received' : 'returned';
    if (!has(first)) steps.unshift({ name: first, at: record.arrivedAt, detail: 'as the journal has it' });
    if (record.dueAt > 0) steps.push({ name: 'due', at: record.dueAt, detail: 'it is tried again then' });
  }
  return {
    ...{ kind, key, steps },
    messageId: record?.messageId ?? traced?.messageId ?? '',
    responseTo: record === undefined ? (traced?.responseTo ?? '') : responseToOf(record),
    directive: record?.directive ?? traced?.directive ?? '',
    state: traced?.end ?? (record === undefined ? '' : record.kind === 'dead' ? 'dead' : record.state),
  };
}

/** Of a message that is gone the journal remembers how it ended, and when. */
function endsOf(ids: ReadonlySet<string>, store: Datastore): Found[] {
  return [...ids].flatMap((messageId) =>
    store.listing.endsOf(messageId).map(({ directive, end, at }) => {
      const step: TakenStep = { name: end, at, detail: 'as the journal has it' };
      const named = { messageId, responseTo: '', directive };
      return { kind: 'inbound' as const, key: undefined, ...named, state: end, steps: [step] };
    }),
  );
}

function responseToOf(message: Record | TracedMessage): string {
  if (message.kind !== 'dead') return message.responseTo;
  return 'responseTo' in message.origin ? message.origin.responseTo : '';
}

async function* allRecords(store: Datastore): AsyncGenerator<Record> {
  let start: PageStart | undefined;
  do {
    const { records, next } = store.listing.page(start);
    yield* records;
    start = next;
    // Between two pages the agent does its own work.
    await new Promise((resolve) => setImmediate(resolve));
  } while (start !== undefined);
}
