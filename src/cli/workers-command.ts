/** `ygg workers`: what runs, and what can be done about one of it. */
import type { Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { printable } from '../message/index.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { instant, span, type Cell } from './output.js';
import { addWorkerLogsCommand } from './worker-logs-command.js';

type Worker = Awaited<ReturnType<AdminClient['status']>>['workers'][number];

export const WORKER_HEAD = ['WORKER', 'STATE', 'PID', 'UP', 'RESTARTS', 'PER MIN', 'DIRECTIVES', 'DETAIL'];

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
  asksAgent(workers.command('stop'))
    .description(
      'end a worker and keep it stopped until `ygg workers start`, also over reloads and restarts of the agent',
    )
    .argument('<name>', 'the name of its executable')
    .action(async (name: string, flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const { wasStopped, problem } = await client.stopWorker(name);
        tellProblem(problem, 'it is stopped, but only until the agent ends');
        if (flags.json === true)
          output.json({ worker: name, stopped: true, was_stopped: wasStopped, problem: problem || null });
        else output.line(wasStopped ? `${name} was stopped already` : `${name} stopped`);
      });
    });
  asksAgent(workers.command('start'))
    .description('start a worker that was stopped, or that waits for its next try')
    .argument('<name>', 'the name of its executable')
    .action(async (name: string, flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const { wasRunning, problem } = await client.startWorker(name);
        tellProblem(problem, 'it is started, but stopped again when the agent restarts');
        if (flags.json === true)
          output.json({ worker: name, started: true, was_running: wasRunning, problem: problem || null });
        else output.line(wasRunning ? `${name} runs already` : `${name} is being started`);
      });
    });
  asksAgent(workers.command('release'))
    .description('take a handler from the worker that has it, so that another one may register it')
    .argument('<handler>', 'the directive')
    .action(async (handler: string, flags: AdminFlags) => {
      await withAgent(flags, async (client, output) => {
        const { worker, wasRegistered } = await client.releaseHandler(handler);
        if (flags.json === true) output.json({ handler, worker, was_registered: wasRegistered });
        else output.line(`${handler} is free: whichever worker registers it next gets it (${worker} had it)`);
      });
    });
  addWorkerLogsCommand(workers);
}

/** What was done holds, but not for ever. */
function tellProblem(problem: string, consequence: string): void {
  if (problem !== '') process.stderr.write(`ygg: ${consequence}: ${printable(problem)}\n`);
}

export function workerRows(workers: readonly Worker[], now: number): readonly (readonly Cell[])[] {
  return workers.map(({ name, state, pid, startedAt, restarts, perMinute, directives, detail }) => [
    name,
    state,
    pid === 0 ? '-' : pid,
    startedAt === 0n ? '-' : span(now - Number(startedAt)),
    restarts,
    perMinute,
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
  delivered,
  perMinute,
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
    delivered,
    per_minute: perMinute,
  };
}
