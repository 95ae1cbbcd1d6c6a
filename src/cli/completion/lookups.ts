/** The table as functions of a shell, for bash and zsh, which read them alike. */
import type { Entry, Offer } from './table.js';

/** A word of the shell, whatever is in it. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * `__ygg_commands` and `__ygg_flags` put what may follow a command into the array `variable`, each as `told` has it;
 * `__ygg_value` and `__ygg_argument` say in `wants` what a value may be.
 */
export function lookupFunctions(table: readonly Entry[], variable: string, told: (offer: Offer) => string): string {
  const offers = (pick: (entry: Entry) => readonly Offer[]): string =>
    cases(
      table
        .filter((entry) => pick(entry).length > 0)
        .map((entry) => [quote(entry.command), `${variable}=(${pick(entry).map(told).join(' ')})`]),
    );
  const values = table.flatMap(({ command, values: all }) =>
    all.map(({ flags, wants }): readonly [string, string] => [
      flags.map((flag) => quote(`${command} ${flag}`)).join('|'),
      `wants=${quote(wants)}`,
    ]),
  );
  const args = table.flatMap(({ command, args: all }) =>
    all.map(({ index, wants }): readonly [string, string] => [
      index === '*' ? `${quote(`${command} `)}*` : quote(`${command} ${index}`),
      `wants=${quote(wants)}`,
    ]),
  );
  return `__ygg_commands() {
  ${variable}=()
  case $1 in
${offers((entry) => entry.commands)}
  esac
}

__ygg_flags() {
  ${variable}=()
  case $1 in
${offers((entry) => entry.flags)}
  esac
}

# What the value of a flag of a command may be; nothing for a flag that takes none.
__ygg_value() {
  wants=
  case "$1 $2" in
${cases(values)}
  esac
}

# What the argument of a command at a place may be.
__ygg_argument() {
  wants=
  case "$1 $2" in
${cases(args)}
  esac
}`;
}

function cases(lines: readonly (readonly [string, string])[]): string {
  return lines.map(([pattern, action]) => `    ${pattern}) ${action} ;;`).join('\n');
}
