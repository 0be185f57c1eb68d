#!/bin/bash
# Sees to it that a Docker engine answers and that there is a base image for the toolchain image, on a bare Debian 12.
#
# Run as root; a second run changes nothing. Nothing is published or pulled but the base image, and where that can't be
# pulled it is made with debootstrap from the Debian mirror that this machine's own apt uses.
#
#   NPU_SERVING_BASE_TAG    the tag that the base image gets         (npu-serving-base:debian)
#   NPU_SERVING_BASE_PULL   the image that is pulled where it can be (debian:bookworm-slim)
set -euo pipefail

base_tag=${NPU_SERVING_BASE_TAG:-npu-serving-base:debian}
base_pull=${NPU_SERVING_BASE_PULL:-debian:bookworm-slim}
suite=bookworm
engine_log=${TMPDIR:-/tmp}/npu-serving-dockerd.log
seconds_for_start=60
seconds_for_pull=180

say() { printf 'docker.sh: %s\n' "$*" >&2; }

die() {
    say "$1"
    [ -z "${2:-}" ] || say "next: $2"
    exit 4
}

engine_answers() { timeout 10 docker version >/dev/null 2>&1; }

install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || die "${missing[*]} are not installed." "run this as root, or: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "${missing[@]}" >/dev/null
}

# Starts dockerd with the given options and waits until it answers; 1 when it ends, or takes too long.
start_engine() {
    say "starting dockerd $*"
    setsid nohup dockerd "$@" >>"$engine_log" 2>&1 </dev/null &
    local engine=$! waited=0
    until engine_answers; do
        kill -0 "$engine" 2>/dev/null || return 1
        [ "$waited" -lt $((seconds_for_start * 2)) ] || { kill "$engine" 2>/dev/null; return 1; }
        sleep 0.5
        waited=$((waited + 1))
    done
}

have_engine() {
    command -v docker >/dev/null && engine_answers && return
    [ "$(id -u)" -eq 0 ] || die "no Docker engine answers." "start it, or run this as root"
    install_packages docker.io iptables
    engine_answers && return
    # The second attempt is for machines without overlayfs or netfilter: the builds use the host's network or none.
    start_engine || start_engine --storage-driver=vfs --iptables=false --ip6tables=false --bridge=none || {
        tail -n 20 "$engine_log" >&2
        die "dockerd does not start; its log is $engine_log" "read the log: a container needs --privileged for it"
    }
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# The Debian mirror that apt is configured with; nothing where there is none (debootstrap then has its own default).
configured_mirror() {
    # shellcheck disable=SC2016 # apt fills that in
    apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" 'Created-By: Packages' 2>/dev/null | head -n 1
}

make_base_image() {
    [ "$(id -u)" -eq 0 ] || die "debootstrap needs root." "run this as root, or: docker tag SOME_IMAGE $base_tag"
    install_packages debootstrap
    local root
    root=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory of now is meant
    trap "rm -rf -- '$root'" EXIT
    say "making $base_tag with debootstrap"
    # shellcheck disable=SC2046 # no mirror means no argument
    debootstrap --variant=minbase "$suite" "$root" $(configured_mirror) >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        die "debootstrap failed; its log is $root.log" "check the apt sources of this machine"
    }
    rm -f "$root.log"
    # What differs from one run to the next, or is of no use in an image: later layers must not have to delete it.
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/var/cache/ldconfig/* \
        "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
    : >"$root/etc/machine-id"
    tar --numeric-owner --sort=name -C "$root" -c . |
        docker import --change 'CMD ["/bin/bash"]' --change 'LABEL org.npu-serving.role=base' - "$base_tag" >/dev/null
}

have_base_image() {
    have_image "$base_tag" && return
    if have_image "$base_pull" || timeout "$seconds_for_pull" docker pull -q "$base_pull" >/dev/null 2>&1; then
        docker tag "$base_pull" "$base_tag"
    else
        say "$base_pull can't be pulled here"
        make_base_image
    fi
}

have_engine
have_base_image
say "engine $(docker version --format '{{.Server.Version}}') answers; base image $base_tag is there"
