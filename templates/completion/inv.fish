# Completion of ./inv in fish; docs/completion.md says how it is switched on.
function __npu_serving_inv
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program (string replace --regex '^~/' "$HOME/" -- $words[1])
    set -g __npu_serving_inv_words ($program --complete -- $words "$current" 2> /dev/null)
    test -n "$__npu_serving_inv_words"
end
# Files are offered where there is no such word.
complete --command inv --condition __npu_serving_inv --no-files --arguments '$__npu_serving_inv_words'
