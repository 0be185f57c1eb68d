"""Where actions may come from besides this machine: a disk cache, a remote cache, a remote executor.

Knows what Bazel 0.24.1 calls them and what it does when they fail; bazel.py runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, TypeVar
from urllib.parse import SplitResult, urlsplit

from npu_serving import fsutil, process
from npu_serving.building.runner import Layout, Runner
from npu_serving.console import Reporter
from npu_serving.errors import BuildFailedError, ProgramError, RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.shown_text import shown_url, without_login

HTTP, GRPC = ("http", "https"), ("grpc", "grpcs")
GRPC_PATIENCE_S = 10
CONNECT_S = 5.0
RELAY_STARTS_S = 30.0
SOCKET = "cache.sock"
CAPABILITIES = "Failed to query remote execution capabilities"
"""What Bazel 0.24.1 ends with, status 34, when a cache or executor over gRPC doesn't answer."""

_ENDPOINT_CURE = {
    "remote-cache": "write it like http://HOST[:PORT][/PATH], https://…, or, for bazel-remote and similar caches, grpc://HOST:PORT",
    "remote-executor": "write it like grpc://HOST:PORT, or grpcs://HOST:PORT where it speaks TLS",
}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]|[^\x00-\x7f]")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Caches:
    """What a build may use; each is None where it isn't asked for."""

    disk: Path | None = None
    remote: SplitResult | None = None
    executor: SplitResult | None = None


def find_caches(settings: Settings) -> Caches:
    """What the settings ask for; RequestError for invalid addresses and for what Bazel can't combine."""
    disk = Path(settings.disk_cache) if settings.disk_cache else None
    remote = _endpoint(settings.remote_cache, "remote-cache", (*HTTP, *GRPC)) if settings.remote_cache else None
    executor = _endpoint(settings.remote_executor, "remote-executor", GRPC) if settings.remote_executor else None
    if disk is not None and (remote is not None or executor is not None):
        raise RequestError(
            "--disk-cache cannot be combined with --remote-cache or --remote-executor.",
            cause=f"Bazel {pinned_bazel()} uses only one of them at a time",
            cure="leave one out (disk_cache, remote_cache and remote_executor may also be set in invoke.yaml)",
        )
    if executor is not None and remote is not None and remote.scheme not in GRPC:
        raise RequestError(
            "--remote-executor cannot be combined with a --remote-cache over HTTP.",
            cause="an executor and Bazel share their cache over gRPC",
            cure="write the cache as grpc://HOST:PORT, or leave it out: the executor has its own",
        )
    return Caches(disk, remote, executor)


def without_caches(settings: Settings) -> Settings:
    """The settings for a build that runs every action again."""
    return replace(settings, disk_cache="", remote_cache="")


def check_reachable(caches: Caches, runner: Runner) -> None:
    """RequestError for what a build in a container, which has no network, can't get at."""
    over_grpc = [address for address in (caches.remote, caches.executor) if address and address.scheme in GRPC]
    if runner.name == "docker" and over_grpc:
        raise RequestError(
            f"A build in a container can't reach {_shown(over_grpc[0])}.",
            cause="it has no network; a cache over HTTP is reached through a socket, but that doesn't work with gRPC",
            cure="write the cache as http://HOST:PORT (bazel-remote speaks both), or build with --runner host",
        )


def build_with(
    caches: Caches,
    runner: Runner,
    layout: Layout,
    reporter: Reporter,
    log_path: Path,
    build: Callable[[Layout, tuple[str, ...]], Result],
) -> Result:
    """What `build` returns, called with the layout and the flags by which Bazel uses the caches.

    A cache that can't be reached is left out with a warning; one that fails later is left out by Bazel, with a warning.
    An executor that doesn't answer is an error: whoever names one does not want a build on this machine.
    """
    try:
        with _in_use(caches, runner, layout, reporter, log_path) as (with_caches, flags):
            return build(with_caches, flags)
    except BuildFailedError as error:
        if CAPABILITIES not in error.output or caches.executor is not None:
            raise
    reporter.warn(f"the remote cache {_shown(caches.remote)} does not work; the build continues without it")
    return build(layout, ())


@contextlib.contextmanager
def _in_use(
    caches: Caches, runner: Runner, layout: Layout, reporter: Reporter, log_path: Path
) -> Iterator[tuple[Layout, tuple[str, ...]]]:
    """The layout with what Bazel has to reach, and the flags, for as long as the block runs."""
    silo = _silo_flag(runner) if caches.disk or (caches.remote and not caches.executor) else ()
    if caches.disk is not None:
        with_disk = replace(layout, writable=(fsutil.make_directory(caches.disk),))
        (inside,) = runner.inside(with_disk).writable
        yield with_disk, (f"--disk_cache={inside}", *silo)
    elif caches.remote is not None and caches.remote.scheme in HTTP:
        with _relayed(caches.remote, log_path) as directory:
            with_socket = replace(layout, writable=(directory,))
            (inside,) = runner.inside(with_socket).writable
            # The host name is for Bazel's eyes only: the relay knows the real one, and its credentials.
            proxy = f"--remote_cache_proxy=unix:{inside / SOCKET}"
            yield with_socket, ("--remote_http_cache=http://npu-serving-cache", proxy, *silo)
    elif caches.executor is not None or (caches.remote is not None and _answers(caches.remote, reporter)):
        yield layout, (*_grpc_flags(caches), *silo)
    else:
        yield layout, ()


def _endpoint(text: str, flag: str, schemes: tuple[str, ...]) -> SplitResult:
    trouble = _trouble(text, schemes)
    if trouble:
        raise RequestError(f"--{flag} can't be {shown_url(text)!r}.", cause=trouble, cure=_ENDPOINT_CURE[flag])
    return urlsplit(text)


def _trouble(text: str, schemes: tuple[str, ...]) -> str:
    """Why the text is not an address of that kind; "" where it is one. Never quotes the text, which may hold a
    password.
    """
    if _FORBIDDEN.search(text):
        return "it contains a space, or a character that has to be written as %XX in an address"
    try:
        address = urlsplit(text)
        complete = bool(address.hostname) and (address.port is not None or address.scheme in HTTP)
    except ValueError:
        return "its host or port is not valid; in a password, / ? # [ ] and @ have to be written as %XX"
    if address.scheme not in schemes:
        return f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not complete:
        return "it has no host, or no port where one is needed"
    if address.query or address.fragment:
        return "it contains a ? or a #; in a password they have to be written as %3F and %23"
    if address.scheme in GRPC and (address.path.strip("/") or address.username):
        return f"over gRPC Bazel {pinned_bazel()} accepts a host and a port, without a path or credentials"
    return ""


def _shown(address: SplitResult | None) -> str:
    return without_login(address.geturl(), instead="") if address is not None else ""


def _silo_flag(runner: Runner) -> tuple[str, ...]:
    """Keeps the entries of different toolchains apart.

    Bazel names an entry after the command and its inputs. /usr/bin/gcc and the headers of the C library are not inputs:
    two machines with different compilers would take each other's objects. The properties of the platform are part of
    the name.
    """
    key = hashlib.sha256(runner.toolchain_key().encode()).hexdigest()[:32]
    return (f'--remote_default_platform_properties=properties:{{name:"npu-serving-toolchain" value:"{key}"}}',)


def _grpc_flags(caches: Caches) -> tuple[str, ...]:
    addresses = [address for address in (caches.remote, caches.executor) if address is not None]
    flags = [f"--tls_enabled={str(any(address.scheme == 'grpcs' for address in addresses)).lower()}"]
    if caches.remote is not None:
        flags.append(f"--remote_cache={caches.remote.netloc}")
    if caches.executor is not None:
        # The tree's .bazelrc asks for `standalone`, which is this machine.
        strategies = ("--spawn_strategy=remote", "--genrule_strategy=remote")
        return (*flags, f"--remote_executor={caches.executor.netloc}", *strategies)
    return (*flags, f"--remote_timeout={GRPC_PATIENCE_S}")


def _answers(address: SplitResult, reporter: Reporter) -> bool:
    try:
        socket.create_connection((address.hostname or "", address.port or 0), CONNECT_S).close()
    except OSError as error:
        reporter.warn(f"the remote cache {_shown(address)} can't be reached ({error}); the build continues without it")
        return False
    return True


@contextlib.contextmanager
def _relayed(address: SplitResult, log_path: Path) -> Iterator[Path]:
    """A directory with the relay's socket in it; nobody else can enter it.

    It is in the system's directory for temporary files: a Unix socket's path may have 107 bytes, whatever build_root's
    has.
    """
    from npu_serving.building.cache_relay import URL_VARIABLE  # with all of urllib3, which most builds don't need

    directory = Path(tempfile.mkdtemp(prefix="npu-serving-cache."))
    path = directory / SOCKET
    argv = [sys.executable, "-m", "npu_serving.building.cache_relay", str(path)]
    fsutil.make_directory(log_path.parent)
    environment = {**process.own_environment(), URL_VARIABLE: address.geturl()}
    try:
        with process.running(argv, log_path=log_path, cwd=PROJECT_ROOT, env=environment) as relay:
            deadline = time.monotonic() + RELAY_STARTS_S
            while not path.exists():
                if relay.poll() is not None or time.monotonic() > deadline:
                    raise ProgramError(
                        f"The relay to the remote cache {_shown(address)} did not start. Its log is {log_path}",
                        cure="run the same command again, or build without --remote-cache",
                    )
                time.sleep(0.02)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
