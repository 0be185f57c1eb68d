"""The files that a process has mapped, by the kernel's list of them, which nothing else proves: the adapter above all.

A file that was replaced or removed stays mapped as it was, and the kernel says so behind its name (proc(5), maps).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import process
from npu_serving.facts import ADAPTER_SONAME

ADAPTER_FILE = re.compile(f"(?:lib)?{re.escape(ADAPTER_SONAME)}")
_DELETED = " (deleted)"
_LIBRARY = re.compile(r".*\.so(\.[0-9.]+)?")


@dataclass(frozen=True)
class ReplacedFile:
    """A program or a library in use that is no longer what its path leads to; `is_there` where something else is."""

    path: Path
    is_there: bool

    def text(self) -> str:
        """In a few words."""
        return f"{self.path} was {'replaced' if self.is_there else 'removed'}"


def mapped_adapter(pid: int) -> Path | None:
    """The adapter library in the memory map of the process, or of one that it started (a wrapper's child)."""
    for member in sorted({pid, *process.descendants(pid)}):
        for name, _ in _mapped_files(member):
            if ADAPTER_FILE.fullmatch(name.rpartition("/")[2]):
                return Path(name)
    return None


def replaced_files(pid: int, since: float) -> tuple[ReplacedFile, ...]:
    """What the process, begun at that time (in seconds since the epoch), and those that it started run of such files.

    The program comes first, then the adapter. A file that was written to in its place counts as replaced.
    """
    found: dict[Path, ReplacedFile] = {}
    for member in sorted({pid, *process.descendants(pid)}):
        program = _program_of(member)
        for name, is_executable in _mapped_files(member, deleted=True):
            path, was_deleted = Path(name.removesuffix(_DELETED)), name.endswith(_DELETED)
            is_code = is_executable and (path == program or _LIBRARY.fullmatch(path.name))
            if is_code and path not in found and (was_deleted or _written_since(path, since)):
                found[path] = ReplacedFile(path, path.exists())
    return tuple(sorted(found.values(), key=lambda item: _rank(item.path)))


def _rank(path: Path) -> tuple[int, str]:
    is_library = _LIBRARY.fullmatch(path.name) is not None
    return (is_library + (is_library and ADAPTER_FILE.fullmatch(path.name) is None), str(path))


def _program_of(pid: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe").removesuffix(_DELETED))
    except OSError:
        return None


def _written_since(path: Path, since: float) -> bool:
    try:
        return since < path.stat().st_mtime <= time.time()
    except OSError:
        return True


def _mapped_files(pid: int, *, deleted: bool = False) -> Iterator[tuple[str, bool]]:
    """The paths in its memory map, each with whether that part may be executed; with the kernel's mark if asked for."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # it has ended in the meantime
        return
    for line in text.split("\n"):
        columns = line.split(maxsplit=5)  # the path is the sixth, and may hold blanks
        if len(columns) == 6:
            name = columns[5].replace("\\012", "\n")
            yield name if deleted else name.removesuffix(_DELETED), "x" in columns[1]
