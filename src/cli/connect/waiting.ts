/** Long work told to a person who looks on: on a terminal a line that counts the seconds, and nothing else anywhere. */
import type { Millis } from '../../time.js';

const TICK: Millis = 1_000;
/** To the begin of the line, and clears what is behind it. */
const CLEAR = '\r\u001b[K';

/** Does the work; from its first second on the line says how long it takes. */
export async function whileTelling<T>(what: string, work: () => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work();
  let seconds = 0;
  const ticking = setInterval(() => process.stderr.write(`${CLEAR}${what}: ${++seconds} s`), TICK);
  try {
    return await work();
  } finally {
    clearInterval(ticking);
    if (seconds > 0) process.stderr.write(CLEAR);
  }
}
