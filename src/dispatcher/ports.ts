/**
 * What the dispatcher needs from the rest, in its own words: the store of messages, the settings of a worker, the news
 * from its process. agent.ts hands the real ones in; nothing here names a sibling.
 */
import type { Directive, DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import type { Content, Failure, FileContent, InboundRecord, SummedContent } from '../message/record.js';
import type { Metadata } from '../message/envelope.js';
import type { Millis } from '../time.js';

export type { FileContent };

/** A content that is being read. */
export interface ContentReader {
  /** The next bytes, at most so many; `isLast` with the last of them. Throws when it is damaged, before the last. */
  next(most: number): Promise<{ readonly bytes: Buffer; readonly isLast: boolean }>;
  close(): Promise<void>;
}

/** A result as a worker handed it over; the store finds out where it goes. */
export interface NewResult {
  readonly worker: WorkerName;
  /** What the worker has registered: the store looks there for the request this answers. */
  readonly handlers: readonly DirectiveKey[];
  readonly messageId: string;
  readonly responseTo: string;
  readonly directive: string;
  readonly metadata: Metadata;
  readonly content: Buffer | SummedContent;
  readonly arrivedAt: Millis;
}

/** A content file that is being written, one step after the other. A step that rejects is the last: then discard it. */
export interface ContentWriter {
  /** Takes more of it. The bytes are not changed any more. */
  write(parts: readonly Buffer[]): Promise<void>;
  /** Takes the last of it: all of it is on stable storage then, and its name too. */
  finish(parts: readonly Buffer[]): Promise<SummedContent>;
  /** Takes it away, finished or not. */
  discard(): Promise<void>;
}

/** What became of a completion: the end of a message together with its results. */
export type CompletionAcceptance =
  /** All of it, in one commit: `durable` gives the keys of results that are new. When it rejects, see `recorded`. */
  | { readonly kind: 'taken'; readonly durable: Promise<readonly MessageKey[]> }
  /** Nothing of it: there is no room for the result at `index`. */
  | { readonly kind: 'full'; readonly index: number; readonly lacks: 'spool' | 'destinations' };

export type ResultAcceptance =
  | { readonly kind: 'accepted'; readonly key: MessageKey; readonly durable: Promise<void> }
  | { readonly kind: 'duplicate'; readonly durable: Promise<void> }
  /** No room in the spool, or too many destinations wait. */
  | { readonly kind: 'full'; readonly lacks: 'spool' | 'destinations' };

export interface Handler {
  readonly directive: Directive;
  readonly features: Readonly<Record<string, string>>;
  readonly detachedContent: boolean;
}

export interface WorkerEntry {
  readonly id: WorkerName;
  /** As the worker claims it: shown, never trusted. */
  readonly pid: number | undefined;
  readonly handlers: readonly Handler[];
  readonly state: 'registered' | 'gone';
}

export interface DispatchStore {
  inbound(key: MessageKey): InboundRecord | undefined;
  nextReady(directive: DirectiveKey, options?: { readonly oldest?: boolean }): InboundRecord | undefined;
  markDispatching(key: MessageKey): void;
  requeue(key: MessageKey): void;
  failedAttempt(key: MessageKey, dueAt: Millis): Promise<void>;
  delivered(key: MessageKey): Promise<boolean>;
  complete(key: MessageKey, results: readonly NewResult[]): CompletionAcceptance;
  /** Resolves when the journal knows how a message has ended: a commit that failed is tried again. */
  recorded(key: MessageKey): Promise<void>;
  end(
    key: MessageKey,
    end: 'dead' | 'cancelled',
    failure: Failure,
  ): Promise<{ readonly kind: 'ended'; readonly answer: MessageKey | undefined } | { readonly kind: 'already-ended' }>;
  readContent(content: Content): Promise<Buffer>;
  openContent(content: FileContent): Promise<ContentReader>;
  /** What is written all at once is kept for its first reader. */
  newContentFile(kind: 'result'): ContentWriter;
  discardContentFile(path: string): Promise<void>;
  /** Keeps room in the spool until what it gives is called; undefined when there is none. */
  reserve(bytes: number): (() => void) | undefined;
  acceptResult(result: NewResult): ResultAcceptance;
  ownerOf(directive: DirectiveKey): WorkerName | undefined;
  claim(directive: DirectiveKey, worker: WorkerName): Promise<void>;
  /** Frees what the worker owns, or this directive of it. */
  releaseOwner(worker: WorkerName, directive?: DirectiveKey): Promise<void>;
  readonly workers: {
    get(id: WorkerName): WorkerEntry | undefined;
    put(entry: WorkerEntry): void;
    remove(id: WorkerName): void;
  };
}

/** Of a worker's file: what concerns dispatch. */
export interface DispatchSettings {
  /** The directives it may register; undefined: any that no other worker owns. */
  readonly handlers: readonly string[] | undefined;
  readonly concurrency?: number | undefined;
  readonly socket: 'path' | 'abstract';
  /** How long one call may take; undefined: as long as the worker lives. */
  readonly deadline?: Millis | undefined;
  /** Bytes of a whole gRPC message. */
  readonly maxMessageSize?: number | undefined;
}

export interface Preparation {
  readonly name: WorkerName;
  readonly settings: DispatchSettings;
  /** Who the worker runs as. Used only when the agent is root. */
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
}

/** A process at the other end of a socket, as the kernel tells it. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
}

/** The end of a worker's process. */
export interface ProcessExit {
  readonly name: WorkerName;
  /** True when the agent ended it: what was in flight is not to blame. */
  readonly isStopped: boolean;
  /** True when its executable is gone: its registrations and its socket go with it. */
  readonly isRemoved: boolean;
}

/** What GetConfig tells a worker; the address of its socket is added for each. */
export interface AgentConfig {
  readonly logLevel: string;
  readonly clientId: string;
  readonly server: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly caRoot: string;
}

export type Outcome =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'dead' | 'cancelled'; readonly answer: MessageKey | undefined }
  | { readonly kind: 'retry'; readonly dueAt: Millis };

/** Bounds and spans of dispatch. All have a default; see DEFAULT_LIMITS. */
export interface DispatchLimits {
  /** Attempts that count before a message is dead. */
  readonly maxAttempts: number;
  /** Bytes of a whole message to a worker that announced nothing else. */
  readonly workerMessageSize: number;
  /** Bytes of a result's content. */
  readonly resultSize: number;
  /** Bytes of a result's metadata, or of a registration's features, names and values together. */
  readonly metadataSize: number;
  /** How long Register and Send may wait for the journal: workers give up after 1 s. */
  readonly answerWithin: Millis;
  /** How long a crashed worker keeps its place in the connection-status. */
  readonly absenceGrace: Millis;
  readonly healthInterval: Millis;
  readonly healthTimeout: Millis;
}

export const DEFAULT_LIMITS: DispatchLimits = {
  maxAttempts: 10,
  // gRPC's own default, which workers written for the original never raised.
  workerMessageSize: 4 * 1024 * 1024,
  resultSize: 16 * 1024 * 1024,
  metadataSize: 64 * 1024,
  answerWithin: 900,
  absenceGrace: 5000,
  healthInterval: 15_000,
  healthTimeout: 10_000,
};
