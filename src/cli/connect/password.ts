/** Secrets from where other users cannot see them: a file, or the terminal without echo. Never an argument's value. */
import type { ReadStream } from 'node:tty';
import { AgentError } from '../../errors.js';
import { readNamed } from './files.js';
import { Interrupted } from './interrupt.js';

const CTRL_C = '\u0003';
const CTRL_D = '\u0004';
const CTRL_U = '\u0015';
const BACKSPACES = ['\u007f', '\b'];
const LONGEST = 1024;

/** The password of a file's first line. Throws `connect.file`, `connect.usage`. */
export async function passwordFrom(file: string): Promise<string> {
  const text = (await readNamed(file)).bytes.toString('utf8').replace(/\r?\n$/, '');
  if (text === '' || /[\r\n\0]/.test(text))
    throw new AgentError('connect.usage', `${file} must hold the password in one line, and nothing else`);
  return text;
}

/** Lines of a file, without blanks and comments. */
export async function linesFrom(file: string): Promise<readonly string[]> {
  const text = (await readNamed(file)).bytes.toString('utf8');
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Asks on the terminal, with nothing shown of what is typed. Throws `connect.usage` where there is no terminal. */
export async function askPassword(question: string, input: ReadStream = process.stdin): Promise<string> {
  if (!input.isTTY)
    throw new AgentError(
      'connect.usage',
      'there is no terminal to ask for the password: give it with --password-file FILE',
    );
  // Before the question: who reads it may type at once.
  input.setRawMode(true);
  process.stderr.write(question);
  input.setEncoding('utf8');
  let heard: ((chunk: string) => void) | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      let typed: readonly string[] = [];
      heard = (chunk) => {
        for (const letter of chunk) {
          if (letter === '\r' || letter === '\n') resolve(typed.join(''));
          else if (letter === CTRL_C || letter === CTRL_D) reject(new Interrupted('SIGINT'));
          else if (letter === CTRL_U) typed = [];
          else if (BACKSPACES.includes(letter)) typed = typed.slice(0, -1);
          else if (letter >= ' ' && typed.length < LONGEST) typed = [...typed, letter];
        }
      };
      input.on('data', heard);
      // The terminal went away.
      input.once('end', () => reject(new Interrupted('SIGHUP')));
    });
  } finally {
    if (heard !== undefined) input.removeListener('data', heard);
    input.setRawMode(false);
    input.pause();
    process.stderr.write('\n');
  }
}
