/**
 * What may stand in the place of a flag's value or of an argument, for completion. Decided by names alone, so that a
 * new command is completed without a word about it here, as long as it names its things as the others do.
 */
import { SETTING_NAMES } from '../../config/index.js';

/** What only the running agent knows. */
export const LIVE = ['workers', 'directives', 'keys'] as const;
export type Live = (typeof LIVE)[number];

export type Values =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'live'; readonly what: Live }
  | { readonly kind: 'files' }
  | { readonly kind: 'directories' }
  | { readonly kind: 'programs' }
  /** Free text, a number, a name of elsewhere. */
  | { readonly kind: 'anything' };

const BY_NAME: Readonly<Record<string, Values>> = {
  worker: { kind: 'live', what: 'workers' },
  workers: { kind: 'live', what: 'workers' },
  'exclude-worker': { kind: 'live', what: 'workers' },
  directive: { kind: 'live', what: 'directives' },
  handler: { kind: 'live', what: 'directives' },
  file: { kind: 'files' },
  path: { kind: 'files' },
  config: { kind: 'files' },
  'ca-root': { kind: 'files' },
  dir: { kind: 'directories' },
  directory: { kind: 'directories' },
  program: { kind: 'programs' },
};

const ANYTHING: Values = { kind: 'anything' };
/** `error|warn|info`, `[true|false]`: the placeholder lists them. */
const LIST = /^[\w.-]+(?:\|[\w.-]+)+$/;

/** For a flag's value, by the flag's name and then by its placeholder. */
export function flagValues(
  flag: string,
  placeholder: string,
  choices: readonly string[] | undefined,
  path: readonly string[],
): Values {
  if (choices !== undefined) return { kind: 'words', words: choices };
  if (placeholder === '') return ANYTHING;
  if (LIST.test(placeholder)) return { kind: 'words', words: placeholder.split('|') };
  const name = flag.replace(/^-+/, '');
  if (name.endsWith('-dir')) return { kind: 'directories' };
  if (name.endsWith('-file')) return { kind: 'files' };
  // What a worker is to handle is for its author to name.
  if (name === 'handler' && path.includes('run')) return ANYTHING;
  return byName(name) ?? byName(placeholder.toLowerCase()) ?? ANYTHING;
}

/** For an argument. A bare `name` is of what the group of commands is about. */
export function argumentValues(name: string, choices: readonly string[] | undefined, path: readonly string[]): Values {
  if (choices !== undefined) return { kind: 'words', words: choices };
  const group = path.at(-2) ?? '';
  // Keys of settings are no keys of messages.
  if (/^(key|setting)s?$/.test(name) && path.includes('config')) return { kind: 'words', words: SETTING_NAMES };
  // A flag's key is one of a certificate, or of somebody who may register.
  if (/^keys?$/.test(name)) return { kind: 'live', what: 'keys' };
  return byName(name === 'name' ? group : name) ?? ANYTHING;
}

function byName(name: string): Values | undefined {
  return Object.hasOwn(BY_NAME, name) ? BY_NAME[name] : undefined;
}
