/** A scope that many exchanges stand in at once. */
import { setMaxListeners } from 'node:events';

/** Node warns of a leak at the eleventh listener; here each exchange under way is one, and takes it off at its end. */
export function createSharedScope(): AbortController {
  const scope = new AbortController();
  setMaxListeners(0, scope.signal);
  return scope;
}
