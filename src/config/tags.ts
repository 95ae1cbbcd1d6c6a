/**
 * tags.toml: string → string. A value of another kind becomes its text, as in the original, since a server that meets
 * a tag that is not a string fails; lists and tables are refused.
 */
import { TomlDate } from 'smol-toml';
import { describeProblem } from './problem.js';
import { describeToml, parseToml } from './toml-file.js';

export type TagsResult =
  | { readonly kind: 'ok'; readonly tags: Readonly<Record<string, string>> }
  | { readonly kind: 'invalid'; readonly problems: readonly string[] };

/** Reads the text of a tags file; `source` is its name in problems. */
export function parseTags(text: string, source: string): TagsResult {
  const file = parseToml(text, source);
  if (file.kind === 'invalid') return { kind: 'invalid', problems: [describeProblem(file.problem)] };
  if (file.kind === 'missing') return { kind: 'ok', tags: {} };
  const tags = new Map<string, string>();
  const problems: string[] = [];
  for (const { key, value, line } of file.entries) {
    const tag = tagText(value);
    if (tag !== undefined) tags.set(key, tag);
    else {
      const place = { source, ...(line === undefined ? {} : { line }) };
      problems.push(
        describeProblem({
          code: 'config.invalid',
          text: `the tag \`${key}\` must be text, not ${describeToml(value)}`,
          ...place,
        }),
      );
    }
  }
  return problems.length > 0 ? { kind: 'invalid', problems } : { kind: 'ok', tags: Object.fromEntries(tags) };
}

function tagText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof TomlDate) return value.toISOString().replace(/\.000(?=Z|[+-]|$)/, '');
  return undefined;
}
