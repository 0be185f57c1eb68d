"""A server that runs on this machine, as a set-up by hand: its command line, its environment, the files they name.

All of it is read in /proc. Nothing is asked of the server, and nothing of it is changed.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.npu_signs import LEVEL_OF_THE_SIGN, LOG_LEVEL_VARIABLE
from npu_serving.cann.environment import environment_table
from npu_serving.cann.layout import root_above
from npu_serving.deploy.pinning import usable_processors
from npu_serving.deploy.processor_lists import processors_text
from npu_serving.deploy.rendering import JOB
from npu_serving.deploy.set_up_by_hand import (
    FLAG_OF_KIND,
    LARGEST_BYTES,
    LISTS_OF_DIRECTORIES,
    MODELS,
    PLATFORMS,
    PROGRAM,
    ROOT_OF_CANN,
    SetUpByHand,
    take_config,
    take_flags,
)
from npu_serving.errors import FileAccessError, NpuServingError, RequestError
from npu_serving.options.server_environment import server_environment
from npu_serving.options.server_flags import known_flags
from npu_serving.serving.listeners import PROC, Listener, has_listener, listeners_on
from npu_serving.writers.shell import command_line

_NAMES_A_MODEL = ("--model_base_path=", "--model_config_file=")
_OF_THE_START = {"JOB_ID": JOB, LOG_LEVEL_VARIABLE: LEVEL_OF_THE_SIGN}
"""What every server of ours gets for the NPU: it need not stand in a file."""


def running_set_up(port: int, proc: Path = PROC) -> SetUpByHand:
    """What the server was started with that listens on that port, its gRPC or its REST port.

    RequestError where nothing, something else, or more than one process listens there, where this user may not look at
    it, and for a file that it was started with and that is not there any more.
    """
    listener = _only_one(port, proc)
    process = proc / str(listener.pid)
    where = f"the process {listener.pid}, which listens on port {port}"
    try:
        words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
        variables = _variables((process / "environ").read_bytes())
        working = os.readlink(process / "cwd")
        processors = os.sched_getaffinity(listener.pid)
        user = (process / "cmdline").stat().st_uid
        is_elsewhere = not (process / "root").samefile("/")
    except OSError as error:
        raise _not_readable(port, listener, error) from error
    found = SetUpByHand(Path(working), where=where)
    root = process / "root" if is_elsewhere else Path("/")
    take_flags(found, _flags_in(words, listener, port), where)
    _make_absolute(found)
    if is_elsewhere:
        found.left_out.append(f"{where} runs in a container: every path is one within it")
    else:
        found.user = _name_of(user) if user else ""
        if processors < set(usable_processors()):
            found.pinning = {"cpus": processors_text(processors)}
    for kind, flag in FLAG_OF_KIND.items():
        if found.flags.get(flag):
            _take_file(found, kind, found.flags[flag], root, listener.since)
    _take_variables(found, variables, where)
    return found


def _only_one(port: int, proc: Path) -> Listener:
    if port not in range(1, 65536):
        raise RequestError(f"--from-server can't be {port}.", cure="name the gRPC or the REST port of the server")
    listeners = listeners_on(port, proc)
    if len(listeners) == 1:
        return listeners[0]
    if not listeners and has_listener(port, proc):
        raise RequestError(
            f"A process listens on port {port} that this user may not look at.",
            cause="another user runs it",
            cure=f"run it as that user or as root: sudo ./inv init-deployment --from-server {port}",
        )
    if not listeners:
        raise RequestError(
            f"Nothing listens on port {port} here.",
            cause="the server has another port, is still loading its models, or runs elsewhere",
            cure="name its gRPC or REST port: ss -ltnp shows them",
        )
    shown = ", ".join(f"{each.pid} ({each.describe()})" for each in listeners)
    raise RequestError(
        f"{len(listeners)} processes listen on port {port}: {shown}.",
        cause="a gRPC port can be shared, and each of them gets some of the calls",
        cure="name the REST port of the one that is meant, which only one of them has",
    )


def _not_readable(port: int, listener: Listener, error: OSError) -> RequestError:
    if isinstance(error, PermissionError):
        return RequestError(
            f"This user may not look at the process {listener.pid}, which listens on port {port}.",
            cause="another user runs it",
            cure=f"run it as that user or as root: sudo ./inv init-deployment --from-server {port}",
        )
    return RequestError(
        f"The process {listener.pid} ended while it was looked at ({error.strerror}).",
        cure="start the server again, then run the same command again",
    )


def _flags_in(words: list[str], listener: Listener, port: int) -> list[str]:
    """What follows the program, which a loader or an interpreter may stand before."""
    named = next((at for at, word in enumerate(words) if os.path.basename(word) == PROGRAM), None)  # noqa: PTH119
    if named is None and any(word.startswith(_NAMES_A_MODEL) for word in words):
        named = next(at for at, word in enumerate(words) if word.startswith("--")) - 1
    if named is None:
        program = listener.program or command_line(words[:1])
        raise RequestError(
            f"The process {listener.pid}, which listens on port {port}, is not {PROGRAM} but {program}.",
            cause="another program has this port, or passes it on to a container",
            cure="name a port of the server itself; of one in a container, run the same command within it",
        )
    return words[named + 1 :]


def _variables(environ: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in environ.decode("utf-8", "surrogateescape").split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def _make_absolute(found: SetUpByHand) -> None:
    """Paths that were relative to the directory in which the server was started."""
    for name, text in found.flags.items():
        is_path = known_flags()[name].path or name in FLAG_OF_KIND.values()
        if is_path and text and not text.startswith("/") and not fsutil.is_remote(text):
            found.flags[name] = os.path.normpath(found.directory / text)


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return ""


def _take_file(found: SetUpByHand, kind: str, text: str, root: Path, since: float) -> None:
    path = root / text.lstrip("/")
    try:
        fsutil.refuse_endless(path)
        with fsutil.explained(path, doing="read"):
            status = path.stat()
        if status.st_size > LARGEST_BYTES:
            raise FileAccessError(f"{path} is too large for a {kind}.", cure="name another server")
        content = fsutil.read_text(path)
    except NpuServingError as error:
        if kind not in (PLATFORMS, MODELS):
            found.left_out.append(f"--{FLAG_OF_KIND[kind]}: {error.what}")
            return
        raise RequestError(
            f"The server was started with --{FLAG_OF_KIND[kind]}={text}, which is not readable now: {error.what}",
            cause="it was moved or removed since, or belongs to another user",
            cure=f"put {text} back, then run the same command again",
        ) from error
    take_config(found, kind, path, content)
    if status.st_mtime > since:
        found.left_out.append(f"{text} was changed after the server had started; it is taken as it is now")


def _take_variables(found: SetUpByHand, variables: Mapping[str, str], where: str) -> None:
    """Those that the server, the adapter or CANN read; what CANN's set_env.sh sets is left to the CANN itself."""
    known = server_environment(variables)
    of_cann = {name for names in environment_table().variables.values() for name in names}
    homes = [variables[name] for name in sorted(of_cann) if variables.get(name, "").startswith("/")]
    roots = [root for root in map(root_above, map(Path, homes)) if root is not None]
    if roots:
        found.variables[ROOT_OF_CANN] = str(roots[0])
    elif homes:
        found.left_out.append(f"{where}: CANN is {homes[0]}; name the directory it is in with cann")
    for name, value in known.variables.items():
        if name not in of_cann and name not in LISTS_OF_DIRECTORIES and value and _OF_THE_START.get(name) != value:
            found.variables[name] = value
    found.left_out += [f"{where}: {warning}" for warning in known.warnings]
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        own = [entry for entry in variables.get(name, "").split(":") if entry and root_above(Path(entry)) is None]
        if own:
            found.left_out.append(
                f"{where}: {name} had {':'.join(own)}; a server gets it from the caller's environment"
            )
