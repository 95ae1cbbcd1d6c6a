/** The guides in docs/guides as what they tell a person to do: files to write and commands to type, in their order. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from './yggd.js';

export type Step =
  | { readonly kind: 'file'; readonly path: string; readonly text: string }
  | { readonly kind: 'commands'; readonly text: string };

/**
 * The fenced blocks of a guide: those that begin with `sh` are typed, those whose first line names a path (`conf`,
 * `toml` or `sh-file` before it) are written there. Blocks that are indented are examples.
 */
export async function stepsOf(guide: string): Promise<readonly Step[]> {
  const text = await readFile(join(ROOT, 'docs/guides', guide), 'utf8');
  return [...text.matchAll(/^```(.*)\n([^]*?)^```$/gm)].map(([, head = '', body = '']): Step => {
    const [language, path] = head.split(' ');
    if (language === 'sh') return { kind: 'commands', text: body };
    if (path?.startsWith('/') === true) return { kind: 'file', path, text: body };
    throw new Error(`${guide} has a block that is neither commands nor a file: ${head}`);
  });
}
