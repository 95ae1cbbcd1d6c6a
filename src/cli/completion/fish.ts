/** The completion script for fish 3 and later. */
import type { Entry, Offer } from './table.js';

export function fishScript(table: readonly Entry[], programs: readonly string[]): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const cases = (lines: readonly (readonly [string, string])[]): string =>
    lines.map(([pattern, action]) => `        case ${pattern}\n            ${action}`).join('\n');
  const offers = (pick: (entry: Entry) => readonly Offer[]): string =>
    cases(
      table
        .filter((entry) => pick(entry).length > 0)
        .map((entry) => [
          quote(entry.command),
          `printf '%s\\t%s\\n' ${pick(entry)
            .map(({ word, doc }) => `${quote(word)} ${quote(doc)}`)
            .join(' ')}`,
        ]),
    );
  const values = table.flatMap(({ command, values: all }) =>
    all.map(({ flags, wants }): readonly [string, string] => [
      flags.map((flag) => quote(`${command} ${flag}`)).join(' '),
      `echo ${quote(wants)}`,
    ]),
  );
  const args = table.flatMap(({ command, args: all }) =>
    all.map(({ index, wants }): readonly [string, string] => [
      // Inside quotes fish still takes the star for anything, in a case.
      quote(`${command} ${index}`),
      `echo ${quote(wants)}`,
    ]),
  );
  return `# fish completion of ${programs.join(' and ')}, made by "ygg completion fish".

function __ygg_commands
    switch "$argv[1]"
${offers((entry) => entry.commands)}
    end
end

function __ygg_flags
    switch "$argv[1]"
${offers((entry) => entry.flags)}
    end
end

# What the value of a flag of a command may be; nothing for a flag that takes none.
function __ygg_value
    switch "$argv[1] $argv[2]"
${cases(values)}
    end
end

# What the argument of a command at a place may be.
function __ygg_argument
    switch "$argv[1] $argv[2]"
${cases(args)}
    end
end

# \`wants\`, the words of the line, and what stands before the value in the word itself (--flag=).
function __ygg_offer
    set -l wants $argv[1]
    set -l before $argv[2]
    set -l line $argv[3..-1]
    set -l value (string replace -- "$before" '' (commandline -ct))
    switch "$wants"
        case files
            printf "$before%s\\n" (__fish_complete_path $value)
        case directories
            printf "$before%s\\n" (__fish_complete_directories $value '')
        case programs
            __fish_complete_command
        case 'words *'
            printf "$before%s\\n" (string split ' ' -- (string replace 'words ' '' -- $wants))
        case 'live *'
            set -l found (command ygg __complete (string replace 'live ' '' -- $wants) -- $line[2..-1] 2>/dev/null </dev/null)
            test (count $found) -gt 0; and printf "$before%s\\n" $found
    end
end

function __ygg
    set -l line (commandline -opc)
    set -l command (string replace -r '.*/' '' -- $line[1])
    set -l open ''
    set -l maybe ''
    set -l plain ''
    set -l place 0
    for word in $line[2..-1]
        if test -n "$open"; and begin; test -z "$maybe"; or not string match -q -- '-*' $word; end
            set open ''
            continue
        end
        set open ''
        set maybe ''
        if test -n "$plain"
            set place (math $place + 1)
            continue
        end
        if test "$word" = --
            set plain 1
        else if string match -q -- '-*=*' $word
            continue
        else if string match -q -- '-*' $word
            set -l wants (__ygg_value "$command" $word)
            test -n "$wants"; and set open $word
            string match -q 'maybe *' -- $wants; and set maybe 1
        else if test $place = 0; and contains -- $word (__ygg_commands "$command" | string replace -r '\\t.*' '')
            set command "$command $word"
        else
            set place (math $place + 1)
        end
    end
    set -l word (commandline -ct)
    if test -z "$plain"; and string match -q -- '--*=*' $word
        set -l flag (string replace -r '=.*' '' -- $word)
        __ygg_offer (string replace 'maybe ' '' -- (__ygg_value "$command" $flag)) "$flag=" $line
        return
    end
    if test -n "$open"; and begin; test -z "$maybe"; or not string match -q -- '-*' $word; end
        __ygg_offer (string replace 'maybe ' '' -- (__ygg_value "$command" $open)) '' $line
        test -z "$maybe"; and return
    end
    if test -z "$plain"; and string match -q -- '-*' $word
        __ygg_flags "$command"
        return
    end
    if test -z "$plain"; and test $place = 0
        __ygg_commands "$command"
    end
    set -l wants (__ygg_argument "$command" $place)
    test -n "$wants"; and __ygg_offer $wants '' $line
end

${programs.map((name) => `complete -c ${name} -f -a '(__ygg)'`).join('\n')}
`;
}
