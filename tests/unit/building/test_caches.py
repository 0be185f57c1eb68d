"""Caches and executors: what is asked for, what is refused, and which flags Bazel 0.24.1 gets."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import Listening

from npu_serving.building import caches
from npu_serving.building.caches import Caches, build_with, check_reachable, find_caches
from npu_serving.building.runner import Layout
from npu_serving.console import Silent
from npu_serving.errors import BuildFailedError, RequestError
from npu_serving.settings import Settings

LAYOUT = Layout(Path("/src"), Path("/out"), Path("/distdir"), Path("/store"))


class Here:
    """A runner as far as caches look at it."""

    name = "host"

    def __init__(self, key: str = "gcc") -> None:
        self._key = key

    def toolchain_key(self) -> str:
        return self._key

    def inside(self, layout: Layout) -> Layout:
        return layout


def wanted(**changes: str) -> Caches:
    return find_caches(dataclasses.replace(Settings(), **changes))  # type: ignore[arg-type]


def flags_of(found: Caches, tmp_path: Path, runner: Any = None, reporter: Any = None) -> tuple[str, ...]:
    runner = runner or Here()
    return build_with(found, runner, LAYOUT, reporter or Silent(), tmp_path / "logs" / "log", lambda _, flags: flags)


def test_without_a_cache_bazel_gets_no_flag_and_the_same_layout(tmp_path: Path) -> None:
    assert build_with(wanted(), Here(), LAYOUT, Silent(), tmp_path / "log", lambda *given: given) == (LAYOUT, ())  # type: ignore[arg-type]


def test_a_build_from_scratch_uses_none() -> None:
    for changes in ({"disk_cache": "/x"}, {"remote_cache": "http://host"}):
        assert find_caches(caches.without_caches(dataclasses.replace(Settings(), **changes))) == Caches()  # type: ignore[arg-type]


def test_a_disk_cache_is_made_and_is_writable_for_the_build(tmp_path: Path) -> None:
    place = tmp_path / "a cache"
    layout, flags = build_with(
        wanted(disk_cache=str(place)),
        Here(),  # type: ignore[arg-type]
        LAYOUT,
        Silent(),
        tmp_path / "log",
        lambda *given: given,
    )
    assert place.is_dir()
    assert layout.writable == (place,)
    assert flags[0] == f"--disk_cache={place}"


def test_machines_with_different_toolchains_never_share_an_entry(tmp_path: Path) -> None:
    found = wanted(disk_cache=str(tmp_path / "cache"))
    one, same, other = (flags_of(found, tmp_path, Here(key))[1] for key in ("gcc 12", "gcc 12", "gcc 13"))
    assert one == same != other
    assert one.startswith("--remote_default_platform_properties=properties:{name:")


def test_the_socket_of_an_http_cache_can_be_connected_to_and_is_gone_afterwards(tmp_path: Path) -> None:
    def look(layout: Layout, flags: tuple[str, ...]) -> Path:
        (directory,) = layout.writable
        assert flags[:2] == (
            "--remote_http_cache=http://npu-serving-cache",
            f"--remote_cache_proxy=unix:{directory}/cache.sock",
        )
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(directory / "cache.sock"))
        assert directory.stat().st_mode & 0o077 == 0
        return directory

    url = "http://me:secret@localhost:1/base"
    directory = build_with(wanted(remote_cache=url), Here(), LAYOUT, Silent(), tmp_path / "log", look)  # type: ignore[arg-type]
    assert not directory.exists()
    assert "secret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("scheme", "tls"), [("grpc", "false"), ("grpcs", "true")])
def test_an_executor_gets_the_actions_that_the_tree_would_keep_here(tmp_path: Path, scheme: str, tls: str) -> None:
    assert flags_of(wanted(remote_executor=f"{scheme}://build.example:8980"), tmp_path) == (
        f"--tls_enabled={tls}",
        "--remote_executor=build.example:8980",
        "--spawn_strategy=remote",
        "--genrule_strategy=remote",
    )


def test_a_grpc_cache_that_listens_gets_its_flags_and_one_that_does_not_is_left_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        flags = flags_of(wanted(remote_cache=f"grpc://{address}"), tmp_path)
        assert flags[:2] == ("--tls_enabled=false", f"--remote_cache={address}")
    reporter = Listening()
    assert flags_of(wanted(remote_cache=f"grpc://{address}"), tmp_path, reporter=reporter) == ()
    assert "continues without it" in reporter.warnings[0]


def test_a_grpc_cache_that_is_none_is_left_out_after_bazel_found_out(tmp_path: Path) -> None:
    def build(_: Layout, flags: tuple[str, ...]) -> str:
        if flags:
            raise BuildFailedError("Bazel ended with status 34.", output=f"ERROR: {caches.CAPABILITIES}: x")
        return "built without"

    reporter = Listening()
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = wanted(remote_cache=f"grpc://127.0.0.1:{server.getsockname()[1]}")
        assert build_with(found, Here(), LAYOUT, reporter, tmp_path / "log", build) == "built without"  # type: ignore[arg-type]
    assert len(reporter.warnings) == 1
    with pytest.raises(BuildFailedError):
        build_with(wanted(remote_executor="grpc://h:1"), Here(), LAYOUT, reporter, tmp_path / "log", build)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"remote_cache": "cache:8080"},
        {"remote_cache": "ftp://cache"},
        {"remote_cache": "http://"},
        {"remote_cache": "http://host:port"},
        {"remote_cache": "http://host/a b"},
        {"remote_cache": "http://host/?x"},
        {"remote_cache": "grpc://host"},
        {"remote_cache": "grpc://host:1/instance"},
        {"remote_cache": "http://[::1"},
        {"remote_executor": "http://host:1"},
        {"disk_cache": "/x", "remote_cache": "http://host"},
        {"disk_cache": "/x", "remote_executor": "grpc://host:1"},
        {"remote_executor": "grpc://host:1", "remote_cache": "http://host"},
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_cure(changes: dict[str, str]) -> None:
    with pytest.raises(RequestError) as caught:
        wanted(**changes)
    assert caught.value.cure


@given(st.text(max_size=40))
def test_a_refusal_never_shows_credentials(text: str) -> None:
    for scheme in ("cache://", "http://", "http:/", "//", ""):
        with pytest.raises(RequestError) as caught:
            wanted(remote_cache=f"{scheme}me:{text}PASSWORD@host/?x{text}")
        assert "PASSWORD" not in f"{caught.value} {caught.value.cause}"


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://me:a b@host", "a space"),
        ("http://me:a/b@host", "host or port is not valid"),
        ("http://me:1#b@host", "%23"),
        ("cache:8080", "does not begin with http://"),
        ("grpc://host", "no port"),
        ("grpc://me:word@host:1", "without a path or credentials"),
    ],
)
def test_a_refusal_says_what_is_wrong_though_it_hides_the_credentials(address: str, cause: str) -> None:
    with pytest.raises(RequestError) as caught:
        wanted(remote_cache=address)
    assert cause in caught.value.cause


def test_what_needs_a_network_is_refused_for_a_container_and_http_is_not() -> None:
    inside = Here()
    inside.name = "docker"
    for changes in ({"remote_cache": "grpc://host:1"}, {"remote_executor": "grpc://host:1"}):
        with pytest.raises(RequestError, match="no network"):
            check_reachable(wanted(**changes), inside)  # type: ignore[arg-type]
    check_reachable(wanted(remote_cache="https://host/cache"), inside)  # type: ignore[arg-type]
    check_reachable(wanted(disk_cache="/somewhere"), inside)  # type: ignore[arg-type]
