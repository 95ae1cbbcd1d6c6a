/**
 * bash, zsh and fish as a person has them: on a pseudo-terminal, with nothing of this machine's own settings. `complete`
 * types a line and a TAB, and tells what the line has become.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Signal } from '../../src/signal/index.js';

const PATIENCE_MS = 30_000;
const TAB = '\t';
/** Bound to what shows the line; and what empties it. */
const SHOW = '\u0007';
const EMPTY = '\u0015';

/** Why a shell's tests cannot run here, or false. */
export function shellMissing(shell: string): string | false {
  return spawnSync(shell, ['-c', 'true']).error === undefined ? false : `${shell} is not installed`;
}

export class TypedShell implements AsyncDisposable {
  #heard = '';
  readonly #more = new Signal<string>('more');

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#heard += text;
      this.#more.emit(this.#heard);
    });
  }

  /** Starts it with `setup`, shell commands of a file in `dir`, and waits until it listens. */
  static async start(shell: 'bash' | 'zsh', dir: string, setup: string, path: string): Promise<TypedShell> {
    const file = join(dir, `setup.${shell}`);
    await writeFile(file, `${setup}\n${REPORT[shell]}\n`);
    const command = { bash: `bash --noprofile --rcfile ${file} -i`, zsh: 'zsh -f -i' }[shell];
    const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: path, HOME: dir, TERM: 'vt100', LC_ALL: 'C.UTF-8', PS1: '% ' },
    });
    const typed = new TypedShell(child);
    if (shell === 'zsh') child.stdin.write(` source ${file}\r`);
    await typed.#line(/is list[e]ning/);
    return typed;
  }

  /** The line after this was typed and TAB pressed; with two TABs the menu is in what was heard meanwhile. */
  async complete(text: string, tabs = 1): Promise<{ readonly line: string; readonly heard: string }> {
    this.#heard = '';
    this.child.stdin?.write(text + TAB.repeat(tabs) + SHOW);
    const line = await this.#line(/LINE\[(.*)\]ENIL/);
    const heard = this.#heard;
    this.child.stdin?.write(EMPTY);
    return { line, heard };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }

  async #line(pattern: RegExp): Promise<string> {
    const past = pattern.exec(this.#heard);
    const found =
      past ??
      pattern.exec(
        await this.#more
          .next(AbortSignal.timeout(PATIENCE_MS), (heard) => pattern.test(heard))
          .catch((cause: unknown) => {
            throw new Error(`the shell shows nothing like ${String(pattern)}:\n${this.#heard}`, { cause });
          }),
      );
    return found?.[1] ?? '';
  }
}

/** Shows the line at ^G, without asking the terminal for anything. */
const REPORT = {
  bash: `
bind 'set enable-bracketed-paste off'
bind 'set completion-query-items 0'
bind 'set page-completions off'
show() { printf '\\nLINE[%s]ENIL\\n' "$READLINE_LINE"; }
bind -x '"\\C-g": show'
echo "bash is list""ening"`,
  zsh: `
unset zle_bracketed_paste
show() { print -r -- $'\\n'"LINE[$BUFFER]ENIL" }
zle -N show
bindkey -e
bindkey '^G' show
LISTMAX=0
echo "zsh is list""ening"`,
};
