/** What an agent says through the broker, as the commands that reach it from afar hear it. */
import type { Delivery } from '../connection/index.js';
import { AgentError } from '../errors.js';
import { decodeData } from '../message/index.js';
import type { BrokerDesk } from './broker-command.js';

const ANSWER_WITHIN_MS = 10_000;

/** What came, as far as it can be read: an envelope of any type. */
export interface Envelope {
  readonly type?: unknown;
  readonly message_id?: unknown;
  readonly response_to?: unknown;
  readonly directive?: unknown;
  readonly metadata?: unknown;
  readonly content?: unknown;
  /** Of the content, where they can be told. */
  readonly bytes?: Buffer;
}

/** The first message that answers `id`; awaited behind what asks for it. Rejects when none comes in time. */
export function answerTo(desk: BrokerDesk, id: string, timeout: number | undefined, client: string): Promise<Envelope> {
  const answer = hearAnswer(desk, id, timeout ?? ANSWER_WITHIN_MS, client);
  answer.catch(() => undefined);
  return answer;
}

function hearAnswer(desk: BrokerDesk, id: string, timeout: number, client: string): Promise<Envelope> {
  const scope = new AbortController();
  return new Promise((resolve, reject) => {
    let last = '';
    const timer = setTimeout(() => {
      scope.abort();
      const known = last === '' ? '' : `; it last said that it is ${last}`;
      reject(new AgentError('remote.no_answer', `no answer from ${client} within ${timeout / 1000} s${known}`));
    }, timeout);
    // When what asks for it fails nobody waits any more; until then the connection keeps the program alive.
    timer.unref();
    desk.hear((delivery) => {
      delivery.ack();
      const envelope = envelopeOf(delivery);
      if (envelope?.type === 'connection-status') last = text((envelope.content as { state?: unknown } | null)?.state);
      if (envelope?.response_to !== id) return;
      clearTimeout(timer);
      scope.abort();
      resolve({ ...envelope, ...bytesOf(delivery) });
    }, scope.signal);
  });
}

export function envelopeOf({ payload }: Delivery): Envelope | undefined {
  try {
    const value: unknown = JSON.parse(payload.toString());
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    // Whatever it is, it is no envelope.
    return undefined;
  }
}

function bytesOf({ payload }: Delivery): { readonly bytes?: Buffer } {
  const decoded = decodeData(payload);
  return decoded.kind === 'data' ? { bytes: decoded.envelope.content } : {};
}

/** A field of an envelope as text. */
export function text(value: unknown): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** This moment, as envelopes have it (RFC 3339). */
export function now(): string {
  return new Date().toISOString();
}
