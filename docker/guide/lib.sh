# Read by the scripts beside it, which run as root while the image is made.
# shellcheck shell=sh disable=SC2034 # the variables are theirs

sources=/usr/local/src/npu-serving
work=/tmp/npu-serving
jobs=$(nproc)
export PYTHONHASHSEED=0 # the order of sets gets into .pyc files

# unpack NAME [DIRECTORY]: the source archive of that name, without its top directory.
unpack() {
    mkdir -p "${2:-$work/$1}"
    tar -x --no-same-owner --strip-components=1 -C "${2:-$work/$1}" -f "$sources/$1"
}

# at_least VERSION FOUND
at_least() {
    printf '%s\n' "$1" "$2" | sort -V -C
}

# libraries_in DIRECTORY...: the dynamic loader finds them, without LD_LIBRARY_PATH.
libraries_in() {
    printf '%s\n' "$@" > "/etc/ld.so.conf.d/npu-serving-$(basename "$(dirname "$1")").conf"
    ldconfig
}

# Nothing of a step stays but what it installed.
tidy_up() {
    rm -rf "$work" "$sources" /root/.cache /var/cache/ldconfig/aux-cache
}
