"""What keeps a model server from serving and can be seen before it is started: its ports, its libraries."""

from __future__ import annotations

import errno
import platform
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import process
from npu_serving.errors import RequestError, ServerError
from npu_serving.serving.listeners import listeners_on

DYNAMIC_LINKERS = {"x86_64": Path("/lib64/ld-linux-x86-64.so.2"), "aarch64": Path("/lib/ld-linux-aarch64.so.1")}

LONGEST_SOCKET_PATH = 107  # bytes; unix(7), sun_path without the byte that ends it
# Of Python's multiprocessing, by which CANN compiles operators.
SOCKET_BELOW_TMPDIR = "/pymp-XXXXXXXX/listener-XXXXXXXX"


def check_ports(port: int, rest_api_port: int, *, spared: Collection[int] = ()) -> None:
    """RequestError for invalid ports, ServerError for one that can't be listened on now.

    One that only processes of `spared` listen on counts as free.
    """
    if port not in range(1, 65536):
        raise RequestError(
            f"The gRPC port must be from 1 to 65535, not {port}.", cure="choose another port, such as 8500"
        )
    if rest_api_port not in range(65536):
        raise RequestError(
            f"The REST port must be from 0 to 65535, not {rest_api_port}.",
            cure="choose another port, such as 8501, or 0 for no REST API",
        )
    if port == rest_api_port:
        raise RequestError(
            f"The gRPC port and the REST port are both {port}.",
            cause="the server would start without a REST API",
            cure="choose two different ports",
        )
    check_port_free(port, "gRPC", spared=spared)
    if rest_api_port:
        check_port_free(rest_api_port, "REST", spared=spared)


def check_port_free(port: int, api: str, *, spared: Collection[int] = ()) -> None:
    """ServerError if the port can't be listened on, unless it is only processes of `spared` that listen there.

    The server would not always notice: gRPC sets SO_REUSEPORT, so that two servers can share a port and each gets some
    of the calls, and a REST port that is taken costs it no more than a line in the log.
    """
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - as the server does
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger don't count
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                listening = {listener.pid for listener in listeners_on(port)} if spared else set()
                if listening and listening <= set(spared):
                    return
                raise _in_use(port, api) from error
            if error.errno == errno.EACCES:
                raise ServerError(
                    f"This user may not use port {port} for {api}.", cure="choose a port from 1024 on"
                ) from error
            if family == socket.AF_INET:
                raise ServerError(
                    f"Could not listen on port {port} for {api} ({error.strerror}).", cure="choose another port"
                ) from error


def _in_use(port: int, api: str) -> ServerError:
    shared = "; a gRPC port can be shared, and each of two servers would get half of the calls" * (api == "gRPC")
    listeners = listeners_on(port)
    if not listeners:
        return ServerError(
            f"Port {port} for {api} is already in use.",
            cause=f"another program listens there, perhaps a server that is still running{shared}",
            cure=f"stop it (ss -ltnp 'sport = :{port}' shows it) or choose another port",
        )
    holders = ", ".join(f"process {each.pid} ({each.describe()})" for each in listeners)
    return ServerError(
        f"Port {port} for {api} is already in use by {holders}.",
        cause=f"it may be a server that is still running{shared}",
        cure=f"stop it (kill {' '.join(str(each.pid) for each in listeners)}) or choose another port",
    )


@dataclass(frozen=True)
class LibrariesFound:
    """What the dynamic linker says of a program's libraries: the names that it does not find, the files that it takes.

    Both are empty where that can't be found out.
    """

    missing: tuple[str, ...] = ()
    taken: tuple[Path, ...] = ()


def find_libraries(program: Path, env: Mapping[str, str]) -> LibrariesFound:
    """The libraries of the program, started with that environment."""
    linker = DYNAMIC_LINKERS.get(platform.machine())
    if linker is None or not linker.exists():
        return LibrariesFound()
    # As ldd(1) does: with this variable the linker lists what it finds, and runs nothing of the program.
    tracing = {**env, "LD_TRACE_LOADED_OBJECTS": "1", "LC_ALL": "C"}
    listed = process.run([linker, program], env=tracing, check=False)
    missing = re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)
    taken = re.findall(r"^\s*\S+ => (/.*) \(0x[0-9a-f]+\)$", listed.stdout, re.MULTILINE)
    return LibrariesFound(tuple(dict.fromkeys(missing)), tuple(Path(path) for path in dict.fromkeys(taken)))


def socket_warnings(env: Mapping[str, str]) -> list[str]:
    """A warning where the graph engine could not start, because its compiler's sockets would have too long a path.

    What it says itself then is that it failed to initialise, with the error code of something else.
    """
    directory = env.get("TMPDIR", "")
    if len(directory.encode("utf-8", "surrogateescape")) + len(SOCKET_BELOW_TMPDIR) <= LONGEST_SOCKET_PATH:
        return []
    return [
        f"TMPDIR is too long ({directory}): CANN's compiler makes sockets below it, whose path may have "
        f"{LONGEST_SOCKET_PATH} bytes, and the first request would fail: export TMPDIR=/tmp"
    ]
