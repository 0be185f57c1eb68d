"""Dumps of operators on the disk: which there are, of which start, device, model, step and operator.

dump_layout.yaml says how they are called. No link is followed, so nothing outside of the directory that was named is
ever listed.
"""

from __future__ import annotations

import csv
import functools
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Progress
from npu_serving.documents import read_document
from npu_serving.errors import NoSuchFileError, NpuServingError, RequestError
from npu_serving.shown_text import in_a_line

TABLE = Path(__file__).with_name("dump_layout.yaml")
_FILES_BETWEEN_UPDATES = 1000
_FOREIGN_SHOWN = 3


@dataclass(frozen=True)
class DumpLayout:
    """dump_layout.yaml, whose comments say what each key means."""

    time: str
    levels: tuple[tuple[str, ...], ...]
    replaced: str
    by: str
    file: str
    timestamp_digits: int
    slice: str
    mapping: str

    def in_file_names(self, name: str) -> str:
        """A name as it stands in file and directory names."""
        return "".join(self.by if character in self.replaced else character for character in name)


@dataclass(frozen=True)
class DumpedOperator:
    """One file: the operator's type and name as they stand in file names, and the numbers behind them."""

    path: Path
    type: str
    name: str
    task: int
    timestamp: int
    size_bytes: int

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "path": str(self.path),
            "type": self.type,
            "operator": self.name,
            "task": self.task,
            "timestamp": self.timestamp,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True)
class DumpPlace:
    """A directory of dumps, by what the directories above say; "" for what they don't."""

    time: str = ""
    device: str = ""
    model: str = ""
    model_id: str = ""
    step: str = ""


@dataclass(frozen=True)
class DumpStep:
    """What was dumped into one directory: of one start, device, model and step, in the order of the time stamps."""

    directory: Path
    place: DumpPlace
    files: tuple[DumpedOperator, ...]

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)


@dataclass
class DumpTree:
    """All dumps below a directory. `others` counts the other files, `foreign` names some of them; `troubles` say
    what could not be read.
    """

    directory: Path
    steps: list[DumpStep] = field(default_factory=list)
    others: int = 0
    foreign: list[Path] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@functools.cache
def dump_layout() -> DumpLayout:
    """dump_layout.yaml."""
    return read_document(TABLE, DumpLayout)


def read_dump_tree(directory: Path, progress: Progress) -> DumpTree:
    """The dumps below a directory, be it a dump_path or one within it, in linear time.

    Raises NoSuchFileError for one that isn't there, RequestError where nothing in it is a dump.
    """
    if not directory.is_dir():
        cause = "it is a file" if directory.exists() else "the path was mistyped, or the server ran elsewhere"
        raise NoSuchFileError(
            f"{directory} is not a directory.",
            cause=cause,
            cure="name the directory that dump_path names; a relative one begins where the server ran",
        )
    tree, seen = DumpTree(directory), 0

    def refused(error: OSError) -> None:
        tree.troubles.append(f"{in_a_line(os.fsdecode(error.filename))} can't be read: {error.strerror}")

    for name, _, files in fsutil.walk(directory.absolute(), onerror=refused):
        step = _step(Path(name), files, tree)
        if step is not None:
            tree.steps.append(step)
        before, seen = seen, seen + len(files)
        if before // _FILES_BETWEEN_UPDATES != seen // _FILES_BETWEEN_UPDATES:
            progress.update(seen)
    if not tree.steps:
        raise _no_dumps(tree)
    tree.steps.sort(key=_order)
    return tree


def _no_dumps(tree: DumpTree) -> RequestError:
    found = f": {tree.others:,} other files, such as {tree.foreign[0]}" if tree.foreign else ""
    return RequestError(
        "\n".join([f"There are no dumps of operators in {tree.directory}{found}.", *tree.troubles]),
        cause="enable_dump was not true, nothing has run on the NPU yet, or dump_path led elsewhere; dumps lie in "
        "TIME/DEVICE/MODEL/MODEL-ID/STEP below dump_path",
        cure="./inv explain enable_dump; ./inv explain dump_path",
    )


def place_of(directory: Path) -> DumpPlace | None:
    """What the names on the way to a directory of dumps say; None where they are not as those of one."""
    layout, parts = dump_layout(), directory.parts
    times = [index for index, part in enumerate(parts) if re.fullmatch(layout.time, part, re.ASCII)]
    for index in reversed(times):
        below = parts[index + 1 :]
        for level in layout.levels:
            values = dict(zip(level, below))
            numbers = (values.get("device", ""), values.get("model_id", "0"), values.get("step", "0"))
            if len(level) == len(below) and all(number.isdecimal() for number in numbers):
                return DumpPlace(time=parts[index], **values)
    return None


def _step(directory: Path, names: Sequence[str], tree: DumpTree) -> DumpStep | None:
    place = place_of(directory) if names else None
    mapping = _mapping(directory, names, tree) if place is not None else {}
    files = []
    for name in names:
        if place is None or name == dump_layout().mapping:
            file = None
        else:
            file = _file(directory / name, mapping.get(name, name), tree)
        if file is not None:
            files.append(file)
        elif name != dump_layout().mapping:
            tree.others += 1
            if len(tree.foreign) < _FOREIGN_SHOWN:
                tree.foreign.append(directory / name)
    if place is None or not files:
        return None
    files.sort(key=lambda file: (file.timestamp, file.task, file.path.name))
    return DumpStep(directory, place, tuple(files))


def _mapping(directory: Path, names: Sequence[str], tree: DumpTree) -> dict[str, str]:
    """The names of files that are called by digits."""
    layout = dump_layout()
    if layout.mapping not in names:
        return {}
    try:
        fsutil.refuse_endless(directory / layout.mapping)
        with (directory / layout.mapping).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file) if len(row) == 2}
    except (OSError, csv.Error, NpuServingError) as error:
        tree.troubles.append(f"{in_a_line(str(directory / layout.mapping))} can't be read: {error}")
        return {}


@functools.cache
def _pattern() -> re.Pattern[str]:
    return re.compile(dump_layout().file, re.ASCII | re.DOTALL)


def _file(path: Path, name: str, tree: DumpTree) -> DumpedOperator | None:
    """The dump; None where it is something else, or a link."""
    found = _pattern().fullmatch(name)
    if found is None:
        return None
    try:
        status = os.lstat(path)
    except OSError as error:
        tree.troubles.append(f"{in_a_line(str(path))} can't be read: {error.strerror}")
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    numbers = found[3][1:].split(".")
    digits = dump_layout().timestamp_digits
    at = next((index for index, number in enumerate(numbers) if len(number) >= digits), len(numbers) - 1)
    # Before the stamp, task and stream; where more follows it, stream and task.
    task = numbers[max(at - 1, 0)] if at < len(numbers) - 1 else numbers[0]
    return DumpedOperator(path, found[1], found[2], int(task[:20]), int(numbers[at][:20]), status.st_size)


def _order(step: DumpStep) -> tuple[object, ...]:
    place = step.place
    return (place.time, _number(place.device), place.model, _number(place.model_id), _number(place.step))


def _number(text: str) -> int:
    return int(text) if text else -1


def without_slice(name: str) -> str:
    """The operator that a part of is called so."""
    return re.sub(f"{dump_layout().slice}$", "", name)
