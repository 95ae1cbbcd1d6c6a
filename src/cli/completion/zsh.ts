/** The completion script for zsh 5 and later: a function for `fpath` that can be sourced as well. */
import { lookupFunctions, quote } from './lookups.js';
import type { Entry, Offer } from './table.js';

export function zshScript(table: readonly Entry[], programs: readonly string[]): string {
  const described = ({ word, doc }: Offer): string => quote(`${word.replaceAll(':', '\\:')}:${doc}`);
  const lookups = lookupFunctions(table, 'offers', described);
  return `#compdef ${programs.join(' ')}
# zsh completion of ${programs.join(' and ')}, made by "ygg completion zsh".

${lookups}

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
