"""Who listens on a port: real sockets of real processes, found in /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npu_serving.errors import ServerError
from npu_serving.serving.listeners import listeners_on
from npu_serving.serving.preflight import check_port_free

SHARING = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


def sharing(port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHARING, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_this_process_is_found_with_its_program_and_start() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        (found,) = listeners_on(server.getsockname()[1])
    assert found.pid == os.getpid()
    assert Path(found.program).samefile(sys.executable)
    assert 0 < found.since <= time.time() + 1
    assert found.program in found.describe()


def test_a_connection_is_no_listener() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            assert listeners_on(client.getsockname()[1]) == ()


def test_every_server_that_shares_a_grpc_port_is_named() -> None:
    with sharing(0) as first:
        assert first.stdout is not None
        port = int(first.stdout.readline())
        with sharing(port) as second:
            assert second.stdout is not None
            second.stdout.readline()
            pids = {found.pid for found in listeners_on(port)}
            with pytest.raises(ServerError) as caught:
                check_port_free(port, "gRPC")
            second.communicate()
        first.communicate()
    assert pids == {first.pid, second.pid}
    assert f"process {first.pid} (" in caught.value.what
    assert f"process {second.pid} (" in caught.value.what
    assert "each of two servers would get half of the calls" in caught.value.cause
    check_port_free(port, "gRPC")


def test_a_proc_that_can_t_be_read_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("  sl\n garbage\n" + "0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0 77 1 0\n")
    (tmp_path / "12").mkdir()
    assert listeners_on(8080, tmp_path) == ()
