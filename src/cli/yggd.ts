/**
 * The program `yggd`: reads the settings, tells what is wrong with them or runs the daemon, and ends the process. It
 * alone sets the exit code.
 */
import { errorText, AgentError } from '../errors.js';
import { checkCredentials, describeProblem, loadSettings, type Problem } from '../config/index.js';
import { VERSION } from '../version.js';
import { runDaemon } from './daemon.js';

const EX_SOFTWARE = 70;
const EX_CONFIG = 78;

void start();

async function start(): Promise<void> {
  process.exitCode = await main();
}

async function main(): Promise<number> {
  const loaded = await loadSettings();
  switch (loaded.kind) {
    case 'help':
      process.stdout.write(loaded.text);
      return 0;
    case 'version':
      process.stdout.write(`yggd ${VERSION}\n`);
      return 0;
    case 'invalid':
      tell('warning', loaded.warnings);
      tell('error', loaded.problems);
      return EX_CONFIG;
    case 'ok': {
      tell('warning', loaded.warnings);
      const checked = await checkCredentials(loaded.settings);
      if (checked.kind === 'invalid') {
        tell('error', checked.problems);
        return EX_CONFIG;
      }
      tell('warning', checked.warnings);
      if (loaded.isCheckOnly) {
        process.stdout.write(`${loaded.file ?? 'the settings (no file was found)'}: no problems found\n`);
        return 0;
      }
      return run({ ...loaded, credentials: checked.credentials });
    }
  }
}

async function run(loaded: Parameters<typeof runDaemon>[0]): Promise<number> {
  try {
    return await runDaemon(loaded);
  } catch (error) {
    process.stderr.write(`yggd: ${errorText(error)}\n`);
    if (error instanceof AgentError) return error.exitCode;
    // A fault of ours: whoever reports it needs to say where it was.
    if (error instanceof Error && error.stack !== undefined) process.stderr.write(`${error.stack}\n`);
    return EX_SOFTWARE;
  }
}

function tell(kind: 'warning' | 'error', problems: readonly Problem[]): void {
  for (const problem of problems) process.stderr.write(`yggd: ${kind}: ${describeProblem(problem)}\n`);
}
