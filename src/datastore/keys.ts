/**
 * The text of the journal's keys. Numbers are padded so that the order of text is the order of numbers; parts that
 * come from outside are names of the house's grammar or hashes, so a key is always ASCII and never too long.
 */
import { hash } from 'node:crypto';
import type { DirectiveKey, MessageKey, WorkerName } from '../message/index.js';
import { messageKey } from '../message/index.js';

/** 36^11 is above 2^53: eleven digits hold every safe integer. */
const WIDTH = 11;

/** 36^5: six digits of a number above it, and five below, are whole numbers of 31 bits. */
const LOW = 36 ** 5;

export function padded(value: number): string {
  const whole = Math.max(0, Math.floor(value));
  const above = Math.floor(whole / LOW);
  const high = above | 0;
  const low = (whole - above * LOW) | 0;
  // toString and padStart take several times as long, and there are some ten of these for every message. So do numbers
  // that are not known to be whole ones of 31 bits, which `| 0` says: they are divided without a division.
  return String.fromCharCode(
    digit((high / 60_466_176) | 0),
    digit((high / 1_679_616) | 0),
    digit((high / 46_656) | 0),
    digit((high / 1_296) | 0),
    digit((high / 36) | 0),
    digit(high),
    digit((low / 1_679_616) | 0),
    digit((low / 46_656) | 0),
    digit((low / 1_296) | 0),
    digit((low / 36) | 0),
    digit(low),
  );
}

/** The letter for the last digit of a number in base 36: 0–9, a–z. */
function digit(value: number): number {
  const last = value - ((value / 36) | 0) * 36;
  return last < 10 ? 48 + last : 87 + last;
}

/** The first is served first. */
export const PRIORITIES = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0] as const;

/** The prefix of an inbound queue's records: one directive, one priority. Priority 9 sorts first. */
export function inboundPrefix(directive: DirectiveKey, priority: number): string {
  return `i/${directive}/${9 - priority}/`;
}

export function outboundPrefix(lane: string): string {
  return `o/${lane}/`;
}

export function recordKey(prefix: string, key: MessageKey): string {
  return prefix + padded(key);
}

/** The prefix of a record key. */
export function recordPrefix(key: string): string {
  return key.slice(0, -WIDTH);
}

/** The number in a record key; undefined for what is no such key, as when bits of it were flipped. */
export function recordNumber(key: string): MessageKey | undefined {
  const number = Number.parseInt(key.slice(-WIDTH), 36);
  const isKey = Number.isSafeInteger(number) && number > 0 && padded(number) === key.slice(-WIDTH);
  return isKey ? messageKey(number) : undefined;
}

/** The range of all keys that start with `prefix`, which ends in `/`. */
export function under(prefix: string): { after: string; before: string } {
  return { after: prefix, before: `${prefix.slice(0, -1)}0` };
}

const LONGEST_PLAIN = 64;

/** A message id as part of a key: itself when it is plain, else its hash. */
function idPart(messageId: string): string {
  return isPlain(messageId) ? messageId : `~${hash('sha256', messageId)}`;
}

/** Letters, digits, `.`, `_` and `-`, at most 64. By hand: a regular expression took several times as long. */
function isPlain(messageId: string): boolean {
  const { length } = messageId;
  if (length === 0 || length > LONGEST_PLAIN) return false;
  for (let at = 0; at < length; at++) {
    const code = messageId.charCodeAt(at);
    const isLetter = (code | 0x20) >= 97 && (code | 0x20) <= 122;
    if (!isLetter && !(code >= 48 && code <= 57) && code !== 45 && code !== 46 && code !== 95) return false;
  }
  return true;
}

/** Below it are the pages of `past`. */
export const PAGES = 'p/';

/** Below it are the ids of results. */
export const RESULT_IDS = 'o/';

export function inboundIdKey(directive: DirectiveKey, messageId: string): string {
  return `i/${directive}/${idPart(messageId)}`;
}

/** The same worker, id and bytes are one result (CONTRACT 1.10); the bytes by their sum. */
export function resultIdKey(worker: WorkerName, messageId: string, sum: string): string {
  return `${RESULT_IDS}${worker}/${idPart(messageId)}/${sum}`;
}

/** What the id keys of all results of one worker and id begin with. */
export function withoutSum(idKey: string): string {
  return idKey.slice(0, idKey.lastIndexOf('/') + 1);
}

export function ownerKey(directive: DirectiveKey): string {
  return `owner/${directive}`;
}

export function commandKey(messageId: string): string {
  return `command/${idPart(messageId)}`;
}

export function cancelKey(directive: DirectiveKey, messageId: string): string {
  return `cancel/${directive}/${idPart(messageId)}`;
}

/** The lane of a worker's results to one URL. */
export function urlLane(worker: WorkerName | undefined, url: string): string {
  return `url:${worker ?? ''}:${hash('sha256', url, 'base64url')}`;
}
