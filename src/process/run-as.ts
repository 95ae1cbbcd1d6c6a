/**
 * Who a worker runs as (CONTRACT section 3, "Two modes"): only an agent that is root can choose.
 */
import type { Users } from './users.js';

export interface RunAsRequest {
  /** From the worker's file. */
  readonly user: string | undefined;
  readonly group: string | undefined;
  /** The setting `worker-user`; counts for root only. */
  readonly workerUser: string | undefined;
  readonly agent: { readonly uid: number; readonly gid: number };
}

/** Undefined numbers mean: as the agent. */
export type RunAs =
  | { readonly kind: 'ok'; readonly uid: number | undefined; readonly gid: number | undefined }
  | { readonly kind: 'invalid'; readonly problem: string };

/** Looks the names up; a worker never runs as another user than the one its file names. */
export async function resolveRunAs({ user, group, workerUser, agent }: RunAsRequest, users: Users): Promise<RunAs> {
  const isRoot = agent.uid === 0;
  const userName = user ?? (isRoot ? workerUser : undefined);
  const entry = userName === undefined ? undefined : await users.user(userName);
  if (userName !== undefined && entry === undefined) {
    return invalid(`there is no user "${userName}"; make it, or set another user (worker-user or the worker's file)`);
  }
  const named = group === undefined ? undefined : await users.gid(group);
  if (group !== undefined && named === undefined) {
    return invalid(`there is no group "${group}"; make it, or set another group in the worker's file`);
  }
  const uid = entry?.uid;
  const gid = named ?? entry?.gid;
  if (isRoot) return { kind: 'ok', uid, gid };
  if ((uid ?? agent.uid) !== agent.uid || (gid ?? agent.gid) !== agent.gid) {
    return invalid(
      'only an agent that runs as root can run a worker as another user or group; take user and group out of the ' +
        "worker's file, or run the daemon as root (drop-in of the unit)",
    );
  }
  return { kind: 'ok', uid: undefined, gid: undefined };
}

function invalid(problem: string): RunAs {
  return { kind: 'invalid', problem };
}
