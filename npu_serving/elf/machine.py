"""Findings on what a server asks of the machine itself: its loader, the size of its pages, its processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from npu_serving.elf.refusals import level_refusal, page_refusal
from npu_serving.elf.report import NO_INTERPRETER, OTHER_PROCESSOR, PAGE_SIZE
from npu_serving.elf.subject import Subject, label
from npu_serving.findings import PROBLEM, Finding


def program_findings(subject: Subject) -> Iterator[Finding]:
    """What keeps the kernel from starting the program: no loader, or pages of another size."""
    program = subject.program
    interpreter = program.elf.interpreter
    if interpreter is None and program.elf.needed:
        yield Finding(
            kind=NO_INTERPRETER,
            severity=PROBLEM,
            where=program.path.name,
            what="It names no loader (it has no PT_INTERP), so nothing would load its libraries: it dies of SIGSEGV.",
            cure="./inv build-serving: the file was linked as a shared library, or changed since",
        )
    elif interpreter is not None and not _can_run(Path(interpreter)):
        yield Finding(
            kind=NO_INTERPRETER,
            severity=PROBLEM,
            where=program.path.name,
            what=f"The loader that it names, {interpreter}, {_state_of(Path(interpreter))}: the shell then says of the "
            'program itself "No such file or directory".',
            cure=f"install the C library that has {interpreter} (glibc; images of Alpine have none), or build where "
            "the server is to run: ./inv build-serving",
        )
    refusal = page_refusal(program.elf, subject.case.host.processor.page_bytes)
    if refusal is not None:
        yield Finding(kind=PAGE_SIZE, severity=PROBLEM, where=program.path.name, what=refusal.why, cure=refusal.cure)


def level_findings(subject: Subject) -> Iterator[Finding]:
    """The files that are marked for a newer processor. The loader doesn't look at its own mark."""
    if not subject.plan.rules.checks_levels or subject.program.elf.interpreter is None:
        return
    for library in subject.plan.libraries:
        refusal = level_refusal(library.elf, subject.case.host.processor) if library.rule != "interpreter" else None
        if refusal is not None:
            yield Finding(
                kind=OTHER_PROCESSOR,
                severity=PROBLEM,
                where=label(library),
                what=refusal.why,
                cure=refusal.cure,
            )


def _can_run(interpreter: Path) -> bool:
    return os.path.isfile(interpreter) and os.access(interpreter, os.X_OK)  # noqa: PTH113 - Path.is_file() raises where it is shut


def _state_of(interpreter: Path) -> str:
    return "may not be run by this user" if os.path.lexists(interpreter) else "is not there"
