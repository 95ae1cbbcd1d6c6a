/** `ygg completion`: the script that a shell completes `ygg` and `yggd` with, and what that script asks at a TAB. */
import { Argument, type Command } from 'commander';
import { daemonCommand } from '../config/index.js';
import { readTree } from './command-tree.js';
import { bashScript } from './completion/bash.js';
import { fishScript } from './completion/fish.js';
import { liveValues } from './completion/live.js';
import { completionTable } from './completion/table.js';
import { LIVE, type Live } from './completion/values.js';
import { zshScript } from './completion/zsh.js';
import { endWithReader, Output } from './output.js';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };
type Shell = keyof typeof SCRIPTS;

/** A person waits for it. */
const PATIENCE_MS = 1_000;

export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('print what makes a shell complete ygg and yggd')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      `
To have it in each new shell (the .deb has put it in place already):
  bash:  ygg completion bash > ~/.local/share/bash-completion/completions/ygg, or source <(ygg completion bash) in ~/.bashrc
  zsh:   ygg completion zsh > _ygg in a directory of $fpath
  fish:  ygg completion fish > ~/.config/fish/completions/ygg.fish`,
    )
    .action((shell: Shell) => {
      endWithReader();
      new Output().bytes(Buffer.from(completionScript(shell, program)));
    });
  program
    .command('__complete', { hidden: true })
    .addArgument(new Argument('<what>').choices(LIVE))
    .argument('[word...]')
    .passThroughOptions()
    .action(async (what: Live, line: readonly string[]) => {
      const output = new Output();
      // An agent that stands still keeps nobody waiting.
      const end = setTimeout(() => process.exit(0), PATIENCE_MS);
      for (const { value, doc } of await liveValues(what, line).catch(() => [])) output.line(`${value}\t${doc}`);
      clearTimeout(end);
    });
}

/** The script for a shell, made from the commands as they are. */
export function completionScript(shell: Shell, program: Command): string {
  const daemon = daemonCommand();
  const table = completionTable([readTree(program), readTree(daemon)]);
  return SCRIPTS[shell](table, [program.name(), daemon.name()]);
}
