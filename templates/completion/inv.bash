# Completion of ./inv in bash; docs/completion.md says how it is switched on.
_npu_serving_inv() {
  local program=${1/#\~\//$HOME/}
  mapfile -t COMPREPLY < <("$program" --complete -- "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2> /dev/null)
}
complete -o default -F _npu_serving_inv inv
