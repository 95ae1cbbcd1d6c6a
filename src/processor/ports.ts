/**
 * What the processor needs from others, in its own words; agent.ts hands in what fulfils it. The datastore's records
 * are those of message/record.ts.
 */
import type {
  Content,
  Directive,
  DirectiveKey,
  Failure,
  FileContent,
  InboundEnd,
  InboundRecord,
} from '../message/index.js';
import type { MessageKey, OutboundEnd, OutboundRecord } from '../message/index.js';

/** A worker as far as the processor looks at it. */
export interface KnownWorker {
  readonly state: 'registered' | 'gone';
  readonly handlers: readonly { readonly directive: Directive; readonly detachedContent: boolean }[];
}

/** What came of ending a message: its error answer, where there is one, is already in the outbox. */
export type EndOutcome =
  { readonly kind: 'ended'; readonly answer: MessageKey | undefined } | { readonly kind: 'already-ended' };

/** A content file that is being written, one step after the other. A step that rejects is the last: then discard it. */
export interface ContentWriter {
  /** Takes more of it. The bytes are not changed any more. */
  write(parts: readonly Buffer[]): Promise<void>;
  /** Takes the last of it: all of it is on stable storage then, and its name too. */
  finish(parts: readonly Buffer[]): Promise<FileContent>;
  /** Takes it away, finished or not. */
  discard(): Promise<void>;
}

/** The inbound half of the datastore. A key that is not live, or has ended, gives undefined or false. */
export interface InboundStore {
  readonly workers: {
    all(): readonly KnownWorker[];
    /** One of them is new, another than it was, or gone. */
    readonly changed: { connect(fn: () => void, scope: AbortSignal): void };
  };
  inbound(key: MessageKey): InboundRecord | undefined;
  /** Live records in state `accepted`, in order. */
  waiting(directive: DirectiveKey): readonly MessageKey[];
  nextReady(
    directive: DirectiveKey,
    options?: { readonly only?: (record: InboundRecord) => boolean },
  ): InboundRecord | undefined;
  isKnown(directive: DirectiveKey): boolean;
  markReady(key: MessageKey): boolean;
  /** From `accepted`, and from `ready` when the worker turned out to want the body instead of the URL. */
  markFetching(key: MessageKey): boolean;
  /** A fetch was given up before it came to an end: back to `accepted`, and nothing is counted. */
  unfetch(key: MessageKey): boolean;
  fetchFailed(key: MessageKey, dueAt: number): Promise<void>;
  fetched(key: MessageKey, content: Content): Promise<void>;
  newContentFile(): ContentWriter;
  discardContentFile(path: string): Promise<void>;
  readContent(content: Content): Promise<Buffer>;
  end(key: MessageKey, end: Exclude<InboundEnd, 'delivered'>, failure: Failure): Promise<EndOutcome>;
}

/** The outbound half. */
export interface OutboundStore {
  outbound(key: MessageKey): OutboundRecord | undefined;
  laneOf(record: OutboundRecord): string;
  /** The first record of the lane, when it is queued and due. */
  nextOutbound(lane: string): OutboundRecord | undefined;
  backlogLanes(): readonly string[];
  markSending(key: MessageKey): void;
  unsend(key: MessageKey): void;
  retryOutbound(key: MessageKey, dueAt: number): Promise<void>;
  endOutbound(key: MessageKey, end: OutboundEnd, failure?: Failure): Promise<boolean>;
  readContent(content: Content): Promise<Buffer>;
}

export interface ProcessorStore extends InboundStore, OutboundStore {}

/** PEM. `ca` is trusted beside the roots of the system. */
export interface TlsMaterial {
  readonly ca: readonly (string | Buffer)[];
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
}

/** The addresses of a name, in order of preference; rejects when there is none. */
export type Resolver = (hostname: string) => Promise<readonly string[]>;

export interface Proxy {
  /** http or https. */
  readonly url: URL;
  /** The value of Proxy-Authorization. */
  readonly authorization?: string | undefined;
}

/** The proxy for a URL, or undefined to go there directly. */
export type ProxyFor = (url: URL) => Proxy | undefined;

/** What became of a message at its worker; `answer` is the error answer of one that was given up. */
export interface Dispatched {
  readonly key: MessageKey;
  readonly outcome: { readonly kind: string; readonly answer?: MessageKey | undefined };
}
