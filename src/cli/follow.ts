/** What the commands that follow lines have in common. */
import type { Output } from './output.js';

export interface FollowFlags {
  readonly follow?: boolean;
  readonly lines?: number;
}

/** How many of the lines before one sees when nothing else is said. */
export const LAST_WHEN_FOLLOWING = 20;

const ALL = 2 ** 32 - 1;

/** As the agent is asked. */
export function followed({ follow = false, lines }: FollowFlags): { readonly last: number; readonly follow: boolean } {
  return { last: lines ?? (follow ? LAST_WHEN_FOLLOWING : ALL), follow };
}

/** Lines that were gone before they could be read are told where they are missing. */
export function tellMissed(output: Output, missed: bigint, { json = false }: { readonly json?: boolean }): void {
  if (missed === 0n) return;
  if (json) output.jsonLine({ missed });
  else process.stderr.write(`ygg: ${missed} lines are missing here: they came faster than they were read\n`);
}
