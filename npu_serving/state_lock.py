"""The lock on a state directory, which names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import StateLockedError

LOCK = ".lock"
_OTHER_ROOT = (
    "wait until it has finished, or use another build_root for this run: copy invoke.yaml, change it there, and name "
    "the copy in NPU_SERVING_SETTINGS"
)


@contextlib.contextmanager
def state_lock(
    directory: Path, *, doing: str, wait: bool = False, name: str = LOCK, cure: str = _OTHER_ROOT
) -> Iterator[None]:
    """Keeps other runs out of `directory` while the block runs; StateLockedError names who is in there, and `cure`.

    With `wait` it waits for its turn instead: for what takes a moment only. Locks of two names on one directory are
    two locks.
    """
    fsutil.make_directory(directory)
    path = directory / name
    with fsutil.explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise _locked(directory, file.read(), cure) from error
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "doing": doing}))
        file.flush()
        yield


def _locked(directory: Path, holder: str, cure: str) -> StateLockedError:
    try:
        who = json.loads(holder)
        described = f"process {who['pid']} ({who['doing']})"
    except (ValueError, KeyError, TypeError):
        described = "another process"
    return StateLockedError(
        f"{directory} is in use by {described}.",
        cause="another run is using the same state directory",
        cure=cure,
    )
