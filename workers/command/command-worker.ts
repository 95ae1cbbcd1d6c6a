#!/usr/bin/env node
/**
 * The command worker: runs the commands that `commands.toml` in the agent's configuration directory names, and no
 * other. The content selects one and gives its arguments; the answer tells how it ended. The file is read for each
 * message, so an edit needs no restart.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  endWithError,
  errorText,
  type HandlerContext,
  jsonReply,
  type Reply,
  runProgram,
  serve,
  stderrLog,
} from '../../src/worker/index.js';
import { type Commands, parseCommands, selectCommand } from './commands.js';

const FILE = join(process.env['YGG_CONFIG_DIR'] ?? '/etc/yggdrasil', 'commands.toml');
const log = stderrLog();

const commands = await readCommands();
if (commands.kind === 'invalid') log.error('command.config', commands.problem);

await serve({ handler: 'command', features: { version: '1' }, log }, async (message, context) => {
  const current = await readCommands();
  if (current.kind === 'invalid') return failure('configuration', current.problem);
  let content: unknown;
  try {
    content = message.json();
  } catch (error) {
    return failure('malformed', errorText(error));
  }
  const selection = selectCommand(current.commands, content);
  if (selection.kind === 'refused') return failure(selection.code, selection.problem);
  return await run(selection, context);
}).catch(endWithError);

async function run(
  { command, file, args }: Extract<ReturnType<typeof selectCommand>, { kind: 'run' }>,
  context: HandlerContext,
): Promise<Reply> {
  context.log.info('command.run', 'running a command', { file });
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };
  // By YGG_SOCKET_ADDR the agent finds what a killed worker left behind.
  const mark = { YGG_SOCKET_ADDR: process.env['YGG_SOCKET_ADDR'] ?? '' };
  let result;
  try {
    result = await runProgram({
      file,
      args,
      env: { ...env, ...command.env, ...mark },
      cwd: command.cwd,
      timeout: command.timeout * 1_000,
      outputLimit: command['output-limit'],
      signal: context.signal,
    });
  } catch (error) {
    return failure('not-started', `cannot run ${file}: ${errorText(error)}`);
  }
  // Broken off by our own stop: no answer, so that the agent gives the message to the next start of this worker. Or by its
  // sender, who cancelled it: then it ends so.
  if (context.signal.aborted && result.signal !== null) {
    throw new Error(`${file} was ended: ${errorText(context.signal.reason)}`);
  }
  return jsonReply({
    exit_code: result.exitCode,
    signal: result.signal,
    stdout: result.stdout.toString('utf8'),
    stderr: result.stderr.toString('utf8'),
    truncated: result.isStdoutTruncated || result.isStderrTruncated,
    timed_out: result.isTimedOut,
    duration_ms: result.duration,
  });
}

async function readCommands(): Promise<Commands> {
  const hint = 'the command worker runs only what this file names; commands.example.toml shows its form';
  try {
    const { mode } = await stat(FILE);
    if ((mode & 0o002) !== 0) return { kind: 'invalid', problem: `${FILE} can be written by everybody: chmod o-w it` };
    const parsed = parseCommands(await readFile(FILE, 'utf8'));
    return parsed.kind === 'invalid' ? { kind: 'invalid', problem: `${FILE}: ${parsed.problem}` } : parsed;
  } catch (error) {
    return { kind: 'invalid', problem: `cannot read ${FILE} (${errorText(error)}): ${hint}` };
  }
}

/** One clear answer, in the form of the agent's own error answers. */
function failure(code: string, text: string): Reply {
  log.warn('command.refused', text, { error_code: code });
  return jsonReply({ error: text }, { status: 'error', 'error-code': code, error: text });
}
