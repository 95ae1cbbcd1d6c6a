/**
 * Ends what an agent before this one has left running (it was killed, or crashed): the children of its note, if they
 * are the same processes still, and whoever carries a mark or a socket of our runtime directory. A pid that now belongs to
 * somebody else is left alone.
 */
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import { Members, signalGroup, signalProcess } from './members.js';
import type { MarkPlace } from './mark.js';
import type { ChildrenNote } from './note.js';
import type { Proc } from './proc.js';
import { poll, SOCKET_VARIABLE } from './tree.js';

/** Between SIGTERM and SIGKILL. */
export const ORPHAN_GRACE: Millis = 10_000;

/** How long SIGKILL is given. */
const KILL_PATIENCE: Millis = 5000;

export interface OrphanOptions {
  readonly note: ChildrenNote;
  readonly bootId: string;
  readonly runtimeDir: string;
  readonly marks: MarkPlace;
  readonly proc: Proc;
  readonly clock: Clock;
  readonly log: Log;
  readonly grace: Millis;
}

/** Resolves when they are gone. When the scope ends, they are killed at once. */
export async function endOrphans(options: OrphanOptions, scope: AbortSignal): Promise<void> {
  const { note, proc, clock, log } = options;
  const noted = note.bootId === options.bootId ? note.children : [];
  const leaders = noted.filter((child) => {
    const now = proc.stat(child.pid);
    // A worker is spawned as the leader of a session, and stays it as long as it lives.
    return now?.startTime === child.startTime && now.session === child.pid;
  });
  const prefix = `unix:${options.runtimeDir.replace(/\/+$/, '')}/`;
  const members = new Members({
    proc,
    leaders,
    isStray: async ({ pid, terminal }) =>
      options.marks.includes(proc.mark(pid)) ||
      // A person who tries out a worker by hand has a terminal; what we spawn never had one.
      (terminal === 0 && ((await proc.variable(pid, SOCKET_VARIABLE)) ?? '').startsWith(prefix)),
  });
  let left = await members.look();
  if (left.length === 0) return;
  const names = leaders.map(({ name, pid }) => `${name} (pid ${pid})`).join(', ') || 'processes of earlier workers';
  log.warn('process.orphans', `ending what an earlier agent left running: ${names}`, {
    pids: left.map(({ pid }) => pid),
  });

  const groups = new Set(leaders.map(({ pid }) => pid));
  for (const leader of leaders) signalGroup(proc, leader, 'SIGTERM');
  for (const member of left) if (!groups.has(member.group)) signalProcess(proc, member, 'SIGTERM');
  const grace = new AbortController();
  clock.after(options.grace, () => grace.abort(), grace.signal);
  await poll(clock, AbortSignal.any([scope, grace.signal]), async () => (await members.look()).length === 0);
  grace.abort();

  const patience = new AbortController();
  clock.after(KILL_PATIENCE, () => patience.abort(), patience.signal);
  await poll(clock, patience.signal, async () => {
    left = await members.look();
    for (const member of left) signalProcess(proc, member, 'SIGKILL');
    return left.length === 0;
  });
  patience.abort();
  if (left.length > 0) {
    const pids = left.map(({ pid }) => pid).join(', ');
    log.error('process.orphans_left', `cannot end processes of an earlier agent: ${pids}; end them by hand`);
  }
}
