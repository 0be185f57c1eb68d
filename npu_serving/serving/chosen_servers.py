"""Which servers of serve a person means: by a port, a model, a deployment file, or all of them."""

from __future__ import annotations

from pathlib import Path

from npu_serving.errors import ActionNeeded, RequestError
from npu_serving.serving.listeners import listeners_on
from npu_serving.serving.server_record import KnownServer, known_servers


def chosen_servers(
    build_root: Path, *, name: str = "", deployment: Path | None = None, every: bool = False, or_else: str = ""
) -> tuple[KnownServer, ...]:
    """The servers that are meant, those that run if there are such; empty where none of those known here is running.

    `name` is a port, one of the names that status shows, or that of a model; without any of the three the one that
    runs. RequestError where that is not clear, with `or_else` in its cure; ActionNeeded for a name by which none is
    known.
    """
    known = known_servers(build_root)
    running = tuple(server for server in known if server.is_running)
    if every:
        return running
    if deployment is not None:
        found = tuple(server for server in known if is_of(server, deployment))
        if not found:
            raise _unknown(f"the deployment {deployment.absolute()}", known)
        return _running_first(found)
    if not name:
        if len(running) == 1 or not known:
            return running
        if not running:
            return known if len(known) == 1 else ()
        shown = "; ".join(f"{server.name}: {server.describe()}" for server in running)
        raise RequestError(f"{len(running)} servers run here: {shown}", cure=f"name one of them{or_else}")
    found = tuple(server for server in known if _is_called(server, name))
    found = _running_first(found or tuple(server for server in running if _serves(server, name)))
    if not found:
        raise _unknown(name, known)
    if len(found) > 1:
        names = ", ".join(server.name for server in found)
        raise RequestError(f"{name!r} means several servers: {names}.", cure="name one of them")
    return found


def chosen_server(build_root: Path, *, name: str = "", deployment: Path | None = None) -> KnownServer:
    """The one server that is meant; raises what chosen_servers() raises, and ActionNeeded where there is none."""
    found = chosen_servers(build_root, name=name, deployment=deployment)
    if len(found) == 1:
        return found[0]
    if not found:
        known = known_servers(build_root)
        listed = ", ".join(server.name for server in known)
        raise ActionNeeded(
            "No server of ./inv serve runs here.",
            cure=f"name one that has ended: {listed}" if known else "./inv serve --deployment deployment.yaml --detach",
        )
    raise RequestError(
        f"Several servers are of that deployment: {', '.join(server.name for server in found)}.",
        cause="they were started with other values (--set, --overlay)",
        cure="name one of them",
    )


def is_of(server: KnownServer, deployment: Path) -> bool:
    """Whether it was deployed from that file, with whatever overlays and values."""
    deployed = server.record.deployed if server.record is not None else None
    return deployed is not None and deployed.file == deployment.absolute()


def _is_called(server: KnownServer, name: str) -> bool:
    record = server.record
    ports = {record.grpc_port, record.rest_api_port, record.probe_port} - {0} if record is not None else set()
    return name == server.name or name in {str(port) for port in ports}


def _serves(server: KnownServer, model: str) -> bool:
    return server.record is not None and model in server.record.models


def _running_first(servers: tuple[KnownServer, ...]) -> tuple[KnownServer, ...]:
    """Those that run, where there are such: who says a port does not mean what ran there before."""
    return tuple(server for server in servers if server.is_running) or servers


def _unknown(name: str, known: tuple[KnownServer, ...]) -> ActionNeeded:
    """The error for a name by which no server is known; another program at that port is named, and left alone."""
    others = listeners_on(int(name)) if name.isdecimal() and len(name) < 6 else ()
    shown = ", ".join(f"process {each.pid} ({each.describe()})" for each in others)
    listed = "; ".join(f"{server.name}{'' if server.is_running else ' (has ended)'}" for server in known)
    return ActionNeeded(
        f"No server of ./inv serve is known here by {name!r}"
        + (f"; {shown} listens there, and is left alone" * bool(shown))
        + ".",
        cause="it was not started by ./inv serve with this build_root",
        cure=f"name one of these: {listed}"
        if known
        else "start one: ./inv serve --deployment deployment.yaml --detach",
    )
