#!/bin/sh
# CMake 3.14.0 (guide, chapter 6.6.2). It fetches nothing here, so it goes without OpenSSL.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

unpack cmake
cd "$work/cmake"
./bootstrap --prefix=/usr/local --parallel="$jobs" -- -DCMAKE_USE_OPENSSL=OFF
make -j"$jobs"
make install
cd /
tidy_up
