/**
 * Ends process trees: asks the group with SIGTERM, gives it its time, then kills whatever is left, wherever it has
 * gone (CONTRACT section 2: nothing of a worker is left behind).
 */
import { sleep, type Clock, type Millis } from '../time.js';
import type { WorkerCgroup } from './cgroup.js';
import { Members, signalGroup, signalProcess } from './members.js';
import type { Proc, ProcessIdentity, ProcessStat } from './proc.js';

export interface Tree {
  readonly leader: ProcessIdentity;
  /** Its YGG_SOCKET_ADDR, which nobody else has. */
  readonly address: string;
  /** What its processes carry, where they could be marked. */
  readonly mark: number | undefined;
  readonly cgroup: WorkerCgroup | undefined;
  /** Resolves when the leader has died. */
  readonly exited: Promise<unknown>;
}

export interface TreeTools {
  readonly proc: Proc;
  readonly clock: Clock;
}

/** The variable by which a worker's processes are known. */
export const SOCKET_VARIABLE = 'YGG_SOCKET_ADDR';

const FIRST_POLL: Millis = 10;
const LONGEST_POLL: Millis = 200;

/** How long SIGKILL is given. Only a process stuck in the kernel takes longer. */
const KILL_PATIENCE: Millis = 5000;

/** Rounds of `enterCgroup`: more would mean that a worker forks faster than it can be followed. */
const ENTER_ROUNDS = 10;

/**
 * Moves a tree that has just been spawned into its cgroup. Node cannot spawn into one, and the move takes the kernel
 * some milliseconds: children started meanwhile are looked for and moved too.
 */
export async function enterCgroup(tree: Tree, tools: TreeTools): Promise<void> {
  const { cgroup, leader } = tree;
  if (cgroup === undefined) return;
  await cgroup.enter(leader.pid);
  const members = membersOf(tree, tools);
  const inside = new Set([leader.pid]);
  for (let round = 0; round < ENTER_ROUNDS; round++) {
    const outside = (await members.look()).filter(({ pid }) => !inside.has(pid));
    if (outside.length === 0) return;
    for (const { pid } of outside) {
      await cgroup.enter(pid);
      inside.add(pid);
    }
  }
}

/** Asks the tree to end, waits until it has or `killNow` fires, and kills the rest. Returns those that would not die. */
export async function endTree(tree: Tree, killNow: AbortSignal, tools: TreeTools): Promise<readonly ProcessStat[]> {
  const members = membersOf(tree, tools);
  // Before anybody dies: children whose parent is gone cannot be told from others by descent.
  await members.look();
  signalGroup(tools.proc, tree.leader, 'SIGTERM');
  await Promise.race([tree.exited, aborted(killNow)]);
  await poll(tools.clock, killNow, async () => !(await hasGroup(tree, tools)));
  return sweep(tree, members, tools);
}

/** Kills what a leader that died by itself has left. Returns those that would not die. */
export function sweepTree(tree: Tree, tools: TreeTools): Promise<readonly ProcessStat[]> {
  return sweep(tree, membersOf(tree, tools), tools);
}

async function sweep(tree: Tree, members: Members, tools: TreeTools): Promise<readonly ProcessStat[]> {
  const patience = new AbortController();
  tools.clock.after(KILL_PATIENCE, () => patience.abort(), patience.signal);
  let left: readonly ProcessStat[] = [];
  await poll(tools.clock, patience.signal, async () => {
    await tree.cgroup?.kill();
    signalGroup(tools.proc, tree.leader, 'SIGKILL');
    left = await members.look();
    for (const member of left) signalProcess(tools.proc, member, 'SIGKILL');
    return left.length === 0 && ((await tree.cgroup?.isEmpty()) ?? true);
  });
  // What is dead by now may not have been collected yet.
  await Promise.race([tree.exited, aborted(patience.signal)]);
  patience.abort();
  await tree.cgroup?.remove();
  return left;
}

function membersOf(tree: Tree, { proc }: TreeTools): Members {
  return new Members({
    proc,
    leaders: [tree.leader],
    isStray: ({ pid }) => isStray(tree, pid, proc),
  });
}

async function isStray({ address, mark }: Tree, pid: number, proc: Proc): Promise<boolean> {
  if (mark !== undefined && proc.mark(pid) === mark) return true;
  return (await proc.variable(pid, SOCKET_VARIABLE)) === address;
}

async function hasGroup({ leader }: Tree, { proc }: TreeTools): Promise<boolean> {
  return (await proc.all()).some(({ group }) => group === leader.pid);
}

/** Asks again and again, ever more slowly, until the answer is yes or the scope ends. */
export async function poll(clock: Clock, scope: AbortSignal, isDone: () => Promise<boolean>): Promise<void> {
  for (let delay = FIRST_POLL; !(await isDone()); delay = Math.min(delay * 2, LONGEST_POLL)) {
    if (scope.aborted) return;
    // The scope ending is one way of having waited long enough.
    await sleep(clock, delay, scope).catch(() => undefined);
  }
}

/** Resolves when the scope ends. */
export function aborted(scope: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (scope.aborted) resolve();
    else scope.addEventListener('abort', () => resolve(), { once: true });
  });
}
