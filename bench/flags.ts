/** The command line of the benchmark: what each flag means, and what is wrong with those that were given. */
import { parseArgs } from 'node:util';

export interface Flags {
  /** Few messages, one round; no time makes it fail. */
  readonly quick: boolean;
  readonly list: boolean;
  readonly help: boolean;
  /** Names or leading parts of names; empty: all rows. */
  readonly only: readonly string[];
  readonly rounds: number;
  /** How long a row is measured at least, and how many messages at least. */
  readonly seconds: number;
  readonly messages: number;
  /** Messages that wait in the rows with a backlog. */
  readonly backlog: number;
  /** How long the idle agent is watched, in seconds. */
  readonly idle: number;
  /** The directory into which the agent writes its profiles. */
  readonly profile: string | undefined;
  /** Keep the results, in bench/results. */
  readonly save: boolean;
}

export type Parsed =
  { readonly kind: 'flags'; readonly flags: Flags } | { readonly kind: 'wrong'; readonly text: string };

export const USAGE = `npm run bench -- [FLAGS]

  --quick            few messages and one round, for CI: prints, and fails only when messages are lost or the agent dies
  --list             names the rows
  --only NAME,…      only these rows; a name or the beginning of one: unary/100B/16, unary/100B, stream, limit-echo
  --rounds N         rounds of each row, whose medians are shown (3)
  --seconds N        how long a row is measured at least (3)
  --messages N       how many messages are measured at least (1)
  --backlog N        messages that wait in the row "backlog" (200000)
  --idle N           how many seconds the idle agent is watched (120)
  --profile DIR      runs the agent with --cpu-prof, which writes into DIR; results are not kept
  --save             keeps the results in bench/results also with --only; a row replaces that of the same day
  --no-save          keeps nothing`;

const OPTIONS = {
  quick: { type: 'boolean' },
  list: { type: 'boolean' },
  help: { type: 'boolean' },
  only: { type: 'string', multiple: true },
  rounds: { type: 'string' },
  seconds: { type: 'string' },
  messages: { type: 'string' },
  backlog: { type: 'string' },
  idle: { type: 'string' },
  profile: { type: 'string' },
  save: { type: 'boolean' },
  'no-save': { type: 'boolean' },
} as const;

/** Parses what follows the program's name. */
export function parseFlags(words: readonly string[]): Parsed {
  try {
    const { values } = parseArgs({ args: [...words], options: OPTIONS, strict: true });
    const quick = values.quick === true;
    const only = (values.only ?? []).flatMap((names) => names.split(',')).filter((name) => name !== '');
    const isWhole = only.length === 0 && !quick && values.profile === undefined;
    if (values.save === true && values['no-save'] === true) throw new Error('--save and --no-save exclude each other');
    if (values.save === true && values.profile !== undefined)
      throw new Error('--save and --profile exclude each other: a profile costs time');
    return {
      kind: 'flags',
      flags: {
        quick,
        list: values.list === true,
        help: values.help === true,
        only,
        rounds: count('rounds', values.rounds, quick ? 1 : 3),
        seconds: positive('seconds', values.seconds, quick ? 0.2 : 3),
        messages: count('messages', values.messages, quick ? 20 : 1),
        backlog: count('backlog', values.backlog, quick ? 1_000 : 200_000),
        idle: positive('idle', values.idle, quick ? 1 : 120),
        profile: values.profile,
        save: values.save ?? (isWhole && values['no-save'] !== true),
      },
    };
  } catch (error) {
    return { kind: 'wrong', text: error instanceof Error ? error.message : String(error) };
  }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0)
    throw new Error(`--${name} must be a number above 0, not "${text}"`);
  return value;
}

function count(name: string, text: string | undefined, otherwise: number): number {
  const value = positive(name, text, otherwise);
  if (!Number.isInteger(value)) throw new Error(`--${name} must be a whole number, not "${text ?? ''}"`);
  return value;
}
