/** The agent itself, as it tells through its operator's socket. */
import { size } from '../output.js';
import { checkOf, type Finding } from './finding.js';
import { apart } from './judge-broker.js';
import type { AgentLook } from './target.js';

type Running = Extract<AgentLook, { kind: 'running' }>['status'];

export function judgeAgent(look: AgentLook): readonly Finding[] {
  const check = checkOf('agent');
  switch (look.kind) {
    case 'forbidden':
      return [
        check.skipped(
          `this user may not ask it (${look.socket})`,
          'be root, or join the group that owns that directory (`yggdrasil`, as installed), and log in anew',
        ),
      ];
    case 'silent':
      return [
        check.failed(
          `it listens at ${look.socket}, but does not answer: ${look.reason}`,
          'read its log: `journalctl -u yggd -n 50`',
        ),
      ];
    case 'not-running':
      return [
        check.failed(
          `no agent listens at ${look.sockets.join(' or ')}`,
          'start it: `systemctl start yggd`; one with a `runtime-dir` of its own is named by --runtime-dir',
        ),
      ];
    case 'running': {
      const { version, clientId, pid, startedAt } = look.status;
      const since = new Date(Number(startedAt)).toISOString();
      return [
        check.ok(`yggd ${version}, client id ${clientId}, pid ${pid}, since ${since}`),
        judgeLink(look.status),
        ...judgeQueues(look.status),
        ...judgeRunning(look.status),
      ];
    }
  }
}

function judgeLink({ link }: Running): Finding {
  const check = checkOf('agent.link');
  const { state = '', broker = '', protocol = '', reason = '' } = link ?? {};
  if (state === 'up') return check.ok(`connected to ${broker}, ${protocol}`);
  if (state === 'down') return check.failed('it was told to stay off the broker', 'bring it back: `ygg link up`');
  if (state === 'connecting') return check.warning(`it is connecting to ${broker}`, 'look again in a moment');
  const [seen, todo] = apart(reason);
  return check.failed(`not connected: ${seen || state}`, todo || 'see what is said of the broker');
}

/** Intake stops at three quarters (docs/guarantees.md). */
const INTAKE_STOPS = 0.75;

function judgeQueues({ queues }: Running): readonly Finding[] {
  if (queues === undefined) return [];
  const { dead, pending, spoolBytes, spoolLimit, refused } = queues;
  const spool = checkOf('agent.spool');
  const told = `${pending} messages on their way, ${size(spoolBytes)} of ${size(spoolLimit)}`;
  const isFull = Number(spoolBytes) >= Number(spoolLimit) * INTAKE_STOPS;
  const gone = checkOf('agent.dead');
  return [
    isFull
      ? spool.failed(
          `${told}: nothing more is taken in`,
          'see which worker does not keep up: `ygg messages`, `ygg workers`',
        )
      : spool.ok(told),
    dead > 0n
      ? gone.warning(
          `${dead} messages were given up`,
          'see why: `ygg messages list --state dead`; another chance: `ygg messages replay`',
        )
      : gone.ok('no message was given up'),
    ...(refused > 0n
      ? [
          checkOf('agent.refused').warning(
            `${refused} messages from the broker were refused since the start`,
            'its log says which and why: `journalctl -u yggd -p warning`',
          ),
        ]
      : []),
  ];
}

function judgeRunning({ workers }: Running): readonly Finding[] {
  return workers.map(({ name, state, detail, isRegistered, directives, restarts }) => {
    const check = checkOf('agent.worker', name);
    const why = detail === '' ? '' : `: ${detail}`;
    if (state === 'running' && isRegistered) {
      const seen = `runs, for ${directives.join(', ') || 'nothing'}`;
      return restarts > 0
        ? check.warning(
            `${seen}; it was started again ${restarts} times`,
            `see what it says before it ends: \`journalctl -u yggd\``,
          )
        : check.ok(seen);
    }
    if (state === 'running' || state === 'starting')
      return check.warning(
        `${state}, and has not registered so far${why}`,
        'look again in a moment; it is ended after its `start-timeout`',
      );
    if (state === 'stopping' || state === 'stopped')
      return check.warning(`${state}${why}`, `start it: \`ygg workers restart ${name}\``);
    const todo =
      state === 'refused' ? 'do what it says' : `see what it says: \`journalctl -u yggd\`; it is tried again by itself`;
    return check.failed(`${state}${why}`, todo);
  });
}
