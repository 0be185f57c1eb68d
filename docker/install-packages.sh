#!/bin/sh
# Runs as root inside the toolchain image while it is made: installs packages.txt and a compiler, and leaves behind
# nothing that tells when that was. SOURCE_DATE_EPOCH is set: with it, Python's .pyc files don't hold times either.
set -eu

here=$(dirname "$0")

# shellcheck source=/dev/null
. /etc/os-release
case "$ID:${VERSION_ID:-}" in
    ubuntu:18.04) suffix=-8 ;; # its default is gcc 7.5, and the guide wants 8.4
    *) suffix= ;;
esac

# A file of sources of our own, where one was given, holds instead of the base image's, and only here.
set -- -o APT::Update::Error-Mode=any # without the option a dead mirror is a mere warning
if [ -s "$here/sources.list" ]; then
    set -- "$@" -o "Dir::Etc::SourceList=$here/sources.list" -o Dir::Etc::SourceParts=/dev/null
fi
export DEBIAN_FRONTEND=noninteractive
apt-get "$@" update
# shellcheck disable=SC2046 # one word for each package is what is wanted
apt-get "$@" install -y --no-install-recommends "gcc$suffix" "g++$suffix" $(sed 's/#.*//' "$here"/packages*.txt)
# shellcheck disable=SC2016 # dpkg-query fills that in
dpkg-query -W -f '${Package}=${Version}\n' > "$here/installed-packages.txt"

if [ -n "$suffix" ]; then
    for tool in gcc g++ cpp gcov gcc-ar gcc-nm gcc-ranlib; do
        ln -sf "/usr/bin/$tool$suffix" "/usr/local/bin/$tool"
    done
    ln -sf gcc /usr/local/bin/cc
    ln -sf g++ /usr/local/bin/c++
fi
[ -e /usr/bin/python ] || ln -s python3 /usr/bin/python # the tree's .bazelrc names /usr/bin/python

# Logs, caches, what the package manager keeps from before, and whatever tells one machine from another.
apt-get clean
find /var/log /var/lib/apt/lists /var/cache/apt /var/cache/ldconfig /tmp /var/tmp -type f -delete
find /var/cache/debconf /var/lib/dpkg -name '*-old' -delete
rm -f /var/lib/systemd/random-seed /var/lib/dbus/machine-id
: > /etc/machine-id
