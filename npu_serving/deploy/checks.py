"""What keeps a model server from serving and can be seen before it is started: its model, its ports, its libraries."""

from __future__ import annotations

import errno
import os
import platform
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from npu_serving import process
from npu_serving.errors import RequestError, ServerError

MODEL_LAYOUT = "the layout is NAME/VERSION/saved_model.pb, such as resnet/1/saved_model.pb, and NAME is what to give"
DYNAMIC_LINKERS = {"x86_64": Path("/lib64/ld-linux-x86-64.so.2"), "aarch64": Path("/lib/ld-linux-aarch64.so.1")}


def check_model_directory(base: Path, wanted: str) -> None:
    """RequestError where the version that the server would load, the highest, is not there or holds no model."""
    if not base.is_dir():
        raise RequestError(f"There is no model directory {base}.", cause=MODEL_LAYOUT, cure="name an existing one")
    names = (wanted, "saved_model.pbtxt") if wanted == "saved_model.pb" else (wanted,)
    if any((base / name).is_file() for name in names):
        is_version = re.fullmatch("[0-9]+", base.name) is not None
        cure = f"give {base.parent}" if is_version else f"mkdir {base}/1 and move the files of {base} into it"
        raise RequestError(f"{base} holds a model itself, not version directories.", cause=MODEL_LAYOUT, cure=cure)
    # Whatever strto64 reads is a version for the server (file_system_storage_path_source.cc), 00000123 as well.
    versions = {int(path.name): path for path in base.iterdir() if re.fullmatch("[0-9]{1,19}", path.name)}
    if not versions:
        raise RequestError(
            f"{base} holds no version directory.", cause=MODEL_LAYOUT, cure=f"put the model into {base / '1'}"
        )
    latest = versions[max(versions)]
    if not any(os.access(latest / name, os.R_OK) for name in names):
        raise RequestError(
            f"{latest} holds no {' or '.join(names)} that can be read.",
            cause=f"the server loads the highest version; {MODEL_LAYOUT}",
            cure=f"complete {latest} or remove it",
        )


def check_ports(port: int, rest_api_port: int) -> None:
    """RequestError for ports that can't be meant, ServerError for one that can't be listened on now."""
    if port not in range(1, 65536):
        raise RequestError(f"The gRPC port is {port}.", cure="give one from 1 to 65535")
    if rest_api_port not in range(65536):
        raise RequestError(f"The REST port is {rest_api_port}.", cure="give one from 1 to 65535, or 0 for no REST API")
    if port == rest_api_port:
        raise RequestError(
            f"The gRPC port and the REST port are both {port}.",
            cause="the server would start without a REST API",
            cure="give two different ports",
        )
    _check_port_free(port, "gRPC")
    if rest_api_port:
        _check_port_free(rest_api_port, "REST")


def _check_port_free(port: int, api: str) -> None:
    """ServerError if the port can't be listened on.

    The server would not always tell: gRPC sets SO_REUSEPORT, so that two servers can share a port and each gets some
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
                raise ServerError(
                    f"Port {port}, meant for {api}, is in use.",
                    cause="another program listens there, perhaps a server that still runs",
                    cure=f"end it (ss -ltnp 'sport = :{port}' shows it) or name another port",
                ) from error
            if error.errno == errno.EACCES:
                raise ServerError(
                    f"Port {port}, meant for {api}, is not for this user.", cure="name a port from 1024 on"
                ) from error
            if family == socket.AF_INET:
                raise ServerError(f"Port {port}, meant for {api}, can't be listened on: {error.strerror}.") from error


def missing_libraries(program: Path, env: Mapping[str, str]) -> list[str]:
    """The libraries the dynamic linker would not find for the program; empty where that can't be asked."""
    linker = DYNAMIC_LINKERS.get(platform.machine())
    if linker is None or not linker.exists():
        return []
    # As ldd(1) does: with this variable the linker lists what it finds, and runs nothing of the program.
    tracing = {**env, "LD_TRACE_LOADED_OBJECTS": "1", "LC_ALL": "C"}
    listed = process.run([linker, program], env=tracing, check=False)
    missing = re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)
    return list(dict.fromkeys(missing))
