/** What one transaction changes, in fewer writes. */
import type { Change } from './journal.js';

/** The changes of some commits, in one list: of each fact the last one only, since every commit brings the same few. */
export function gathered(commits: readonly (readonly Change[])[]): readonly Change[] {
  const facts = new Map<string, Change>();
  const gathered: Change[] = [];
  for (const changes of commits) {
    for (const change of changes) {
      if (change.table === 'facts') facts.set(change.key, change);
      else gathered.push(change);
    }
  }
  gathered.push(...facts.values());
  return gathered;
}
