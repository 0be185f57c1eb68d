#!/bin/sh
# Python 3.7.5 with a shared libpython, configured as in the guide, and the packages that TensorFlow's scripts need.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

prefix=/usr/local/python3.7.5
unpack python
cd "$work/python"
./configure --prefix="$prefix" --enable-loadable-sqlite-extensions --enable-shared
make -j"$jobs"
make install
libraries_in "$prefix/lib"
"$prefix/bin/python3.7" -m pip install --no-index --no-deps --no-cache-dir "$sources"/wheels/*.whl
for name in python python3; do # the tree's .bazelrc names /usr/bin/python; scripts start what PATH has
    ln -sf "$prefix/bin/python3.7" "/usr/local/bin/$name"
done
ln -sf "$prefix/bin/python3.7" /usr/bin/python
cd /
tidy_up
