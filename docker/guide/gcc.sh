#!/bin/sh
# gcc and g++ 8.5.0 with their own GMP, MPFR, MPC and isl (guide, chapter 7.5), where the distribution has none from 8.4 on.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

if at_least 8.4 "$(gcc -dumpfullversion -dumpversion)" && at_least 8.4 "$(g++ -dumpfullversion -dumpversion)"; then
    tidy_up
    exit
fi

prefix=/usr/local/gcc8.5.0 # never /usr or /usr/local: the guide warns of mixing two compilers there
unpack gcc
for library in gmp mpfr mpc isl; do
    unpack "$library" "$work/gcc/$library"
done
mkdir "$work/build"
cd "$work/build"
"$work/gcc/configure" --prefix="$prefix" --enable-languages=c,c++ --enable-checking=release --disable-multilib
make -j"$jobs"
make install-strip
for tool in gcc g++ cpp gcov gcc-ar gcc-nm gcc-ranlib; do
    ln -sf "$prefix/bin/$tool" "/usr/local/bin/$tool"
done
ln -sf gcc /usr/local/bin/cc
ln -sf g++ /usr/local/bin/c++
libraries_in "$prefix/lib64"
cd /
tidy_up
