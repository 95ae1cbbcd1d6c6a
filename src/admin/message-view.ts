/** Records as the operator's service shows them, and which of them a filter lets through. Pure. */
import type { Message, MessageFilter } from '../../protocol/generated/admin.js';
import { contentSize, directiveKey, parseDirective } from '../message/index.js';
import type { AnyMessage } from './ports.js';

const NOTHING = Buffer.alloc(0);

/** The view of a record, with `content` where it was asked for. */
export function messageView(record: AnyMessage, content: Buffer = NOTHING): Message {
  const { key, messageId, directive, metadata } = record;
  const view: Message = {
    key: BigInt(key),
    direction: record.kind === 'dead' ? record.direction : record.kind,
    state: stateOf(record),
    messageId,
    responseTo: responseToOf(record),
    directive,
    metadata,
    contentSize: BigInt(contentSize(record.content)),
    content,
    arrivedAt: 0n,
    expiresAt: 0n,
    dueAt: 0n,
    attempts: 0,
    priority: 0,
    worker: '',
    endedAt: 0n,
    failureCode: '',
    failure: '',
  };
  switch (record.kind) {
    case 'inbound': {
      const { arrivedAt, expiresAt, dueAt, attempts, priority } = record;
      return { ...view, ...times({ arrivedAt, expiresAt, dueAt }), attempts, priority };
    }
    case 'outbound': {
      const { arrivedAt, dueAt, attempts, worker = '' } = record;
      return { ...view, ...times({ arrivedAt, dueAt }), attempts, worker };
    }
    case 'dead': {
      const { endedAt, failure, origin } = record;
      const worker = origin.kind === 'outbound' ? (origin.worker ?? '') : '';
      return { ...view, endedAt: BigInt(endedAt), failureCode: failure.code, failure: failure.text, worker };
    }
  }
}

/** Whether a record is one of those asked for. Of a dead one the time is that of its end. */
export function passes(record: AnyMessage, { state, directive, before, after }: MessageFilter): boolean {
  const at = BigInt(record.kind === 'dead' ? record.endedAt : record.arrivedAt);
  return (
    (state === '' || stateOf(record) === state) &&
    (directive === '' || isSameDirective(record.directive, directive)) &&
    (before === 0n || at < before) &&
    (after === 0n || at > after)
  );
}

export const MESSAGE_STATES = ['accepted', 'fetching', 'ready', 'dispatching', 'queued', 'sending', 'dead'] as const;

function stateOf(record: AnyMessage): string {
  return record.kind === 'dead' ? 'dead' : record.state;
}

function responseToOf(record: AnyMessage): string {
  if (record.kind !== 'dead') return record.responseTo;
  return 'responseTo' in record.origin ? record.origin.responseTo : '';
}

/** `-` and `_` are the same in a directive, and not in a URL. */
function isSameDirective(one: string, other: string): boolean {
  const [a, b] = [parseDirective(one), parseDirective(other)];
  return one === other || (a !== undefined && b !== undefined && directiveKey(a) === directiveKey(b));
}

function times(at: { readonly arrivedAt: number; readonly expiresAt?: number | undefined; readonly dueAt: number }): {
  readonly arrivedAt: bigint;
  readonly expiresAt: bigint;
  readonly dueAt: bigint;
} {
  const { arrivedAt, expiresAt = 0, dueAt } = at;
  return { arrivedAt: whole(arrivedAt), expiresAt: whole(expiresAt), dueAt: whole(dueAt) };
}

/** Senders may name fractions of a millisecond, and times far beyond all clocks. */
function whole(time: number): bigint {
  return Number.isFinite(time) ? BigInt(Math.round(Math.min(Math.max(time, 0), Number.MAX_SAFE_INTEGER))) : 0n;
}
