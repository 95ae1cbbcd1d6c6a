/** The completion script for bash 4.4 and later; it needs no package beside it. */
import { lookupFunctions } from './lookups.js';
import type { Entry } from './table.js';

export function bashScript(table: readonly Entry[], programs: readonly string[]): string {
  const lookups = lookupFunctions(table, 'words', ({ word }) => word);
  return `# bash completion of ${programs.join(' and ')}, made by "ygg completion bash".

${lookups}

__ygg_offer_words() {
  local word
  for word in "\${words[@]}"; do
    [[ $word == "$1"* ]] && COMPREPLY+=("$word")
  done
}

__ygg_offer() {
  local value rest
  case $1 in
    files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
    directories) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
    programs) mapfile -t COMPREPLY < <(compgen -c -- "$2") ;;
    'words '*) read -ra words <<<"\${1#words }"; __ygg_offer_words "$2" ;;
    'live '*)
      while IFS=$'\\t' read -r value rest; do
        # readline takes a colon for the end of a word.
        [[ $value == "$2"* && $value != *:* ]] && COMPREPLY+=("$value")
      done < <(command ygg __complete "\${1#live }" -- "\${COMP_WORDS[@]:1}" 2>/dev/null </dev/null)
      ;;
  esac
}

__ygg() {
  local cur=\${COMP_WORDS[COMP_CWORD]} command=\${1##*/} last= open= maybe= plain= wants= word i place=0
  local -a words
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    # readline cuts --flag=value into three words.
    if [[ $word == = && -n $last ]]; then open=$last maybe=; continue; fi
    if [[ -n $open && ( -z $maybe || $word != -* ) ]]; then open= last=; continue; fi
    open= maybe= last=
    if [[ -n $plain ]]; then ((++place)); continue; fi
    case $word in
      --) plain=1 ;;
      -*)
        last=$word
        __ygg_value "$command" "$word"
        case $wants in
          '') ;;
          'maybe '*) open=$word maybe=1 ;;
          *) open=$word ;;
        esac
        ;;
      *)
        __ygg_commands "$command"
        case " \${words[*]} " in
          *" $word "*) ((place == 0)) && command="$command $word" || ((++place)) ;;
          *) ((++place)) ;;
        esac
        ;;
    esac
  done
  if [[ $cur == = && -n $last ]]; then open=$last maybe= cur=; fi
  if [[ -n $open && ( -z $maybe || $cur != -* ) ]]; then
    __ygg_value "$command" "$open"
    __ygg_offer "\${wants#maybe }" "$cur"
    [[ -z $maybe ]] && return
  fi
  if [[ -z $plain && $cur == -* ]]; then
    __ygg_flags "$command"
    __ygg_offer_words "$cur"
    return
  fi
  if [[ -z $plain && $place == 0 ]]; then
    __ygg_commands "$command"
    __ygg_offer_words "$cur"
  fi
  __ygg_argument "$command" "$place"
  __ygg_offer "$wants" "$cur"
}

complete -F __ygg ${programs.join(' ')}
`;
}
