/**
 * `ygg worker run`: makes any program a worker. Each message starts the program once: the content on standard input,
 * the rest in the environment, standard output is the answer.
 *
 * How a run ends decides: exit 0: the answer. Exit 75 (EX_TEMPFAIL of sysexits), or a program that cannot be started:
 * the agent delivers the message again. A stop of the worker in its midst: the same, and it counts as no attempt. Any
 * other end: an answer with `status: error`, since a run that failed for a reason of its own would only fail again.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { errnoOf, errorText } from '../errors.js';
import type { Millis } from '../time.js';
import {
  type Handler,
  type HandlerContext,
  type ProgramResult,
  type Reply,
  runProgram,
  serve,
  type ServeOptions,
  type WorkerMessage,
} from '../worker/index.js';

export interface WorkerRunOptions extends ServeOptions {
  readonly program: string;
  readonly args: readonly string[];
  /** How long one run may take; default: as long as it likes. */
  readonly timeout?: Millis;
  /** The longest answer, in bytes; a program that writes more is ended. Default 1 MiB. */
  readonly outputLimit?: number;
  /** Content and answer are JSON strings outside, plain text for the program. */
  readonly isText?: boolean;
  /** Default: this process's environment, which is what the agent gave. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const OUTPUT_LIMIT = 1024 * 1024;
/** sysexits(3): a temporary failure, the user is invited to retry. */
const EX_TEMPFAIL = 75;
/** Of standard error, its end, in the metadata of an error answer. */
const STDERR_KEPT = 4_096;

/** Runs the worker until it is told to stop. Rejects as `serve` does for options that cannot work. */
export function runWorker(options: WorkerRunOptions): Promise<void> {
  return serve(options, programHandler(options));
}

/** Registers `run` under the given `worker` command. */
export function addWorkerCommand(program: Command): void {
  const worker =
    program.commands.find((command) => command.name() === 'worker') ??
    program.command('worker').description('make and run workers');
  worker
    .command('run')
    .description('make a program a worker: content on stdin, metadata in the environment, stdout is the answer')
    .requiredOption('--handler <name>', 'the directive to handle')
    .option('--feature <key=value>', 'a feature to announce; may be repeated', addFeature, {})
    .option('--detached-content', 'give the program the body behind the URL in the content')
    .option('--concurrency <n>', 'how many runs at once (default: 1)', positiveInteger)
    .option('--timeout <seconds>', 'end a run that takes longer (default: none)', positiveNumber)
    .option('--output-limit <bytes>', `the longest answer (default: ${OUTPUT_LIMIT})`, positiveInteger)
    .option('--text', 'the program reads and writes plain text; outside it is a JSON string')
    .argument('<program>', 'the program, after --')
    .argument('[args...]', 'its arguments')
    .addHelpText('after', HELP)
    .action(async (file: string, args: string[], given: RunFlags) => {
      await runWorker({
        handler: given.handler,
        program: file,
        args,
        features: given.feature,
        ...(given.detachedContent === undefined ? {} : { detachedContent: given.detachedContent }),
        ...(given.concurrency === undefined ? {} : { concurrency: given.concurrency }),
        ...(given.timeout === undefined ? {} : { timeout: given.timeout * 1_000 }),
        ...(given.outputLimit === undefined ? {} : { outputLimit: given.outputLimit }),
        ...(given.text === undefined ? {} : { isText: given.text }),
      });
    });
}

interface RunFlags {
  readonly handler: string;
  readonly feature: Readonly<Record<string, string>>;
  readonly detachedContent?: boolean;
  readonly concurrency?: number;
  readonly timeout?: number;
  readonly outputLimit?: number;
  readonly text?: boolean;
}

const HELP = `
A worker is a script of two lines in the agent's worker directory:
  #!/bin/sh
  exec ygg worker run --handler shout -- /usr/bin/tr a-z A-Z

The program finds YGG_MESSAGE_ID, YGG_DIRECTIVE, YGG_RESPONSE_TO, YGG_METADATA_JSON and one YGG_METADATA_<NAME> for each
metadata entry in its environment. Exit 0: stdout is the answer. Exit 75: the message comes again later. Any other end: an
error answer with the exit code and the end of stderr in its metadata.`;

function programHandler(options: WorkerRunOptions): Handler {
  const outputLimit = options.outputLimit ?? OUTPUT_LIMIT;
  return async (message, context) => {
    const result = await run(options, message, context, outputLimit);
    if (context.signal.aborted && result.signal !== null) {
      throw new Error(`${options.program} was ended: ${errorText(context.signal.reason)}`);
    }
    if (result.exitCode === EX_TEMPFAIL && !result.isTimedOut) {
      throw new Error(`${options.program} asks for another try (exit ${EX_TEMPFAIL}): ${tail(result.stderr)}`);
    }
    if (result.exitCode === 0 && !result.isTimedOut && !result.isStdoutTruncated) {
      if (result.stderr.length > 0) context.log.debug('program.stderr', tail(result.stderr));
      return { content: options.isText === true ? jsonText(result.stdout) : result.stdout };
    }
    const reply = errorReply(options, result, outputLimit);
    context.log.warn('program.failed', reply.metadata?.['error'] ?? 'failed', { stderr: tail(result.stderr) });
    return reply;
  };
}

async function run(
  options: WorkerRunOptions,
  message: WorkerMessage,
  context: HandlerContext,
  outputLimit: number,
): Promise<ProgramResult> {
  try {
    return await runProgram({
      file: options.program,
      args: options.args,
      env: environment(options.env ?? process.env, message),
      input: options.isText === true ? plainText(message) : message.content,
      outputLimit,
      isLimitFatal: true,
      signal: context.signal,
      ...(options.timeout === undefined ? {} : { timeout: options.timeout }),
    });
  } catch (cause) {
    const hint = errnoOf(cause) === 'E2BIG' ? ' (metadata too large for an environment)' : '';
    throw new Error(`cannot run ${options.program}: ${errorText(cause)}${hint}`, { cause });
  }
}

/**
 * The worker's own environment and the message's. Every name a message can choose stands behind a prefix, so that it
 * can set neither PATH nor LD_PRELOAD. Two names that look alike after the mapping share a variable;
 * YGG_METADATA_JSON is exact.
 */
export function environment(
  own: Readonly<Record<string, string | undefined>>,
  message: Pick<WorkerMessage, 'messageId' | 'directive' | 'responseTo' | 'metadata'>,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(own)) if (value !== undefined) env[name] = value;
  for (const [name, value] of Object.entries(message.metadata)) {
    env[`YGG_METADATA_${name.toUpperCase().replace(/[^A-Z0-9_]/g, '_')}`] = withoutNul(value);
  }
  return {
    ...env,
    YGG_MESSAGE_ID: withoutNul(message.messageId),
    YGG_DIRECTIVE: withoutNul(message.directive),
    YGG_RESPONSE_TO: withoutNul(message.responseTo),
    YGG_METADATA_JSON: JSON.stringify(message.metadata),
  };
}

/** A NUL cannot stand in an environment; spawn would throw. */
function withoutNul(value: string): string {
  return value.replaceAll('\0', '');
}

/** In the form of the agent's own error answers (PROTOCOL section 1), with what the program said. */
function errorReply(options: WorkerRunOptions, result: ProgramResult, outputLimit: number): Reply {
  const metadata: Record<string, string> = {
    status: 'error',
    'error-code': result.isTimedOut ? 'timed-out' : result.isStdoutTruncated ? 'output-too-large' : 'program-failed',
    error: `${options.program} ${endOf(options, result, outputLimit)}`,
    stderr: tail(result.stderr),
  };
  if (result.exitCode !== null) metadata['exit-code'] = String(result.exitCode);
  if (result.signal !== null) metadata['signal'] = result.signal;
  return { content: 'null', metadata };
}

function endOf(options: WorkerRunOptions, result: ProgramResult, outputLimit: number): string {
  if (result.isTimedOut) return `took longer than ${(options.timeout ?? 0) / 1_000} s`;
  if (result.isStdoutTruncated) return `wrote more than ${outputLimit} bytes`;
  return result.signal === null ? `ended with exit code ${result.exitCode ?? ''}` : `was killed by ${result.signal}`;
}

function tail(bytes: Buffer): string {
  return bytes.subarray(-STDERR_KEPT).toString('utf8').trim();
}

function jsonText(bytes: Buffer): string {
  return JSON.stringify(bytes.toString('utf8'));
}

/** The text of a JSON string; any other content as it is. */
function plainText(message: WorkerMessage): Buffer {
  if (message.content.length === 0) return message.content;
  const value = message.json();
  return typeof value === 'string' ? Buffer.from(value) : message.content;
}

function addFeature(text: string, known: Readonly<Record<string, string>>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('A feature is KEY=VALUE.');
  return { ...known, [text.slice(0, at)]: text.slice(at + 1) };
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('It must be a positive integer.');
  return value;
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError('It must be a positive number.');
  return value;
}
