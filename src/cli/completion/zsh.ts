/** The completion script for zsh 5 and later: a function for `fpath` that can be sourced as well. */
import type { Entry, Offer } from './table.js';

export function zshScript(table: readonly Entry[], programs: readonly string[]): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const cases = (lines: readonly (readonly [string, string])[]): string =>
    lines.map(([pattern, action]) => `    ${pattern}) ${action} ;;`).join('\n');
  const described = ({ word, doc }: Offer): string => quote(`${word.replaceAll(':', '\\:')}:${doc}`);
  const offers = (pick: (entry: Entry) => readonly Offer[]): string =>
    cases(
      table
        .filter((entry) => pick(entry).length > 0)
        .map((entry) => [quote(entry.command), `offers=(${pick(entry).map(described).join(' ')})`]),
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
  return `#compdef ${programs.join(' ')}
# zsh completion of ${programs.join(' and ')}, made by "ygg completion zsh".

__ygg_commands() {
  offers=()
  case $1 in
${offers((entry) => entry.commands)}
  esac
}

__ygg_flags() {
  offers=()
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
}

__ygg_offer() {
  local -a offers
  local line
  case $1 in
    files) _files ;;
    directories) _files -/ ;;
    programs) _command_names -e ;;
    'words '*) offers=(\${=1#words }); compadd -a offers ;;
    'live '*)
      for line in "\${(@f)$(command ygg __complete "\${1#live }" -- "\${(@)words[2,-1]}" 2>/dev/null </dev/null)}"; do
        [[ -n $line ]] && offers+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
      done
      (( \${#offers} )) && _describe -t "\${1#live }" "\${1#live }" offers
      ;;
  esac
}

_ygg() {
  local command=\${words[1]:t} open= maybe= plain= wants= word
  local -i i place=0
  local -a offers
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    if [[ -n $open && ( -z $maybe || $word != -* ) ]]; then open=; continue; fi
    open= maybe=
    if [[ -n $plain ]]; then ((++place)); continue; fi
    case $word in
      --) plain=1 ;;
      -*=*) ;;
      -*)
        __ygg_value "$command" "$word"
        case $wants in
          '') ;;
          'maybe '*) open=$word maybe=1 ;;
          *) open=$word ;;
        esac
        ;;
      *)
        __ygg_commands "$command"
        if ((place == 0)) && (( \${offers[(I)$word:*]} )); then command="$command $word"; else ((++place)); fi
        ;;
    esac
  done
  word=\${words[CURRENT]}
  if [[ -z $plain && $word == --*=* ]]; then
    __ygg_value "$command" "\${word%%=*}"
    compset -P '*='
    __ygg_offer "\${wants#maybe }"
    return
  fi
  if [[ -n $open && ( -z $maybe || $word != -* ) ]]; then
    __ygg_value "$command" "$open"
    __ygg_offer "\${wants#maybe }"
    [[ -z $maybe ]] && return
  fi
  if [[ -z $plain && $word == -* ]]; then
    __ygg_flags "$command"
    _describe -o flag offers
    return
  fi
  if [[ -z $plain ]] && ((place == 0)); then
    __ygg_commands "$command"
    (( \${#offers} )) && _describe command offers
  fi
  __ygg_argument "$command" "$place"
  __ygg_offer "$wants"
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _ygg "$@"
else
  compdef _ygg ${programs.join(' ')}
fi
`;
}
