/** A processor with a real datastore, wired as agent.ts wires them, and a worker that may be registered. */
import { setMaxListeners } from 'node:events';
import { directiveKey, parseDirective, parseWorkerName, readAttributes } from '../../src/message/index.js';
import type { Directive, MessageKey, Metadata, OutboundRecord, WorkerName } from '../../src/message/index.js';
import { createUrlPolicy, DataProcessor, type DataProcessorOptions } from '../../src/processor/index.js';
import type { UrlSettings } from '../../src/processor/index.js';
import { Signal } from '../../src/signal/index.js';
import { systemClock, type Clock } from '../../src/time.js';
import type { Datastore } from '../../src/datastore/index.js';
import { recordingLog, type RecordingLog } from '../support/log.js';
import { openTestStore } from '../support/store.js';

export const ECHO = directiveOf('echo');
export const WORKER = workerOf('echo-worker');

export function directiveOf(text: string): Directive {
  const directive = parseDirective(text);
  if (directive === undefined) throw new Error(`${text} is no directive`);
  return directive;
}

export function workerOf(text: string): WorkerName {
  const name = parseWorkerName(text);
  if (name === undefined) throw new Error(`${text} is no worker`);
  return name;
}

export interface Setup extends AsyncDisposable {
  readonly store: Datastore;
  readonly stateDir: string;
  readonly processor: DataProcessor;
  readonly log: RecordingLog;
  /** Keys that were announced, in order; and a signal for each. */
  readonly processed: MessageKey[];
  readonly consumed: MessageKey[];
  /** A result was posted or died: its key is no longer live. */
  readonly ended: Signal<MessageKey>;
  register(directive: Directive, detachedContent: boolean): Promise<void>;
  /** A message from the broker, durable and announced. */
  send(message: { directive?: Directive; content: unknown; metadata?: Metadata; id?: string }): Promise<MessageKey>;
  /** A result of the worker, durable and announced. */
  reply(reply: { to: string; content: Buffer; metadata?: Metadata; id?: string; worker?: string }): Promise<MessageKey>;
  /** Resolves once this key was announced for its worker. */
  ready(key: MessageKey): Promise<void>;
  /** The error answer to a message, once it is there. */
  answerTo(messageId: string): Promise<OutboundRecord>;
  body(key: MessageKey): Promise<Buffer>;
}

export type SetupOptions = Partial<Omit<DataProcessorOptions, 'store' | 'policy' | 'log' | 'clock'>> & {
  readonly urls?: UrlSettings;
  /** Methods of the store that behave otherwise in this test. */
  readonly change?: (store: Datastore) => Partial<DataProcessorOptions['store']>;
  readonly clock?: Clock;
};

/** `await using setup = await startProcessor({ urls: { contentHosts: [server.origin] } })`. Retries come at once. */
export async function startProcessor(options: SetupOptions = {}): Promise<Setup> {
  const { urls = {}, clock = systemClock, change = () => ({}), ...rest } = options;
  const log = recordingLog();
  const opened = await openTestStore({ clock });
  const { store } = opened;
  const ended = new Signal<MessageKey>('ended');
  const processor = new DataProcessor({
    store: { ...announcing(store, ended), ...change(store) },
    policy: createUrlPolicy(urls),
    version: '1.2.3',
    random: () => 0,
    ...rest,
    clock,
    log,
  });
  const scope = new AbortController();
  setMaxListeners(0, scope.signal);
  store.fed.connect((key) => processor.accept(key), scope.signal);
  store.lapsed.connect((key) => processor.lapse(key), scope.signal);
  store.laneDue.connect((lane) => processor.laneDue(lane), scope.signal);
  const processed: MessageKey[] = [];
  const consumed: MessageKey[] = [];
  processor.dataProcess.connect((key) => processed.push(key), scope.signal);
  processor.dataConsume.connect((key) => consumed.push(key), scope.signal);
  await processor.start();
  let count = 0;
  return {
    store,
    stateDir: opened.stateDir,
    processor,
    log,
    processed,
    consumed,
    ended,
    register: async (directive, detachedContent) => {
      await store.claim(directiveKey(directive), WORKER);
      store.workers.put({
        id: WORKER,
        pid: 1,
        handlers: [{ directive, features: {}, detachedContent }],
        state: 'registered',
      });
      processor.workerRegistered(directive);
    },
    send: async ({ directive = ECHO, content, metadata = {}, id = `m-${(count += 1)}` }) => {
      const arrivedAt = clock.now();
      const { priority, expiresAt } = readAttributes(metadata, arrivedAt);
      const accepted = store.accept({
        messageId: id,
        responseTo: '',
        directive,
        metadata,
        priority,
        arrivedAt,
        expiresAt,
        replyTopic: undefined,
        content: Buffer.from(JSON.stringify(content)),
      });
      if (accepted.kind !== 'accepted') throw new Error(`not accepted: ${accepted.kind}`);
      await accepted.durable;
      processor.accept(accepted.key);
      return accepted.key;
    },
    reply: async ({ to, content, metadata = {}, id = `r-${(count += 1)}`, worker = WORKER }) => {
      const accepted = store.acceptResult({
        worker: workerOf(worker),
        handlers: [directiveKey(ECHO)],
        messageId: id,
        responseTo: '',
        directive: to,
        metadata,
        content,
        arrivedAt: clock.now(),
      });
      if (accepted.kind !== 'accepted') throw new Error(`not accepted: ${accepted.kind}`);
      await accepted.durable;
      processor.returned(accepted.key);
      return accepted.key;
    },
    ready: async (key) => {
      if (!processed.includes(key)) await processor.dataProcess.next(scope.signal, (one) => one === key);
    },
    answerTo: async (messageId) => {
      for (;;) {
        for (const key of consumed) {
          const record = store.outbound(key);
          if (record?.responseTo === messageId) return record;
        }
        await processor.dataConsume.next(scope.signal);
      }
    },
    body: async (key) => {
      const record = store.inbound(key);
      if (record === undefined) throw new Error(`${key} is not live`);
      return store.readContent(record.content);
    },
    [Symbol.asyncDispose]: async () => {
      await processor.stop();
      scope.abort();
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** The store, which also tells of each result that ended. */
function announcing(store: Datastore, ended: Signal<MessageKey>): DataProcessorOptions['store'] {
  return {
    workers: store.workers,
    inbound: (key) => store.inbound(key),
    waiting: (key) => store.waiting(key),
    nextReady: (key, only) => store.nextReady(key, only),
    isKnown: (key) => store.isKnown(key),
    markReady: (key) => store.markReady(key),
    markFetching: (key) => store.markFetching(key),
    unfetch: (key) => store.unfetch(key),
    fetchFailed: (key, dueAt) => store.fetchFailed(key, dueAt),
    fetched: (key, content) => store.fetched(key, content),
    newContentFile: () => store.newContentFile(),
    discardContentFile: (path) => store.discardContentFile(path),
    readContent: (content) => store.readContent(content),
    end: (...args) => store.end(...args),
    outbound: (key) => store.outbound(key),
    laneOf: (record) => store.laneOf(record),
    nextOutbound: (lane) => store.nextOutbound(lane),
    backlogLanes: () => store.backlogLanes(),
    markSending: (key) => store.markSending(key),
    unsend: (key) => store.unsend(key),
    retryOutbound: (key, dueAt) => store.retryOutbound(key, dueAt),
    endOutbound: async (key, end, failure) => {
      const isEnded = await store.endOutbound(key, end, failure);
      ended.emit(key);
      return isEnded;
    },
  };
}
