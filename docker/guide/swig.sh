#!/bin/sh
# swig (guide, chapter 6.7.1). Only renaming by regular expressions would need PCRE, and TensorFlow's files do none.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

unpack swig
cd "$work/swig"
./configure --prefix=/usr/local --without-pcre
make -j"$jobs"
make install
cd /
tidy_up
