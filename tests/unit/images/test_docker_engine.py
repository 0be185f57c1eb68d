"""An engine that doesn't answer, may not be used, is too old, hangs or is elsewhere: each has its own cure."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from npu_serving.errors import DiskFullError, MissingToolError, ProgramError
from npu_serving.images.container import ContainerSpec, user_inside
from npu_serving.images.container import _options as options_for
from npu_serving.images.docker_engine import EngineFacts, connected, engine_answers, explained

FACTS = EngineFacts("20.10", "1.41", "x86_64", 2, ("name=seccomp,profile=default",), True, True, True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose path is short enough for a socket's name (108 bytes)."""
    import tempfile

    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    with tempfile.TemporaryDirectory(prefix="npu-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def attempt(monkeypatch: pytest.MonkeyPatch, host: str) -> MissingToolError:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(MissingToolError) as caught, connected(timeout_s=1):
        pass
    return caught.value


def test_no_socket_means_the_engine_is_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    error = attempt(monkeypatch, "unix:///nonexistent")
    assert "unix:///nonexistent" in error.what
    assert "systemctl start docker" in error.cure
    assert "DOCKER_HOST" in error.cause
    assert not engine_answers()


def test_a_socket_that_nobody_listens_at_means_the_same(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(short / "s"))
        assert "systemctl start docker" in attempt(monkeypatch, f"unix://{short}/s").cure


def test_a_socket_without_permission_means_joining_the_group(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    import docker
    import requests  # noqa: F401 - loaded while their files may still be read

    assert docker.__version__
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "s"))
        listener.listen()
        (short / "s").chmod(0)
        with as_ordinary_user():
            error = attempt(monkeypatch, f"unix://{short}/s")
    assert "usermod -aG docker" in error.cure


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may use any socket, so root becomes nobody for as long as the block runs."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class OldEngine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"ApiVersion": "1.18", "Version": "1.6"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: object) -> None:
        pass


def test_an_engine_that_is_too_old_is_to_be_renewed(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with socketserver.UnixStreamServer(str(short / "s"), OldEngine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            error = attempt(monkeypatch, f"unix://{short}/s")
        finally:
            server.shutdown()
            thread.join()
    assert "too old" in error.what
    assert "install Docker" in error.cure


def test_an_engine_that_hangs_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "s"))
        listener.listen()
        assert "hangs" in attempt(monkeypatch, f"unix://{short}/s").cause


@pytest.mark.parametrize("host", ["tcp://192.0.2.1:2375", "ssh://user@example.org", "192.0.2.1:2375", "http://[::2]:1"])
def test_an_engine_of_another_machine_is_refused_for_it_can_not_see_our_files(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    error = attempt(monkeypatch, host)
    assert "not a Docker engine on this machine" in error.what
    assert "unset DOCKER_HOST" in error.cure


@pytest.mark.parametrize("host", ["nonsense://x", "tcp://[", "tcp://localhost:x"])
def test_a_docker_host_that_is_none_is_an_error_and_no_traceback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    attempt(monkeypatch, host)


def test_a_full_disk_of_the_engine_is_called_that() -> None:
    import docker

    with pytest.raises(DiskFullError, match="docker"), explained():
        raise docker.errors.APIError("x", explanation="write /var/lib/docker/x: no space left on device")


def test_any_other_refusal_is_told_in_the_engines_words() -> None:
    import docker

    with pytest.raises(ProgramError, match="conflict: unable"), explained():
        raise docker.errors.APIError("x", explanation="conflict: unable to remove")


# ---- what is asked of the engine


SPEC = ContainerSpec(image="i", argv=("/bin/true",), role="build", user=(1000, 100), processors=8, memory_mb=512)


def changed(**changes: object) -> EngineFacts:
    import dataclasses

    return dataclasses.replace(FACTS, **changes)  # type: ignore[arg-type]


def test_the_caller_is_root_inside_a_rootless_engine_and_himself_elsewhere() -> None:
    assert user_inside((1000, 100), FACTS) == (1000, 100)
    assert user_inside((1000, 100), changed(security_options=("name=rootless",))) == (0, 0)


def test_no_more_processors_are_asked_for_than_there_are() -> None:
    assert options_for(SPEC, FACTS)["nano_cpus"] == 2 * 10**9


def test_limits_that_the_engine_can_not_keep_are_not_asked_for() -> None:
    options = options_for(SPEC, changed(limits_cpu=False, limits_memory=False, limits_pids=False))
    assert not {"nano_cpus", "mem_limit", "memswap_limit", "pids_limit"} & set(options)


def test_user_ids_that_the_engine_remaps_are_kept_and_selinux_lets_the_build_read_its_mounts() -> None:
    options = options_for(SPEC, changed(security_options=("name=userns", "name=selinux")))
    assert options["userns_mode"] == "host"
    assert "label=disable" in options["security_opt"]
