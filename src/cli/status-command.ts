/** `ygg status`: what the agent does just now, once or again and again. */
import { type Command, InvalidArgumentError } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AdminClient } from '../admin/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { instant, size, span, type Output } from './output.js';
import { workerRows, WORKER_HEAD, workerView } from './workers-command.js';

type AgentStatus = Awaited<ReturnType<AdminClient['status']>>;
type Session = NonNullable<NonNullable<AgentStatus['link']>['session']>;

const WATCH_EVERY_S = 2;
/** Moves to the corner and clears what is below: a terminal's own history stays. */
const CLEAR = '\u001b[H\u001b[J';

export function addStatusCommand(program: Command): void {
  asksAgent(program.command('status'))
    .description('what the agent does just now: its connection, its queues, its workers')
    .option('--watch [seconds]', `show it again and again, until Ctrl-C (default: every ${WATCH_EVERY_S})`, seconds)
    .action(async (flags: AdminFlags & { readonly watch?: number | true }) => {
      const { enrolmentOf, enrolmentText } = await import('./connect/enrolment.js');
      await withAgent(flags, async (client, output) => {
        const { json = false, watch } = flags;
        for (;;) {
          const status = await client.status();
          const enrolment = await enrolmentOf(flags);
          if (watch !== undefined && output.isTerminal && !json) output.bytes(Buffer.from(CLEAR));
          if (json) output.json({ ...statusView(status), enrolment });
          else showStatus(output, status, Date.now(), enrolment === null ? undefined : enrolmentText(enrolment));
          if (watch === undefined) return;
          await sleep((watch === true ? WATCH_EVERY_S : watch) * 1000);
        }
      });
    });
}

function sessionView(session: Session | undefined): object | null {
  if (session === undefined) return null;
  const { isResumed, expiry, receiveMaximum } = session;
  return { resumed: isResumed, expiry_ms: expiry ?? null, receive_maximum: receiveMaximum };
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.2 && value <= 86_400)) throw new InvalidArgumentError('seconds, from 0.2 to 86400.');
  return value;
}

/** Prints a status; `now` is what ages are reckoned from. */
export function showStatus(output: Output, status: AgentStatus, now: number, enrolment?: string): void {
  const { version, clientId, pid, startedAt, link, queues, workers } = status;
  output.fields([
    ['agent', `yggd ${version}, client id ${clientId}, pid ${pid}, up ${span(now - Number(startedAt))}`],
    ...(enrolment === undefined ? [] : [['enrolled', enrolment] as const]),
    ['broker', linkText(link)],
    ...(link?.session === undefined ? [] : [['session', sessionText(link.session)] as const]),
    ['messages', queues === undefined ? '' : `${queues.pending} on their way, ${queues.dead} dead`],
    ['spool', queues === undefined ? '' : `${size(queues.spoolBytes)} of ${size(queues.spoolLimit)}`],
    [
      'since start',
      queues === undefined
        ? ''
        : `${queues.accepted} accepted, ${queues.duplicates} repeated, ${queues.refused} refused`,
    ],
  ]);
  if (workers.length === 0) output.line(output.isTerminal ? 'workers      none' : 'workers\tnone');
  else {
    if (output.isTerminal) output.line('');
    output.table(WORKER_HEAD, workerRows(workers, now));
  }
}

export function linkText(link: AgentStatus['link']): string {
  if (link === undefined) return '';
  const { state, broker, protocol, reason } = link;
  return [state, [broker, protocol].filter(Boolean).join(', '), reason].filter(Boolean).join(': ');
}

function sessionText({ isResumed, expiry, receiveMaximum }: Session): string {
  const kept =
    expiry === undefined
      ? 'how long it is kept the broker does not say'
      : expiry === 0n
        ? 'not kept by the broker'
        : `kept for ${span(Number(expiry))}`;
  return `${isResumed ? 'resumed' : 'new'}, ${kept}, ${receiveMaximum} at once`;
}

/** A status as `--json` shows it. */
export function statusView({ startedAt, link, queues, workers, ...rest }: AgentStatus): object {
  const { version, clientId, pid } = rest;
  return {
    version,
    client_id: clientId,
    pid,
    started_at: instant(startedAt),
    link: link && {
      ...{ state: link.state, broker: link.broker, protocol: link.protocol, reason: link.reason },
      session: sessionView(link.session),
    },
    queues: queues && {
      pending: queues.pending,
      dead: queues.dead,
      spool_bytes: queues.spoolBytes,
      spool_limit: queues.spoolLimit,
      accepted: queues.accepted,
      duplicates: queues.duplicates,
      refused: queues.refused,
    },
    workers: workers.map(workerView),
  };
}
