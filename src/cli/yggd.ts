/**
 * The program `yggd`: reads the settings, tells what is wrong with them or runs the daemon, and ends the process. It
 * alone sets the exit code.
 */
import { errorText, AgentError } from '../errors.js';
import { loadSettings } from '../config/index.js';
import { VERSION } from '../version.js';
import { checkConfig, EX_CONFIG, findingLines, soundLine } from './check-config.js';
import { runDaemon } from './daemon.js';

const EX_SOFTWARE = 70;

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
    case 'ok': {
      const check = await checkConfig(loaded);
      for (const line of findingLines(check)) process.stderr.write(`${line}\n`);
      const { sound } = check;
      if (sound === undefined) return EX_CONFIG;
      if (!sound.isCheckOnly) return run(sound);
      process.stdout.write(`${soundLine(sound)}\n`);
      return 0;
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
