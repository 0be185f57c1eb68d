"""What other kits have left in the cache: removed once a server of this one is current."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError
from npu_serving.relink_kit.kit_file import Kit
from npu_serving.relink_kit.unpacking import unpacked_directory
from npu_serving.relink_kit.zip_start import IN_USE

_MEMBERS = re.compile(r"kit-[0-9a-f]{32}|\.kit-[0-9a-f]{32}\..*|\.removed-.*")
"""Unpacked members, and what killed runs left of them or of programs."""
_PROGRAM = re.compile(r"program-[0-9a-f]{16}")


def clear_others(kit: Kit, cache: Path, reporter: Reporter) -> None:
    """Removes the members of all kits but this one, and each program that no process runs from, of this user.

    The caller holds the lock on the cache, so nobody links from the members. Killed at any time it leaves what the
    next call removes; what can't be removed is said, and stays.
    """
    for path in sorted(cache.iterdir()):
        if path == unpacked_directory(kit, cache) or not _is_own_directory(path):
            continue
        try:
            if _MEMBERS.fullmatch(path.name):
                fsutil.remove(path)
            elif _PROGRAM.fullmatch(path.name):
                _remove_unless_used(path)
        except (OSError, NpuServingError) as error:
            reporter.warn(f"{path}, which another kit has unpacked, could not be removed: {error}")


def _is_own_directory(path: Path) -> bool:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _remove_unless_used(program: Path) -> None:
    """Gives it another name first: a kit that is started meanwhile unpacks its own into a new directory."""
    descriptor = os.open(program / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = program.with_name(f".removed-{program.name}")
        fsutil.remove(doomed)
        fsutil.rename_directory(program, doomed)
        fsutil.remove(doomed)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
