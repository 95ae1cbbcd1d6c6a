/** `ygg doctor`: what is wrong with the agent of this machine, and what to do about it. */
import { InvalidArgumentError, type Command } from 'commander';
import { asksBroker, brokerArguments, timeoutArgument, type BrokerFlags } from './broker-command.js';
import type { Diagnosis } from './doctor/doctor.js';
import { endWithReader, Output } from './output.js';
import { VERSION } from '../version.js';

export interface DoctorFlags extends BrokerFlags {
  readonly runtimeDir?: string;
  readonly configDir?: string;
  readonly stateDir?: string;
  readonly workerDir?: string;
  readonly timeout: number;
  readonly backlog: number;
}

const TIMEOUT_MS = 10_000;
/** Enough to see mosquitto's 20 in flight. */
const BACKLOG = 64;
const LARGEST_BACKLOG = 20_000;
/** Whatever is silent by then is given up, and what was seen is told. */
const LONGEST_MS = 120_000;
/** What cannot be given up, such as a file on a host that is gone, holds up nobody longer than this. */
const HUNG_MS = LONGEST_MS + 10_000;
/** 128 + SIGINT. */
export const INTERRUPTED = 130;
const CLEAR_LINE = '\r\u001b[K';

/** Gives a command the flags that say which agent is looked at, and how. */
export function asksDoctor(command: Command): Command {
  return asksBroker(command)
    .option('--runtime-dir <path>', 'of the agent to look at (default: as its settings say, else /run/yggdrasil)')
    .option('--config-dir <path>', 'directory of its configuration')
    .option('--state-dir <path>', 'directory of its state')
    .option('--worker-dir <path>', 'directory of its workers')
    .option('--timeout <time>', 'longest wait for each step towards a broker', timeoutArgument, TIMEOUT_MS)
    .option('--backlog <n>', 'messages to try the broker’s queue with', backlogArgument, BACKLOG);
}

export function addDoctorCommand(program: Command): void {
  asksDoctor(program.command('doctor'))
    .description('look for what is wrong: configuration, broker, certificates, workers, disk, clock, service')
    .addHelpText(
      'after',
      '\nExit code: 0 all is well, or there are warnings only; 1 something failed. Nothing is changed, and the agent’s place\nat the broker is never taken.',
    )
    .action(async (flags: DoctorFlags) => {
      endWithReader();
      process.once('SIGINT', () => {
        if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE);
        process.exit(INTERRUPTED);
      });
      const output = new Output();
      const { findings } = await examined(flags);
      const { reportJson, reportLines, reportText } = await import('./doctor/report.js');
      if (flags.json === true) output.json(reportJson(findings, { version: VERSION, time: new Date().toISOString() }));
      else if (output.isTerminal) output.bytes(Buffer.from(reportText(findings, terminal())));
      else reportLines(findings, output);
      // A question to the resolver cannot be taken back, and would hold up the end.
      process.exit(findings.some(({ outcome }) => outcome === 'failed') ? 1 : 0);
    });
}

/** Looks at everything; on a terminal it says meanwhile that it does. */
export async function examined(flags: DoctorFlags, scope?: AbortSignal): Promise<Diagnosis> {
  const { diagnose } = await import('./doctor/doctor.js');
  const limit = new AbortController();
  const onAbort = (): void => limit.abort(scope?.reason);
  scope?.addEventListener('abort', onAbort, { once: true });
  const timer = setTimeout(() => limit.abort(new Error('it took too long')), LONGEST_MS);
  let hung: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    hung = setTimeout(() => reject(new Error('a file or program of this machine does not answer')), HUNG_MS);
  });
  const isShown = process.stderr.isTTY && process.stdout.isTTY;
  if (isShown) process.stderr.write('looking …');
  try {
    const { runtimeDir, timeout, backlog } = flags;
    const options = { argv: argumentsOf(flags), runtimeDir, timeout, backlog };
    const diagnosis = await Promise.race([diagnose(options, limit.signal), late]);
    scope?.throwIfAborted();
    return diagnosis;
  } finally {
    if (isShown) process.stderr.write(CLEAR_LINE);
    clearTimeout(timer);
    clearTimeout(hung);
    scope?.removeEventListener('abort', onAbort);
  }
}

function argumentsOf(flags: DoctorFlags): readonly string[] {
  const { configDir, stateDir, workerDir } = flags;
  const directories = Object.entries({ 'config-dir': configDir, 'state-dir': stateDir, 'worker-dir': workerDir });
  return [
    ...brokerArguments(flags),
    ...directories.flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag}=${value}`])),
  ];
}

function terminal(): { readonly isColoured: boolean; readonly columns: number | undefined } {
  const isColoured = !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';
  return { isColoured, columns: process.stdout.columns };
}

function backlogArgument(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 2 || count > LARGEST_BACKLOG)
    throw new InvalidArgumentError(`a whole number from 2 to ${LARGEST_BACKLOG}.`);
  return count;
}
