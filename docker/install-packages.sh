#!/bin/sh
# Runs as root inside the toolchain image while it is made: installs packages.txt and a compiler, and leaves behind
# nothing that tells when that was.
set -eu

here=$(dirname "$0")
epoch=2019-04-25T00:00:00Z
started=$(mktemp -p /dev/shm) # a mount of its own, so it leaves no trace in the layer

. /etc/os-release
case "$ID:${VERSION_ID:-}" in
    ubuntu:18.04) suffix=-8 ;; # its default is gcc 7.5, and the guide wants 8.4
    *) suffix= ;;
esac

export DEBIAN_FRONTEND=noninteractive
apt-get -o APT::Update::Error-Mode=any update # without the option a dead mirror is a mere warning
# shellcheck disable=SC2046 # one word for each package is what is wanted
apt-get install -y --no-install-recommends "gcc$suffix" "g++$suffix" $(sed 's/#.*//' "$here/packages.txt")

if [ -n "$suffix" ]; then
    for tool in gcc g++ cpp gcov gcc-ar gcc-nm gcc-ranlib; do
        ln -sf "/usr/bin/$tool$suffix" "/usr/local/bin/$tool"
    done
    ln -sf gcc /usr/local/bin/cc
    ln -sf g++ /usr/local/bin/c++
fi
[ -e /usr/bin/python ] || ln -s python3 /usr/bin/python # the tree's .bazelrc names /usr/bin/python

# Emptied rather than deleted where the base may hold the same name: a deletion is a layer entry with today's date.
find /var/log -type f -exec truncate -s 0 {} +
apt-get clean
find /var/lib/apt/lists -type f -delete # by name, not by age: apt gives them the times of the archive
find /var/cache/apt /var/cache/ldconfig -type f -newer "$started" -delete
find /var/cache/debconf /var/lib/dpkg -name '*-old' -newer "$started" -delete
find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -newer "$started" -print0 |
    xargs -0 -r touch --no-dereference --date="$epoch"
rm "$started"
