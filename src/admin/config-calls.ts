/** What an operator asks about the agent's settings, and what it reports of this machine. */
import { status } from '@grpc/grpc-js';
import type { AdminServer } from '../../protocol/generated/admin.js';
import type { Log } from '../log/log.js';
import { answering, Refusal } from './answering.js';
import type { ConfigDesk, FactsDesk } from './ports.js';

export function configCalls(
  desk: ConfigDesk | undefined,
  machine: FactsDesk,
  log: Log,
): Pick<AdminServer, 'getConfig' | 'reload' | 'getFacts'> {
  const host = (): ConfigDesk => {
    if (desk !== undefined) return desk;
    throw new Refusal(status.FAILED_PRECONDITION, 'this agent is part of another program, which has its settings');
  };
  return {
    getConfig: answering(log, () => host().running()),
    reload: answering(log, () => host().reload()),
    getFacts: answering(log, () => machine.facts()),
  };
}
