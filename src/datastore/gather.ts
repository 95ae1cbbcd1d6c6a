/** What one transaction changes, in fewer writes: each costs the way down a tree, and pages that are written anew. */
import type { Change } from './journal.js';

/** Between the ids of one entry of `ended`; no id key holds it. */
const SEPARATOR = '\n';
/** Ids in one entry: a few KiB. */
const MOST_IDS = 64;

/**
 * The changes of some commits, in one list: of each fact the last one only, since every commit brings the same few; and
 * the ids that ended together in one entry of `ended` for many.
 */
export function gathered(commits: readonly (readonly Change[])[]): readonly Change[] {
  const facts = new Map<string, Change>();
  const ends: Change[] = [];
  const gathered: Change[] = [];
  for (const changes of commits) {
    for (const change of changes) {
      if (change.table === 'facts') facts.set(change.key, change);
      else if (change.table === 'ended' && change.value !== undefined) ends.push(change);
      else gathered.push(change);
    }
  }
  for (let at = 0; at < ends.length; at += MOST_IDS) gathered.push(inOne(ends.slice(at, at + MOST_IDS)));
  gathered.push(...facts.values());
  return gathered;
}

/** Under the key of the newest: none of them ended later than it says. */
function inOne(ends: readonly Change[]): Change {
  const parts: string[] = [];
  let key = '';
  for (const end of ends) {
    if (end.key > key) key = end.key;
    if (end.value !== undefined) parts.push(end.value.toString('latin1'));
  }
  // It names a message that has ended, which no message does twice.
  return { table: 'ended', key, value: parts.join(SEPARATOR), isThere: false };
}

/** The ids in an entry of `ended`. */
export function idsIn(value: Buffer): readonly string[] {
  return value.toString().split(SEPARATOR);
}
