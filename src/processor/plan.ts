/**
 * What to do next with an inbound message, decided purely from its record and its worker (DESIGN section 2, step 3).
 */
import { directiveKey, type DirectiveKey, type Failure, type InboundRecord } from '../message/index.js';
import type { KnownWorker } from './ports.js';

export type InboundStep =
  /** Its time is over. */
  | { readonly kind: 'expire' }
  /** It stays `accepted` until its worker registers, or its lifetime ends. */
  | { readonly kind: 'wait' }
  /** Its worker wants the body that the URL in its content stands for. */
  | { readonly kind: 'fetch' }
  /** The dispatcher may have it; `isReady` when it was marked so before. */
  | { readonly kind: 'process'; readonly isReady: boolean }
  /** Someone else has it in hand. */
  | { readonly kind: 'leave' };

export interface HandlerView {
  readonly wantsDetached: boolean;
}

/** The registered worker's view of this directive, or undefined when no worker is registered for it. */
export function findHandler(workers: readonly KnownWorker[], key: DirectiveKey): HandlerView | undefined {
  for (const worker of workers) {
    if (worker.state !== 'registered') continue;
    const handler = worker.handlers.find(({ directive }) => directiveKey(directive) === key);
    if (handler !== undefined) return { wantsDetached: handler.detachedContent };
  }
  return undefined;
}

const FETCH: InboundStep = { kind: 'fetch' };
const PROCESS_NEW: InboundStep = { kind: 'process', isReady: false };
const PROCESS_READY: InboundStep = { kind: 'process', isReady: true };

/** `handler` is undefined while no worker is registered; `now` is wall time. */
export function nextInboundStep(record: InboundRecord, handler: HandlerView | undefined, now: number): InboundStep {
  if (record.state === 'dispatching') return { kind: 'leave' };
  if (hasExpired(record, now)) return { kind: 'expire' };
  if (record.isFetched) return record.state === 'ready' ? PROCESS_READY : PROCESS_NEW;
  switch (record.state) {
    case 'accepted':
      if (handler === undefined) return { kind: 'wait' };
      return handler.wantsDetached ? FETCH : PROCESS_NEW;
    case 'ready':
      return handler?.wantsDetached === true ? FETCH : PROCESS_READY;
    case 'fetching':
      return FETCH;
  }
}

/** A replay ignores the `expires` of its original (CONTRACT section 1, States). */
export function hasExpired(record: InboundRecord, now: number): boolean {
  return record.replayOf === undefined && record.expiresAt !== undefined && record.expiresAt <= now;
}

/** How a message ends whose time is over. `isKnown`: some worker has registered its directive at some time. */
export function lapseOf(
  record: InboundRecord,
  isKnown: boolean,
  now: number,
): { readonly end: 'expired' | 'dead'; readonly failure: Failure } {
  if (hasExpired(record, now)) {
    return { end: 'expired', failure: { code: 'expired', text: 'it expired before its worker had taken it' } };
  }
  if (!isKnown) {
    const text = `no worker has ever registered the directive "${record.directive}" here`;
    return { end: 'dead', failure: { code: 'unroutable', text } };
  }
  return { end: 'expired', failure: { code: 'expired', text: 'its lifetime ended before its worker had taken it' } };
}
