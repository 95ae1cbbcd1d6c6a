/** A real connection with what it announced, so that a test can wait for the n-th of each. */
import {
  Connection,
  type ConnectionOptions,
  type Delivery,
  type Down,
  type Session,
} from '../../src/connection/index.js';
import { recordingLog, type RecordingLog } from './log.js';

export interface TestConnection extends AsyncDisposable {
  readonly connection: Connection;
  readonly log: RecordingLog;
  readonly ups: Session[];
  readonly downs: Down[];
  readonly messages: Delivery[];
  /** The n-th (from 1), past or future. */
  up(n?: number): Promise<Session>;
  down(n?: number): Promise<Down>;
  message(n?: number): Promise<Delivery>;
}

/** `await using agent = testConnection({ brokers })`; it is not started. */
export function testConnection(
  options: Partial<ConnectionOptions> & Pick<ConnectionOptions, 'brokers'>,
): TestConnection {
  const log = recordingLog();
  const connection = new Connection({
    clientId: 'client-1',
    backoff: { first: 20, cap: 50 },
    subscriptions: ['in/#'],
    log,
    ...options,
  });
  const scope = new AbortController().signal;
  // The timers of a connection keep no process alive; while it waits for a broker, the test has to.
  const awake = setInterval(() => undefined, 60_000);
  const ups: Session[] = [];
  const downs: Down[] = [];
  const messages: Delivery[] = [];
  connection.up.connect((session) => ups.push(session), scope);
  connection.down.connect((down) => downs.push(down), scope);
  connection.message.connect((delivery) => messages.push(delivery), scope);
  return {
    connection,
    log,
    ups,
    downs,
    messages,
    up: async (n = 1) => await nth(ups, n, () => connection.up.next(scope)),
    down: async (n = 1) => await nth(downs, n, () => connection.down.next(scope)),
    message: async (n = 1) => await nth(messages, n, () => connection.message.next(scope)),
    [Symbol.asyncDispose]: () => connection.stop().finally(() => clearInterval(awake)),
  };
}

async function nth<T>(list: readonly T[], n: number, next: () => Promise<unknown>): Promise<T> {
  for (;;) {
    const entry = list[n - 1];
    if (entry !== undefined) return entry;
    await next();
  }
}
