"""Files that this user may not read: which directory or file refuses, whose it is, and what helps."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

REINSTALL = "reinstall CANN with --install-for-all"


def refused_at(path: Path) -> Path | None:
    """The first directory on the way to `path` that this user may not enter, or the file itself that they may not read.

    None where nothing refuses: it can be read, or it isn't there.
    """
    real = Path(os.path.realpath(path))
    for directory in reversed(real.parents):
        if not os.access(directory, os.X_OK):
            return directory if os.path.isdir(directory) else None  # noqa: PTH112 - Path.is_dir() raises where it is shut
    return real if os.path.lexists(real) and not os.access(real, os.R_OK) else None


def whose(path: Path) -> str:
    """Its owner, group and permissions, for a person: `owner root, group HwHiAiUser, mode 0750`."""
    try:
        status = os.stat(path)
    except OSError as error:
        return f"of unknown owner ({error.strerror})"
    return f"owner {_user(status.st_uid)}, group {_group(status.st_gid)}, mode {stat.S_IMODE(status.st_mode):04o}"


def cure_for(path: Path) -> str:
    """What opens it for this user: joining its group where that may read it, but root's; or an installation for all."""
    try:
        status = os.stat(path)
    except OSError:
        return f"run as its owner, or {REINSTALL}"
    wanted = stat.S_IRGRP | (stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else 0)
    is_others = status.st_gid not in (0, os.getegid(), *os.getgroups())
    if is_others and status.st_mode & wanted == wanted:
        group = _group(status.st_gid)
        return (
            f"sudo usermod -aG {group} {_user(os.geteuid())}, then log in again "
            f"(in a container: --group-add {status.st_gid}); or {REINSTALL}"
        )
    return f"run as {_user(status.st_uid)}, or {REINSTALL}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
