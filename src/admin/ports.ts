/** What the operator's service needs of the agent. Times are wall times in milliseconds. */
import type { LogLevel } from '../log/log.js';
import type { DeadRecord, LiveRecord, MessageKey } from '../message/index.js';
import type { MessageDesk } from './message-ports.js';
import type { RingReader } from '../signal/index.js';
import type {
  AgentStatus,
  Facts,
  HandlerReleased,
  Reloaded,
  RunningConfig,
  WorkerStarted,
  WorkerStopped,
} from '../../protocol/generated/admin.js';

export type AnyMessage = LiveRecord | DeadRecord;

/** Some messages, and where the next ones begin: undefined behind the last. */
export interface MessagePage<Start> {
  readonly records: readonly AnyMessage[];
  readonly next: Start | undefined;
}

/** What came of a request; `refused` says why nothing has changed. */
export type Answer<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'unknown'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

export interface AdminDesk<Start = unknown> extends FactsDesk, MessageDesk {
  status(): AgentStatus;
  readonly workers: WorkerDesk;
  /** Undefined where the program around the agent has none to show. */
  readonly log: LogDesk | undefined;
  readonly config: ConfigDesk | undefined;
  /** The first page without a start. */
  page(start: Start | undefined): MessagePage<Start>;
  find(key: MessageKey): AnyMessage | undefined;
  /** The bytes of a message's content; rejects when they cannot be read. */
  content(message: AnyMessage): Promise<Buffer>;
  /** Rejects when the journal cannot be written; so does `cancel`. */
  replay(key: MessageKey): Promise<Answer<MessageKey>>;
  cancel(key: MessageKey): Promise<Answer<{ readonly isAsked: boolean }>>;
  setLink(isUp: boolean): Promise<void>;
}

export interface WorkerLine {
  /** Wall time in milliseconds. */
  readonly at: number;
  readonly pid: number;
  readonly stream: string;
  readonly text: string;
}

/** Workers and handlers by the names that an operator wrote. */
export interface WorkerDesk {
  restart(worker: string): Answer<void>;
  /** Resolves when nothing of it runs. */
  stop(worker: string): Promise<Answer<WorkerStopped>>;
  start(worker: string): Promise<Answer<WorkerStarted>>;
  /** Rejects when the journal cannot be written. */
  release(handler: string): Promise<Answer<HandlerReleased>>;
  output(worker: string): RingReader<WorkerLine> | undefined;
}

export interface LogDesk {
  /** Each a JSON object with its `level` and no secret. */
  readonly lines: RingReader<string>;
  /** The level the agent logs at. */
  readonly level: LogLevel;
}

/** What only the program around the agent can do. */
export interface ConfigDesk {
  /** Without secrets. */
  running(): RunningConfig;
  /** Does what SIGHUP does. Rejects when it failed; then what was running goes on as it was. */
  reload(): Promise<Reloaded>;
}

export interface FactsDesk {
  facts(): Promise<Facts>;
}
