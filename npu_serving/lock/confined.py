"""The evaluation of a tree in a process of its own, which has little memory and little time.

A WORKSPACE is a program that somebody else wrote, and a single operation of it ([0] * 1000000000, a number squared
forty times) can take more than a machine has. The interpreter can't be stopped within an operation; the kernel
stops a process. Both sides are here, and what they say to each other, one JSON document a line: the child says what it
is doing, asks for archives that .bzl files are loaded from, and answers at the end.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from npu_serving import errors, process
from npu_serving.errors import NpuServingError, WorkspaceError
from npu_serving.lock.lockfile import Archive, OtherRepository
from npu_serving.lock.repositories import Declared, GetArchive, evaluate
from npu_serving.settings import PROJECT_ROOT

MOST_ADDRESS_SPACE_BYTES = 3 << 29
"""Of the child, whole: room for what limits.py lets it grow by, which comes with a better message."""
MOST_CPU_SECONDS = 60
"""Processor time, so that a busy machine changes nothing. The real tree takes 1.4 s."""
_STACK_BYTES = 128 << 20
"""Each load() within a load() takes a piece of the stack of interpreter and Python."""
_DEEPEST_PYTHON_CALL = 20_000
_LONGEST_LINE_BYTES = 32 << 20
_OUT_OF_MEMORY = ("memory allocation", "MemoryError", "Cannot allocate memory")
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop()); from npu_serving.lock.confined import answer_parent; "
    "answer_parent()"
)


def evaluate_confined(tree: Path, get_archive: GetArchive, *, cpu_seconds: int = MOST_CPU_SECONDS) -> Declared:
    """As evaluate() does it, in another process. Raises as it does, and WorkspaceError when the bounds are reached."""
    argv = [sys.executable, "-I", "-c", _START, str(PROJECT_ROOT)]
    at = "the WORKSPACE"
    with tempfile.TemporaryFile() as complaints, process.conversing(argv, stderr=complaints) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        _say(child.stdin, {"tree": str(tree), "cpu_seconds": cpu_seconds})
        while True:
            line = child.stdout.readline(_LONGEST_LINE_BYTES)
            if len(line) == _LONGEST_LINE_BYTES:
                raise _given_up(at, "what it declares is longer than any real tree's")
            if not line.endswith(b"\n"):
                complaints.seek(0)
                raise _ended(child.wait(), complaints.read().decode(errors="replace"), at, cpu_seconds)
            if not line.startswith(b"{"):
                continue  # of a module that Python loads at its start and that prints
            message = json.loads(line)
            if "at" in message:
                at = message["at"]
            elif "get" in message:
                path = get_archive(_archive(message["get"]))
                _say(child.stdin, {"path": None if path is None else str(path)})
            elif "error" in message:
                raise _error(message["error"])
            else:
                return _declared(message)


def _ended(status: int, complaints: str, at: str, cpu_seconds: int) -> WorkspaceError:
    """The error for a child that ended without an answer."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return _given_up(at, f"it took more than {cpu_seconds} seconds")
    if status == -signal.SIGABRT or any(text in complaints for text in _OUT_OF_MEMORY):
        return _given_up(at, f"it asked for more than {MOST_ADDRESS_SPACE_BYTES / 1e9:.1f} GB of memory")
    last = complaints.strip().rpartition("\n")[2][:500]
    return _given_up(at, f"the interpreter ended with status {status}" + (f" ({last})" if last else ""))


def _given_up(at: str, why: str) -> WorkspaceError:
    return WorkspaceError(
        f"Gave up evaluating {at}: {why}.",
        cause="a loop without end, an operation on something huge, or a malicious file",
        cure="correct that file, or unpack the tree again",
    )


def _error(told: Mapping[str, str]) -> NpuServingError:
    kind = cast("type[NpuServingError]", getattr(errors, told["kind"]))
    return kind(told["what"], cause=told["cause"], cure=told["cure"])


def _archive(fields: Mapping[str, Any]) -> Archive:
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Archive(**given)


def _declared(message: Mapping[str, Any]) -> Declared:
    return Declared(
        archives=tuple(_archive(fields) for fields in message["archives"]),
        others=tuple(OtherRepository(**fields) for fields in message["others"]),
        loaded=frozenset(message["loaded"]),
        missing=tuple(_archive(fields) for fields in message["missing"]),
    )


def _say(stream: IO[bytes], message: object) -> None:
    try:
        stream.write(json.dumps(message).encode() + b"\n")
        stream.flush()
    except BrokenPipeError:
        pass  # it has ended; how, is found out where its answer is read


# ---- the child


def answer_parent() -> None:
    """What the child does: reads the request, evaluates within the bounds, answers."""
    request = json.loads(sys.stdin.buffer.readline())
    _limit(resource.RLIMIT_AS, MOST_ADDRESS_SPACE_BYTES, MOST_ADDRESS_SPACE_BYTES)
    _limit(resource.RLIMIT_CPU, request["cpu_seconds"], request["cpu_seconds"] + 1)
    _limit(resource.RLIMIT_CORE, 0, 0)
    sys.setrecursionlimit(_DEEPEST_PYTHON_CALL)
    threading.stack_size(_STACK_BYTES)
    worker = threading.Thread(target=_answer, args=(Path(request["tree"]),))
    worker.start()
    worker.join()


def _limit(kind: int, soft: int, hard: int) -> None:
    """Lowers a limit of this process, and leaves one that is lower already (ulimit): only root may raise it."""
    _, former = resource.getrlimit(kind)
    most = hard if former == resource.RLIM_INFINITY else min(hard, former)
    resource.setrlimit(kind, (min(soft, most), most))


def _answer(tree: Path) -> None:
    out = sys.stdout.buffer

    def get_archive(archive: Archive) -> Path | None:
        _say(out, {"get": dataclasses.asdict(archive)})
        line = sys.stdin.buffer.readline()
        if not line:
            raise SystemExit(1)  # nobody is there any more
        path = json.loads(line)["path"]
        return None if path is None else Path(path)

    try:
        declared = evaluate(tree, get_archive, lambda name: _say(out, {"at": name}))
    except NpuServingError as error:
        told = {"kind": type(error).__name__, "what": error.what, "cause": error.cause, "cure": error.cure}
        _say(out, {"error": told})
        return
    _say(
        out,
        {
            "archives": [dataclasses.asdict(item) for item in declared.archives],
            "others": [dataclasses.asdict(item) for item in declared.others],
            "loaded": sorted(declared.loaded),
            "missing": [dataclasses.asdict(item) for item in declared.missing],
        },
    )
