# Completion of ./inv in zsh; docs/completion.md says how it is switched on.
_npu_serving_inv() {
  local -a found
  found=("${(@f)$(${~words[1]} --complete -- "${(@)words[1,CURRENT]}" 2> /dev/null)}")
  if [[ -n $found ]]; then
    compadd -- $found
  else
    _files
  fi
}
compdef _npu_serving_inv inv
