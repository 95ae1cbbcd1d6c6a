/**
 * The store as the dispatcher sees it, in memory and without a disk: priorities, order, states and owners as CONTRACT
 * section 1 has them. A test puts messages in, reads what became of them, and can make it full, slow or broken.
 */
import { directiveKey, messageKey, parseDirective } from '../../../src/message/ids.js';
import type { DirectiveKey, MessageKey, WorkerName } from '../../../src/message/ids.js';
import { metadataFrom } from '../../../src/message/codec.js';
import type { Failure, InboundRecord, InboundState } from '../../../src/message/record.js';
import { Signal } from '../../../src/signal/index.js';
import type {
  CompletionAcceptance,
  ContentReader,
  ContentWriter,
  DispatchStore,
  FileContent,
  NewResult,
  ResultAcceptance,
  WorkerEntry,
} from '../../../src/dispatcher/index.js';

export interface NewMessage {
  readonly directive?: string;
  readonly messageId?: string;
  readonly content?: Buffer;
  readonly priority?: number;
  readonly attempts?: number;
  /** As if the body lay in a file: readContent gives it, or fails. */
  readonly inFile?: boolean;
}

export class MemoryStore implements DispatchStore {
  readonly ended = new Signal<MessageKey>('ended');
  readonly ends = new Map<MessageKey, 'delivered' | Failure>();
  readonly results: NewResult[] = [];
  readonly retries: { readonly key: MessageKey; readonly dueAt: number }[] = [];
  readonly requeued: MessageKey[] = [];
  readonly owners = new Map<DirectiveKey, WorkerName>();
  isFull = false;
  durable: () => Promise<void> = () => Promise.resolve();
  onRead: () => Promise<void> = () => Promise.resolve();
  readonly #records = new Map<MessageKey, InboundRecord>();
  readonly #bodies = new Map<string, Buffer>();
  readonly #workers = new Map<WorkerName, WorkerEntry>();
  #last = 0;

  readonly workers = {
    get: (id: WorkerName) => this.#workers.get(id),
    put: (entry: WorkerEntry) => void this.#workers.set(entry.id, entry),
    remove: (id: WorkerName) => void this.#workers.delete(id),
  };

  add(message: NewMessage = {}): MessageKey {
    const key = messageKey(++this.#last);
    const directive = parseDirective(message.directive ?? 'echo')!;
    const bytes = message.content ?? Buffer.from(`"${key}"`);
    if (message.inFile === true) this.#bodies.set(`body-${key}`, bytes);
    this.#records.set(key, {
      kind: 'inbound',
      key,
      state: 'ready',
      messageId: message.messageId ?? `m${key}`,
      responseTo: '',
      directive,
      directiveKey: directiveKey(directive),
      metadata: metadataFrom([]),
      content:
        message.inFile === true ? { kind: 'file', path: `body-${key}`, size: bytes.length } : { kind: 'inline', bytes },
      isFetched: false,
      priority: message.priority ?? 5,
      arrivedAt: 0,
      expiresAt: undefined,
      attempts: message.attempts ?? 0,
      fetches: 0,
      dueAt: 0,
      replyTopic: undefined,
      replayOf: undefined,
    });
    return key;
  }

  /** As when a message expires. */
  vanish(key: MessageKey): void {
    this.#records.delete(key);
  }

  /** As when the back-off of a failed message is over. */
  comeBack(key: MessageKey): void {
    this.#change(key, 'ready');
  }

  /** Resolves when this message has ended. */
  async endOf(key: MessageKey): Promise<'delivered' | Failure> {
    if (!this.ends.has(key)) await this.ended.next(new AbortController().signal, (other) => other === key);
    return this.ends.get(key)!;
  }

  inbound(key: MessageKey): InboundRecord | undefined {
    return this.#records.get(key);
  }

  nextReady(directive: DirectiveKey, options: { oldest?: boolean } = {}): InboundRecord | undefined {
    let best: InboundRecord | undefined;
    for (const record of this.#records.values()) {
      if (record.directiveKey !== directive || record.state !== 'ready') continue;
      const isBetter = best === undefined || (options.oldest !== true && record.priority > best.priority);
      if (isBetter || (options.oldest === true && record.key < best!.key)) best = record;
    }
    return best;
  }

  markDispatching(key: MessageKey): void {
    this.#change(key, 'dispatching');
  }

  requeue(key: MessageKey): void {
    this.requeued.push(key);
    this.#change(key, 'ready');
  }

  async failedAttempt(key: MessageKey, dueAt: number): Promise<void> {
    const record = this.#records.get(key)!;
    this.#records.set(key, { ...record, state: 'accepted', attempts: record.attempts + 1, dueAt });
    this.retries.push({ key, dueAt });
    await this.durable();
  }

  async delivered(key: MessageKey): Promise<boolean> {
    await this.durable();
    return this.#end(key, 'delivered');
  }

  complete(key: MessageKey, results: readonly NewResult[]): CompletionAcceptance {
    if (this.isFull && results.length > 0) return { kind: 'full', index: 0, lacks: 'spool' };
    const accepted = results.map((result) => this.acceptResult(result)).filter(({ kind }) => kind === 'accepted');
    const durable = this.durable().then(() => {
      this.#end(key, 'delivered');
      return accepted.flatMap((result) => (result.kind === 'accepted' ? [result.key] : []));
    });
    return { kind: 'taken', durable };
  }

  recorded(): Promise<void> {
    return Promise.resolve();
  }

  async end(key: MessageKey, _end: 'dead' | 'cancelled', failure: Failure): ReturnType<DispatchStore['end']> {
    await this.durable();
    return this.#end(key, failure) ? { kind: 'ended', answer: undefined } : { kind: 'already-ended' };
  }

  async readContent(content: InboundRecord['content']): Promise<Buffer> {
    await this.onRead();
    return content.kind === 'inline' ? content.bytes : this.#bodies.get(content.path)!;
  }

  async openContent(content: FileContent): Promise<ContentReader> {
    const bytes = await this.readContent(content);
    let at = 0;
    return {
      next: (most) => {
        const part = bytes.subarray(at, at + most);
        at += part.length;
        return Promise.resolve({ bytes: part, isLast: at === bytes.length });
      },
      close: () => Promise.resolve(),
    };
  }

  newContentFile(): ContentWriter {
    const refused = (): Promise<never> => Promise.reject(new Error('this store has no disk'));
    return { write: refused, finish: refused, discard: () => Promise.resolve() };
  }

  discardContentFile(): Promise<void> {
    return Promise.resolve();
  }

  reserve(): (() => void) | undefined {
    return this.isFull ? undefined : () => undefined;
  }

  acceptResult(result: NewResult): ResultAcceptance {
    if (this.isFull) return { kind: 'full', lacks: 'spool' };
    const durable = this.durable();
    if (this.results.some((other) => other.messageId === result.messageId && other.worker === result.worker)) {
      return { kind: 'duplicate', durable };
    }
    this.results.push(result);
    return { kind: 'accepted', key: messageKey(++this.#last), durable };
  }

  ownerOf(directive: DirectiveKey): WorkerName | undefined {
    return this.owners.get(directive);
  }

  async claim(directive: DirectiveKey, worker: WorkerName): Promise<void> {
    await this.durable();
    this.owners.set(directive, worker);
  }

  async releaseOwner(worker: WorkerName, only?: DirectiveKey): Promise<void> {
    await this.durable();
    for (const [directive, owner] of this.owners) {
      if (owner === worker && (only === undefined || only === directive)) this.owners.delete(directive);
    }
  }

  #change(key: MessageKey, state: InboundState): void {
    const record = this.#records.get(key);
    if (record !== undefined) this.#records.set(key, { ...record, state });
  }

  #end(key: MessageKey, end: 'delivered' | Failure): boolean {
    if (!this.#records.delete(key)) return false;
    this.ends.set(key, end);
    // The outcome is announced by the caller's next step; a test that waits must not run before it.
    setImmediate(() => this.ended.emit(key));
    return true;
  }
}
