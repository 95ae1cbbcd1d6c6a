/** `ygg workers`: what runs, and a restart of one of it. */
import type { Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { instant, span, type Cell } from './output.js';

type Worker = Awaited<ReturnType<AdminClient['status']>>['workers'][number];

export const WORKER_HEAD = ['WORKER', 'STATE', 'PID', 'UP', 'RESTARTS', 'DIRECTIVES', 'DETAIL'];

export function addWorkersCommand(program: Command): void {
  const workers = program.command('workers').description('the workers of this machine (default: list)');
  asksAgent(workers.command('list', { isDefault: true }))
    .description('each with its state, process and directives')
    .action(async (flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const status = await client.status();
        if (flags.json === true) output.json(status.workers.map(workerView));
        else output.table(WORKER_HEAD, workerRows(status.workers, Date.now()));
      });
    });
  asksAgent(workers.command('restart'))
    .description('end a worker and start it again; what it has in hand comes to its end first')
    .argument('<name>', 'the name of its executable')
    .action(async (name: string, flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        await client.restartWorker(name);
        if (flags.json === true) output.json({ worker: name, asked: 'restart' });
        else output.line(`${name} is being restarted`);
      });
    });
}

export function workerRows(workers: readonly Worker[], now: number): readonly (readonly Cell[])[] {
  return workers.map(({ name, state, pid, startedAt, restarts, directives, detail }) => [
    name,
    state,
    pid === 0 ? '-' : pid,
    startedAt === 0n ? '-' : span(now - Number(startedAt)),
    restarts,
    directives.join(',') || '-',
    detail,
  ]);
}

export function workerView({
  name,
  state,
  pid,
  startedAt,
  restarts,
  detail,
  directives,
  isRegistered,
}: Worker): unknown {
  return {
    name,
    state,
    pid: pid === 0 ? null : pid,
    started_at: instant(startedAt) || null,
    restarts,
    detail,
    directives,
    registered: isRegistered,
  };
}
