/**
 * The commands that an operator allows, and how a request becomes an argument list. Pure. There is no shell: a
 * placeholder is filled inside the one element where it stands, and a value that its declaration does not allow makes
 * no argument list at all.
 */
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';

const seconds = z.number().positive().max(86_400);
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be a name: letters, digits, . _ -');

const argument = z
  .strictObject({
    /** A regular expression that the whole value must match. */
    pattern: z.string().optional(),
    /** Or: the values allowed. */
    choices: z.array(z.string()).nonempty().optional(),
    'max-length': z.int().positive().max(65_536).default(256),
    default: z.string().optional(),
    /** A value that begins with `-` would be read as an option. */
    'allow-dash': z.boolean().default(false),
  })
  .refine((a) => (a.pattern === undefined) !== (a.choices === undefined), 'needs either `pattern` or `choices`')
  .refine((a) => a.pattern === undefined || compile(a.pattern) !== undefined, '`pattern` is not a regular expression');

const command = z
  .strictObject({
    /** The argument list; the first element is the program's absolute path. */
    run: z.array(z.string()).nonempty(),
    description: z.string().optional(),
    timeout: seconds.default(60),
    /** Bytes of standard output, and as many of standard error. */
    'output-limit': z.int().positive().max(1_048_576).default(65_536),
    cwd: z.string().startsWith('/', 'must be an absolute path').default('/'),
    env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}),
    arguments: z.record(name, argument).default({}),
  })
  .check(({ value, issues }) => {
    for (const message of placeholderProblems(value.run, Object.keys(value.arguments))) {
      issues.push({ code: 'custom', message, input: value.run, path: ['run'] });
    }
  });

const file = z.strictObject({ commands: z.record(name, command) });
const request = z.strictObject({
  command: z.string(),
  arguments: z.record(z.string(), z.union([z.string(), z.int()])).nullish(),
});

export type Command = z.infer<typeof command>;
type Argument = z.infer<typeof argument>;

export type Commands =
  | { readonly kind: 'commands'; readonly commands: ReadonlyMap<string, Command> }
  | { readonly kind: 'invalid'; readonly problem: string };

/** What a request asks for, or why it gets nothing. */
export type Selection =
  | { readonly kind: 'run'; readonly command: Command; readonly file: string; readonly args: readonly string[] }
  | {
      readonly kind: 'refused';
      readonly code: 'malformed' | 'unknown-command' | 'bad-arguments';
      readonly problem: string;
    };

/** Reads the text of a commands file; all problems in one text. */
export function parseCommands(text: string): Commands {
  try {
    const parsed = file.safeParse(parse(text));
    if (parsed.success) return { kind: 'commands', commands: new Map(Object.entries(parsed.data.commands)) };
    return { kind: 'invalid', problem: z.prettifyError(parsed.error) };
  } catch (error) {
    if (error instanceof TomlError) return { kind: 'invalid', problem: error.message };
    throw error;
  }
}

/** Finds the command that a request's content selects and builds its argument list. */
export function selectCommand(commands: ReadonlyMap<string, Command>, content: unknown): Selection {
  const parsed = request.safeParse(content);
  if (!parsed.success) {
    const form = 'the content must be {"command": NAME, "arguments": {NAME: VALUE, …}}';
    return { kind: 'refused', code: 'malformed', problem: form };
  }
  const asked = parsed.data.command;
  const chosen = commands.get(asked);
  if (chosen === undefined) {
    const known = [...commands.keys()].join(', ') || 'none';
    return refuse('unknown-command', `there is no command ${shown(asked)} here; known: ${known}`);
  }
  return fill(asked, chosen, new Map(Object.entries(parsed.data.arguments ?? {})));
}

function fill(asked: string, chosen: Command, given: ReadonlyMap<string, string | number>): Selection {
  const declared = new Map(Object.entries(chosen.arguments));
  for (const key of given.keys()) {
    if (!declared.has(key)) return refuse('bad-arguments', `command "${asked}" has no argument ${shown(key)}`);
  }
  const values = new Map<string, string>();
  for (const [key, rules] of declared) {
    const value = given.get(key) ?? rules.default;
    if (value === undefined) return refuse('bad-arguments', `command "${asked}" needs the argument "${key}"`);
    const problem = valueProblem(String(value), rules);
    if (problem !== undefined) return refuse('bad-arguments', `the argument "${key}" of "${asked}" ${problem}`);
    values.set(key, String(value));
  }
  const [program = '', ...rest] = chosen.run;
  const args = rest.map((element) => element.replace(PLACEHOLDER, (_whole, key: string) => values.get(key) ?? ''));
  return { kind: 'run', command: chosen, file: program, args };
}

function valueProblem(value: string, rules: Argument): string | undefined {
  if (value.length > rules['max-length']) return `is longer than ${rules['max-length']} characters`;
  if (value.includes('\0')) return 'holds a NUL character';
  if (value.startsWith('-') && !rules['allow-dash']) return 'begins with "-"';
  if (rules.choices !== undefined && !rules.choices.includes(value)) return `is none of ${rules.choices.join(', ')}`;
  if (rules.pattern !== undefined && compile(rules.pattern)?.test(value) !== true) {
    return `does not match ${rules.pattern}`;
  }
  return undefined;
}

const PLACEHOLDER = /\{([A-Za-z0-9][A-Za-z0-9._-]*)\}/g;

function placeholderProblems(run: readonly string[], declared: readonly string[]): string[] {
  const [program = '', ...rest] = run;
  const used = new Set(rest.flatMap((element) => [...element.matchAll(PLACEHOLDER)].map((match) => match[1] ?? '')));
  const problems: string[] = [];
  if (!program.startsWith('/')) problems.push(`the program "${program}" must be an absolute path`);
  if (program.match(PLACEHOLDER) !== null) problems.push('the program itself cannot be chosen by an argument');
  if (run.some((element) => element.includes('\0'))) problems.push('an element holds a NUL character');
  for (const key of used) if (!declared.includes(key)) problems.push(`{${key}} is not among the arguments`);
  for (const key of declared) if (!used.has(key)) problems.push(`the argument "${key}" is not used`);
  return problems;
}

/** The pattern for a whole value, or undefined where it is none. */
function compile(pattern: string): RegExp | undefined {
  try {
    return new RegExp(`^(?:${pattern})$`, 'u');
  } catch {
    // A SyntaxError: the caller reports it with the argument's name.
    return undefined;
  }
}

/** A name that came from outside: short, and of the characters that a name of ours may have, more or less. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 64)).replace(/[^\x20-\x7e]/g, '?');
}

function refuse(code: 'unknown-command' | 'bad-arguments', problem: string): Selection {
  return { kind: 'refused', code, problem };
}
