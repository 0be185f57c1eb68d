"""stop: the recorded server and nothing else, politely first, and said as it was."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_server import record
from serving_site import ServingSite

from npu_serving.console import Silent
from npu_serving.errors import FileAccessError, ServerError
from npu_serving.serving import stopping as room
from npu_serving.serving.server_record import KnownServer, RecordKeeper, known_servers

IGNORES = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
IGNORES_SIGTERM = f"{IGNORES}; print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(root: Path, *, code: str = "print(flush=True); input()") -> Iterator[subprocess.Popen[bytes]]:
    """A process that is known as a server, without a serve that watches it."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            RecordKeeper(root, record(8501, grpc_port=8500)).began(process.pid)
            yield process
        finally:
            process.kill()


def stopped(root: Path, *, timeout_s: float = 60, dry_run: bool = False) -> room.StoppedServers:
    found = room.stop_servers(root, known_servers(root), Silent(), timeout_s=timeout_s, dry_run=dry_run)
    json.dumps(found.to_json())
    return found


def end(root: Path) -> str:
    (server,) = known_servers(root)
    return server.end.what if server.end is not None else ""


def test_a_server_that_heeds_sigterm_is_stopped_and_that_is_kept(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        found = stopped(tmp_path)
        assert process.wait() == -signal.SIGTERM
    assert [server.done for server in found.servers] == [room.STOPPED]
    assert found.text().startswith("Server 8501 was stopped, within ")
    assert end(tmp_path) == "It was stopped by ./inv stop."
    assert stopped(tmp_path).text() == "Server 8501 has ended already. It was stopped by ./inv stop."


def test_one_that_does_not_heed_it_is_killed_after_the_time_it_was_given(tmp_path: Path) -> None:
    with running(tmp_path, code=IGNORES_SIGTERM) as process:
        found = stopped(tmp_path, timeout_s=0.2)
        assert process.wait() == -signal.SIGKILL
    assert [server.done for server in found.servers] == [room.KILLED]
    assert "by SIGKILL, since it did not heed SIGTERM" in found.text()
    assert "with SIGKILL" in end(tmp_path)


def test_a_process_that_has_the_number_of_a_server_that_is_gone_is_left_alone(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        path = tmp_path / "servers" / "8501.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "process_begin": 1}))
        assert [server.done for server in stopped(tmp_path).servers] == [room.HAD_ENDED]
        assert process.poll() is None


def test_a_number_that_becomes_another_processes_meanwhile_gets_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as process:
        servers = known_servers(tmp_path)
        assert servers[0].is_running
        monkeypatch.setattr(room, "begin_of", lambda _pid: 1)
        with room._handle(servers[0], servers[0].record or record(1)) as send:
            send(signal.SIGKILL)
        assert process.poll() is None


@pytest.mark.parametrize("with_descriptor", [True, False])
def test_another_users_server_is_refused_also_by_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_descriptor: bool
) -> None:
    def refused(*_words: object) -> None:
        raise PermissionError

    if with_descriptor:
        monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    else:
        monkeypatch.delattr(os, "pidfd_open")
        monkeypatch.setattr(os, "kill", refused)
    with running(tmp_path) as process:
        for dry_run in (True, False):
            with pytest.raises(FileAccessError, match=r"Server 8501 is another user's") as caught:
                stopped(tmp_path, dry_run=dry_run)
            assert "./inv stop 8501" in caught.value.cure
        assert process.poll() is None
        monkeypatch.undo()


def test_without_file_descriptors_of_processes_it_is_stopped_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with running(tmp_path) as process:
        stopped(tmp_path)
        assert process.wait() == -signal.SIGTERM


def test_one_that_not_even_sigkill_ends_is_an_error_that_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SECONDS_TO_DIE", 0.1)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_words: None)
    with running(tmp_path), pytest.raises(ServerError, match="does not end, not even by SIGKILL") as caught:
        stopped(tmp_path, timeout_s=0.1)
    assert "wchan" in caught.value.cure


def test_a_dry_run_stops_nothing_and_nothing_to_stop_is_no_failure(tmp_path: Path) -> None:
    assert stopped(tmp_path).text() == "Nothing to stop: no server of ./inv serve runs here."
    with running(tmp_path) as process:
        before = {path: path.read_bytes() for path in (tmp_path / "servers").iterdir()}
        assert stopped(tmp_path, dry_run=True).text().startswith("Server 8501 would be stopped: process ")
        assert process.poll() is None
        assert {path: path.read_bytes() for path in (tmp_path / "servers").iterdir()} == before


def test_a_server_in_a_terminal_is_stopped_too_and_its_serve_takes_that_for_no_failure(site: ServingSite) -> None:
    site.behaves({}, before=IGNORES)
    task = site.begins(*site.of_flags())
    site.until(lambda record: record.readiness is not None and record.readiness.ready)
    assert "was stopped by SIGKILL" in site.types("stop", "--all", "--timeout=1")
    said, _ = task.communicate()
    assert task.returncode == -signal.SIGKILL
    assert "memory" not in said, "it is not looked for what has killed it"
    assert isinstance(site.server(), KnownServer)
    for words in (["--timeout=0"], ["x", "--all"], ["--deployment=x", "y"]):
        site.types("stop", *words, wanted=2)


def test_who_interrupts_it_hears_that_the_server_may_still_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with running(tmp_path, code=IGNORES_SIGTERM) as process:
        with monkeypatch.context() as patched:
            patched.setattr(time, "sleep", interrupted)
            with pytest.raises(KeyboardInterrupt, match=r"server 8501 was told to stop, and may run .* ./inv status"):
                stopped(tmp_path)
        assert process.poll() is None
