/** Whether an agent that was just started reaches its broker: what the operator wants to know last. */
import { setTimeout as sleep } from 'node:timers/promises';
import { AdminClient, adminSocket } from '../../admin/index.js';
import { AgentError } from '../../errors.js';
import type { Millis } from '../../time.js';
import type { Steps } from './steps.js';

const UP_WITHIN: Millis = 20_000;
const LOOK_EVERY: Millis = 200;

/** A broker that is not there is a warning: the agent goes on trying. */
export async function tellLink(runtimeDir: string, steps: Steps, scope: AbortSignal): Promise<void> {
  try {
    using client = await AdminClient.connect(adminSocket(runtimeDir));
    const began = performance.now();
    for (;;) {
      const { link, clientId } = await client.status();
      if (link?.state === 'up') {
        steps.tell('broker', `${clientId} is connected to ${link.broker}`);
        return;
      }
      if (performance.now() - began > UP_WITHIN) {
        const why = link?.reason === undefined || link.reason === '' ? '' : `: ${link.reason}`;
        steps.tell('broker', `${clientId} is not connected yet${why}; look again with ygg status`, 'warning');
        return;
      }
      scope.throwIfAborted();
      await sleep(LOOK_EVERY);
    }
  } catch (error) {
    // A unit without readiness (Type=exec) is active before it can be asked.
    if (!(error instanceof AgentError && error.code === 'admin.not_running')) throw error;
  }
}
