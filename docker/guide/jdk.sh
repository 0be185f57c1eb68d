#!/bin/sh
# JDK 11, with which Bazel is made where there is no program to fetch.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

unpack jdk /usr/local/jdk-11
for tool in java javac jar; do
    ln -sf "/usr/local/jdk-11/bin/$tool" "/usr/local/bin/$tool"
done
tidy_up
