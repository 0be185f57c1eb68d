"""Findings on the empty libtensorflow_framework.so: a real one in its place, or a stub where others would find it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from npu_serving.elf.loader import own_directories
from npu_serving.elf.owners import SERVER, owner_by_name
from npu_serving.elf.report import SECOND_TENSORFLOW, STRAY_STUB
from npu_serving.elf.subject import Subject
from npu_serving.elf.symbols import ElfFile, read_elf
from npu_serving.errors import NpuServingError
from npu_serving.findings import WARNING, Finding

STUBS = ("libtensorflow_framework.so", "_pywrap_tensorflow_internal.so")


def stub_findings(subject: Subject) -> Iterator[Finding]:
    """A real TensorFlow that would be loaded in the place of a stub, and stubs that stand in the way of a real one."""
    for library in subject.plan.libraries[1:]:
        if library.name.startswith(STUBS) and _is_a_tensorflow(library.elf):
            yield Finding(
                kind=SECOND_TENSORFLOW,
                severity=WARNING,
                where=library.name,
                what=f"{library.path} is a real TensorFlow, which would be loaded in addition to the server's own; "
                "the server expects an empty library of that name.",
                cure=f"remove {library.path.parent} from LD_LIBRARY_PATH",
            )
    for path in _everybodys_stubs(subject):
        yield Finding(
            kind=STRAY_STUB,
            severity=WARNING,
            where=path.name,
            what=f"{path} is an empty stub, made for linking. Other programs find it there instead of a real one: "
            "TensorFlow for Python fails with undefined symbols.",
            cure=f"remove {path}: the build has its own copy, which other programs don't find",
        )


def _is_a_tensorflow(elf: ElfFile) -> bool:
    return any(owner_by_name(name).kind == SERVER for name in elf.defined_names)


def _everybodys_stubs(subject: Subject) -> Iterator[Path]:
    """Stubs in LD_LIBRARY_PATH and in the system's directories, which are not the server's own."""
    machine, host = subject.program.elf.machine, subject.case.host
    cached = [path for name, path in host.cached(machine).items() if name.startswith(STUBS)]
    directories = (*subject.case.library_path, *host.default_directories(machine))
    found = [path for directory in directories for path in _named_like_stubs(directory)]
    own = {os.path.realpath(directory) for directory in own_directories(subject.program)}
    for path in dict.fromkeys(os.path.realpath(path) for path in (*found, *cached)):
        if os.path.dirname(path) not in own and _is_a_stub(Path(path)):  # noqa: PTH120 - realpath gives a str
            yield Path(path)


def _named_like_stubs(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry) for entry in entries if entry.name.startswith(STUBS))
    except OSError:
        return []


def _is_a_stub(path: Path) -> bool:
    try:
        return not _is_a_tensorflow(read_elf(path))
    except NpuServingError:
        return False
