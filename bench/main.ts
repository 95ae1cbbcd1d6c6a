/**
 * `npm run bench`: starts a broker, the built agent and its workers, measures the rows that were asked for and prints
 * one report. Ends with 1 when messages were lost or the agent died, with 64 for a wrong flag; never because of a time.
 */
import { setMaxListeners } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { QUIET_BROKER } from '../test/support/flow.js';
import { mosquittoMissing, startMosquitto } from '../test/support/mosquitto.js';
import { ROOT } from '../test/support/yggd.js';
import { type Flags, parseFlags, USAGE } from './flags.js';
import { describeMachine } from './machine.js';
import { buildPrograms } from './programs.js';
import { reportOf } from './report.js';
import { keepResults, resultsOf } from './results.js';
import { allRows, chooseRows, type Row } from './rows.js';
import { runRows } from './run.js';

const EX_USAGE = 64;
const EX_INTERRUPTED = 130;

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const parsed = parseFlags(words);
  if (parsed.kind === 'wrong') return refuse(`${parsed.text}\n\n${USAGE}`);
  const { flags } = parsed;
  const every = allRows(flags.quick);
  const choice = chooseRows(every, flags.only);
  if (flags.help) say(USAGE);
  else if (choice.kind === 'unknown') return refuse(`there is no row "${choice.name}"; --list names them`);
  else if (flags.list) say(choice.rows.map(listed).join('\n'));
  else if (!existsSync(join(ROOT, 'dist/yggd.js'))) return refuse('there is no dist/yggd.js: npm run build makes it');
  else if (mosquittoMissing !== false) return refuse(`${mosquittoMissing}: apt-get install mosquitto`);
  else return await bench(choice.rows, flags);
  return 0;
}

async function bench(rows: readonly Row[], flags: Flags): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-'));
  // What is borrowed from the tests makes its directories here, too.
  process.env['TMPDIR'] = directory;
  const interrupted = new AbortController();
  // One listener for each row.
  setMaxListeners(0, interrupted.signal);
  const stop = (signal: NodeJS.Signals): void => interrupted.abort(new Error(signal));
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.once(signal, stop);
  try {
    return await measure(rows, flags, directory, interrupted.signal);
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    process.stderr.write('interrupted before anything was measured; all is stopped\n');
    return EX_INTERRUPTED;
  } finally {
    for (const signal of signals) process.off(signal, stop);
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(rows: readonly Row[], flags: Flags, directory: string, scope: AbortSignal): Promise<number> {
  await buildPrograms(directory);
  if (flags.profile !== undefined) await mkdir(flags.profile, { recursive: true });
  const machine = await describeMachine(directory);
  await using broker = await startMosquitto({ config: QUIET_BROKER });
  const profile = flags.profile === undefined ? undefined : resolve(flags.profile);
  const ground = { broker, programs: directory, profile, scope };
  const { measured, failed, isInterrupted } = await runRows(rows, ground, flags, (line) =>
    process.stderr.write(`${line}\n`),
  );
  const at = new Date().toISOString();
  const results = resultsOf(measured, machine, at);
  say(measured.length > 0 ? reportOf(results, rows) : 'nothing was measured');
  for (const { name, problem } of failed) say(`failed: ${name}: ${problem}`);
  if (flags.save && !isInterrupted && measured.length > 0) {
    const path = await keepResults(
      at.slice(0, 10),
      results,
      (all) => `# ${at.slice(0, 10)}\n\n${reportOf(all, allRows(false))}`,
    );
    say(`kept in ${path}.json and .md`);
  }
  if (profile !== undefined) say(`profiles are in ${profile}`);
  if (isInterrupted) {
    process.stderr.write('interrupted; all is stopped\n');
    return EX_INTERRUPTED;
  }
  return failed.length > 0 ? 1 : 0;
}

function listed(row: Row): string {
  return row.kind === 'scenario' ? `${row.name}  ${row.about}` : row.name;
}

function refuse(text: string): number {
  process.stderr.write(`bench: ${text}\n`);
  return EX_USAGE;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
