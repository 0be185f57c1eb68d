"""The adapter in a process: found in the kernel's list of the files that it has mapped, which nothing else proves."""

from __future__ import annotations

import re
from pathlib import Path

from npu_serving import process
from npu_serving.facts import ADAPTER_SONAME

ADAPTER_FILE = re.compile(f"(?:lib)?{re.escape(ADAPTER_SONAME)}")


def mapped_adapter(pid: int) -> Path | None:
    """The adapter library in the memory map of the process, or of one that it started (a wrapper's child)."""
    for member in sorted({pid, *process.descendants(pid)}):
        for name in _mapped_files(member):
            if ADAPTER_FILE.fullmatch(name.rpartition("/")[2]):
                return Path(name)
    return None


def _mapped_files(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # it has ended in the meantime
        return []
    columns = (line.split(maxsplit=5) for line in text.split("\n"))  # the path is the sixth, and may hold blanks
    return [row[5].removesuffix(" (deleted)") for row in columns if len(row) == 6]
