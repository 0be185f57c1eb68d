#!/bin/sh
# Bazel 0.24.1: the program as it is, or made from its dist archive with JDK 11 (guide, chapter 6.6.1).
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

if [ "$(head -c 2 "$sources/bazel")" != PK ]; then
    install -m 755 "$sources/bazel" /usr/local/bin/bazel
    tidy_up
    exit
fi

mkdir -p "$work/bazel"
cd "$work/bazel"
unzip -q "$sources/bazel"
if at_least 2.30 "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"; then
    # glibc declares gettid() from 2.30 on, and grpc defines a static function of that name.
    grep -rlE '\bgettid\(void\)' third_party/grpc/src/core | xargs sed -i -E 's/\bgettid\(/grpc_gettid(/g'
fi
export JAVA_HOME=/usr/local/jdk-11 EXTRA_BAZEL_ARGS="--host_javabase=@local_jdk//:jdk"
bash ./compile.sh
install -m 755 output/bazel /usr/local/bin/bazel
cd /
tidy_up
