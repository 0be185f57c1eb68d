"""Which of the dumps are asked for: by device, model, step, and an operator by its real name."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable

from npu_serving.errors import RequestError
from npu_serving.results.dump_graphs import DumpedGraph
from npu_serving.results.dump_tree import DumpedOperator, DumpStep, dump_layout, without_slice
from npu_serving.shown_text import in_a_line

_NEAREST = 5


@dataclass(frozen=True)
class DumpFilter:
    """What is asked for. Names are real ones or as they stand in file names; `*` and `?` are as in a shell."""

    model: str = ""
    operator: str = ""
    step: int | None = None
    device: int | None = None


def selected(steps: Sequence[DumpStep], wanted: DumpFilter, graphs: Mapping[str, DumpedGraph]) -> list[DumpStep]:
    """The steps that are asked for, with the files that are. RequestError where one of the filters leaves nothing."""
    left = list(steps)
    if wanted.device is not None:
        devices = {step.place.device for step in left}
        left = [step for step in left if step.place.device == str(wanted.device)]
        _refuse_nothing(left, f"of device {wanted.device}", devices, "--device")
    if wanted.model:
        models = {step.place.model for step in left}
        left = [step for step in left if _fits(step.place.model, wanted.model)]
        _refuse_nothing(left, f"of a model {wanted.model!r}", models, "--model", near=wanted.model)
    if wanted.step is not None:
        numbers = {step.place.step for step in left}
        left = [step for step in left if step.place.step == str(wanted.step)]
        _refuse_nothing(left, f"of step {wanted.step}", numbers, "--step")
    return _with_operator(left, wanted.operator, graphs) if wanted.operator else left


def _with_operator(steps: Sequence[DumpStep], operator: str, graphs: Mapping[str, DumpedGraph]) -> list[DumpStep]:
    """The files of that operator, else of those that it became part of, else of all operators of that type."""
    holding = {
        name
        for graph in graphs.values()
        for original, names in graph.holders.items()
        if _fits(original, operator)
        for name in names
    }
    ways: tuple[Callable[[DumpedOperator], bool], ...] = (
        lambda file: _fits(file.name, operator) or _fits(without_slice(file.name), operator),
        lambda file: without_slice(file.name) in holding,
        lambda file: _fits(file.type, operator),
    )
    for is_meant in ways:
        chosen = [(step, tuple(file for file in step.files if is_meant(file))) for step in steps]
        found = [replace(step, files=files) for step, files in chosen if files]
        if found:
            return found
    names = {file.name for step in steps for file in step.files}
    _refuse_nothing([], f"of an operator or a type {operator!r}", names, "--operator", near=operator)
    return []


def _fits(name: str, wanted: str) -> bool:
    """Whether a name in a file name is the one that is asked for."""
    pattern = dump_layout().in_file_names(wanted)
    return name == pattern or (any(mark in wanted for mark in "*?") and fnmatch.fnmatchcase(name, pattern))


def _refuse_nothing(left: Sequence[DumpStep], what: str, known: Iterable[str], flag: str, near: str = "") -> None:
    if left:
        return
    names = sorted({name for name in known if name}, key=lambda name: (len(name), name))
    if near:
        plain = dump_layout().in_file_names(near)
        holding = [name for name in names if plain in name]
        names = holding or difflib.get_close_matches(plain, names, n=_NEAREST, cutoff=0.5) or names
    shown = ", ".join(in_a_line(name) for name in names[:_NEAREST])
    more = ", ..." if len(names) > _NEAREST else ""
    fused = (
        "; or it became part of another operator, which only GE's graph tells (--graphs)"
        if flag == "--operator"
        else ""
    )
    raise RequestError(
        f"There is no dump {what} here.",
        cause=f"it was mistyped, or it was not dumped{fused}",
        cure=f"{flag} takes one of: {shown}{more}" if shown else f"leave out {flag}",
    )
