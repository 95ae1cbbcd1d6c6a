/** A router of a test's own: the real one over the real store, with a broker that the test plays. */
import { encodeData, messageKey, metadataFrom, parseDirective, parseWorkerName } from '../../src/message/index.js';
import type { MessageKey } from '../../src/message/index.js';
import { MessageRouter, type RouterOptions, type RouterSettings, type StorePort } from '../../src/router/index.js';
import type { Datastore } from '../../src/datastore/index.js';
import { FakeClock, settle } from './clock.js';
import { FakeConnection, type FakeConnectionOptions, type Published } from './fake-connection.js';
import { recordingLog, type RecordingLog } from './log.js';
import { openTestStore, type StoreSettings } from './store.js';

export const FACTS = {
  insights_id: '',
  machine_id: '01234567-89ab-cdef-0123-456789abcdef',
  bios_uuid: '',
  subscription_manager_id: '',
  ip_addresses: ['192.0.2.1'],
  mac_addresses: ['02:00:00:00:00:01'],
  fqdn: 'host.example',
};

export const CONTROL_IN = 'yggdrasil/c1/control/in';
export const CONTROL_OUT = 'yggdrasil/c1/control/out';
export const DATA_IN = 'yggdrasil/c1/data/in';
export const DATA_OUT = 'yggdrasil/c1/data/out';

export interface TestRouterOptions {
  readonly settings?: Partial<RouterSettings>;
  readonly connection?: FakeConnectionOptions;
  readonly store?: StoreSettings;
  readonly identity?: Partial<RouterOptions['identity']>;
  /** Puts something between the router and the store: a fault, a full disk. */
  readonly wrapStore?: (store: Datastore) => StorePort;
}

export interface TestRouter extends AsyncDisposable {
  readonly router: MessageRouter;
  readonly connection: FakeConnection;
  readonly store: Datastore;
  readonly clock: FakeClock;
  readonly log: RecordingLog;
  readonly received: MessageKey[];
  /** What was published on a topic, parsed. */
  on(topic: string): readonly Record<string, unknown>[];
  /** Publications on `data/out`. */
  results(): readonly Published[];
  /** A durable result of the worker `w`. */
  result(content: string, options?: { readonly messageId?: string; readonly responseTo?: string }): Promise<MessageKey>;
  /** A worker with these handlers, as the dispatcher notes it. */
  worker(name: string, ...directives: readonly string[]): void;
}

export async function openTestRouter(options: TestRouterOptions = {}): Promise<TestRouter> {
  const clock = new FakeClock();
  const log = recordingLog();
  const opened = await openTestStore({ clock, ...options.store });
  const { store } = opened;
  let router: MessageRouter | undefined = undefined;
  const connection = new FakeConnection({ will: () => router!.will(), ...options.connection });
  router = new MessageRouter({
    connection: () => connection,
    store: options.wrapStore?.(store) ?? store,
    clientId: 'c1',
    topicPrefix: 'yggdrasil',
    identity: { facts: () => FACTS, tags: () => ({}), version: '1.2.3', ...options.identity },
    clock,
    random: () => 0.5,
    log,
    ...(options.settings && { settings: options.settings }),
  });
  const received: MessageKey[] = [];
  router.dataRecv.connect((key) => received.push(key), new AbortController().signal);
  const ended = router;
  let results = 0;
  return {
    router,
    connection,
    store,
    clock,
    log,
    received,
    on: (topic) =>
      connection.published
        .filter((published) => published.topic === topic)
        .map(({ payload }) => JSON.parse(payload.toString()) as Record<string, unknown>),
    results: () => connection.published.filter(({ topic }) => topic !== CONTROL_OUT),
    result: async (content, { messageId = `result-${++results}`, responseTo = '' } = {}) => {
      const acceptance = store.acceptResult({
        worker: parseWorkerName('w'),
        handlers: [],
        messageId,
        responseTo,
        directive: 'echo',
        metadata: metadataFrom([]),
        content: Buffer.from(content),
        arrivedAt: clock.now(),
      });
      if (acceptance.kind !== 'accepted') throw new Error(`the result was not accepted: ${acceptance.kind}`);
      await acceptance.durable;
      ended.publish(acceptance.key);
      await settle();
      return acceptance.key;
    },
    worker: (name, ...directives) => {
      const handlers = directives.map((directive) => ({
        directive: parseDirective(directive)!,
        features: { b: '2', a: '1' },
        detachedContent: false,
      }));
      store.workers.put({ id: parseWorkerName(name)!, pid: 1, handlers, state: 'registered' });
    },
    [Symbol.asyncDispose]: async () => {
      connection.answers = true;
      const stopped = ended.stop();
      await clock.advance(60_000);
      await stopped;
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** A payload of `data/in`. */
export function dataMessage(
  messageId: string,
  options: { readonly directive?: string; readonly metadata?: Record<string, string>; readonly content?: string } = {},
): Buffer {
  const { directive = 'echo', metadata = {}, content = '"hello"' } = options;
  return encodeData({
    messageId,
    responseTo: '',
    sent: '2026-01-01T00:00:00Z',
    directive,
    metadata: metadataFrom(Object.entries(metadata)),
    content: Buffer.from(content),
  });
}

/** A payload of `control/in`. */
export function commandMessage(messageId: string, command: string, given?: unknown): Buffer {
  const content = { command, ...(given === undefined ? {} : { arguments: given }) };
  return Buffer.from(
    JSON.stringify({
      type: 'command',
      message_id: messageId,
      response_to: '',
      version: 1,
      sent: '2026-01-01T00:00:00Z',
      content,
    }),
  );
}

/** Some key, for what takes one. */
export const ANY_KEY = messageKey(1);

/** Lets the event loop turn until `isSo`: for what happens in the store, on disk too. The test's own time-out ends it. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

/** Starts it and opens its connection; gives it back. */
export async function up(test: TestRouter): Promise<TestRouter> {
  await test.router.start();
  await test.connection.open();
  await settle();
  return test;
}
