/** Records as the operator's service shows them, and which of them a filter lets through. Pure. */
import { status } from '@grpc/grpc-js';
import type { Message, MessageFilter } from '../../protocol/generated/admin.js';
import {
  contentSize,
  directiveKey,
  messageKey,
  parseDirective,
  type Destination,
  type MessageKey,
} from '../message/index.js';
import { Refusal } from './answering.js';
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
    isFetched: false,
    destination: '',
    contentProblem: '',
  };
  switch (record.kind) {
    case 'inbound': {
      const { arrivedAt, expiresAt, dueAt, attempts, priority, isFetched } = record;
      return { ...view, ...times({ arrivedAt, expiresAt, dueAt }), attempts, priority, isFetched };
    }
    case 'outbound': {
      const { arrivedAt, dueAt, attempts, worker = '' } = record;
      const destination = destinationText(record.destination);
      return { ...view, ...times({ arrivedAt, dueAt }), attempts, worker, destination };
    }
    case 'dead': {
      const { endedAt, failure, origin } = record;
      const ended = { ...view, endedAt: BigInt(endedAt), failureCode: failure.code, failure: failure.text };
      if (origin.kind === 'inbound') return { ...ended, priority: origin.priority, isFetched: origin.isFetched };
      if (origin.kind !== 'outbound') return ended;
      return { ...ended, worker: origin.worker ?? '', destination: destinationText(origin.destination) };
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

function destinationText(destination: Destination): string {
  switch (destination.kind) {
    case 'data-out':
      return 'data/out';
    case 'topic':
      return destination.topic;
    case 'url':
      return destination.url;
    case 'local':
      return 'local';
  }
}

/** The key that an operator wrote. */
export function keyFrom(key: bigint): MessageKey {
  if (key < 1n || key > BigInt(Number.MAX_SAFE_INTEGER)) throw unknown(key);
  return messageKey(Number(key));
}

export function unknown(key: bigint): Refusal {
  return new Refusal(status.NOT_FOUND, `there is no message ${key}: it has ended, or never was`);
}

/** Senders may name fractions of a millisecond, and times far beyond all clocks. */
export function whole(time: number): bigint {
  return Number.isFinite(time) ? BigInt(Math.round(Math.min(Math.max(time, 0), Number.MAX_SAFE_INTEGER))) : 0n;
}
