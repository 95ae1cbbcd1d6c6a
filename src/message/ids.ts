/**
 * The names and numbers that identify things, each a type of its own that only its parser makes. A name that passed
 * here may become part of a path or a topic; one that did not may not.
 */
import { hash, randomUUID } from 'node:crypto';

declare const brand: unique symbol;

/** A record's place in the order of arrival: a positive safe integer, never used twice in one state directory. */
export type MessageKey = number & { readonly [brand]: 'MessageKey' };

/** The name of a worker: the file name of its executable. */
export type WorkerName = string & { readonly [brand]: 'WorkerName' };

/** The word that routes a message to a worker, as it stood on the wire. */
export type Directive = string & { readonly [brand]: 'Directive' };

/** A directive with `-` and `_` made one letter: what routing and indexes compare. */
export type DirectiveKey = string & { readonly [brand]: 'DirectiveKey' };

/** The agent's MQTT client id. */
export type ClientId = string & { readonly [brand]: 'ClientId' };

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** What a name must look like, for messages to people. */
export const NAME_RULE = 'a letter or digit, then at most 63 of A-Z a-z 0-9 . _ -';

/** CONTRACT section 3: the grammar of every name that becomes part of a path or a topic. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

export function parseWorkerName(text: string): WorkerName | undefined {
  return isName(text) ? (text as WorkerName) : undefined;
}

export function parseDirective(text: string): Directive | undefined {
  return isName(text) ? (text as Directive) : undefined;
}

export function parseClientId(text: string): ClientId | undefined {
  return isName(text) ? (text as ClientId) : undefined;
}

/** `-` and `_` are one letter in a directive (PROTOCOL section 1, Data). */
export function directiveKey(directive: Directive): DirectiveKey {
  const key: string = directive.replaceAll('-', '_');
  return key as DirectiveKey;
}

/** The key of a record; throws a RangeError for what cannot be one. */
export function messageKey(sequence: number): MessageKey {
  if (!Number.isSafeInteger(sequence) || sequence < 1) throw new RangeError(`${sequence} is not a message key`);
  return sequence as MessageKey;
}

/** A new random message id (UUID v4). */
export function newMessageId(): string {
  return randomUUID();
}

/**
 * The id of reply number `index` to the message `requestId`: a UUID v5 (RFC 9562, section 5.5), so that a handler
 * that runs again repeats its ids and the agent recognises the second copy. The name space is made from the request's
 * id by SHA-1, since a request's id need not be a UUID.
 */
export function replyMessageId(requestId: string, index: number): string {
  // In one call: an object of createHash costs as much again when it is collected (10 µs a message, all in all).
  const hex = hash('sha1', `yggdrasil reply ${requestId}\0${index}`);
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
