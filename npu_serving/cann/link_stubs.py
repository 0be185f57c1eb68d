"""CANN's libraries for linking only: beside the real ones, with the same names, and nothing behind their functions.

A server that finds one of them starts, and what it calls there does nothing, or fails with an error of no use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from npu_serving.cann.layout import is_there, table
from npu_serving.elf.owners import is_of_driver
from npu_serving.findings import WARNING, Finding

KIND = "link-stub"


def link_stub_findings(loaded: Iterable[Path], library_path: Sequence[Path]) -> list[Finding]:
    """A warning for each library that is taken from a directory of stubs, and where a real one is."""
    findings = []
    for path in loaded:
        if not _is_stub(path):
            continue
        real = next((each / path.name for each in library_path if _is_real(each / path.name)), None)
        found = f"The real one is {real}." if real is not None else f"No real one was found: {_origin(path.name)}."
        findings.append(
            Finding(
                f"{path} is a stub, made for linking, that the server would take for the real library. {found}",
                f"remove {path.parent} from LD_LIBRARY_PATH (or from /etc/ld.so.conf.d, then run ldconfig)",
                severity=WARNING,
                kind=KIND,
                where=path.name,
            )
        )
    return findings


def _origin(name: str) -> str:
    return "it comes with the driver" if is_of_driver(name) else "./inv cann-info says what of CANN is not installed"


def _is_stub(path: Path) -> bool:
    """Whether the file, or the one that it is a link to, is in such a directory."""
    names = set(table().link_only_directories)
    return any(names & set(each.parts[:-1]) for each in (path, Path(os.path.realpath(path))))


def _is_real(path: Path) -> bool:
    return is_there(path) and not _is_stub(path)
