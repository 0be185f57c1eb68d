#!/bin/sh
# Runs inside the finished toolchain image, without network: says what is in it, one `key=value` a line.
set -eu

echo "compiler=gcc $(gcc -dumpfullversion -dumpversion), g++ $(g++ -dumpfullversion -dumpversion)"
echo "glibc=$(getconf GNU_LIBC_VERSION)"
sed "s/^/package=/" "$(dirname "$0")/installed-packages.txt"
echo "machine=$(uname -m)"
echo "python=$(python -c 'import sys; from builtins import bytes; print(sys.version.split()[0])')"
echo "bazel=$(bazel --batch --output_user_root=/tmp/bazel version | sed -n 's/^Build label: //p')"
