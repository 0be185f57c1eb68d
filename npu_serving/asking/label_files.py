"""Files of labels: the names of a model's classes, or the right class of each image (the guide's val_label.txt)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line

MOST_CLASSES = 1 << 20
_NUMBERED = re.compile(r"(-?[0-9]{1,9})(?:\s*[:,;\t]\s*|\s+)(\S.*)")
_OF_AN_IMAGE = re.compile(r"(\S+)\s+(-?[0-9]{1,9})(?:\s.*)?")
_NAMED_FEW = 5


@dataclass(frozen=True)
class Labels:
    """What label files say. A class is the place of its score in the model's output: its number plus the offset."""

    names: Mapping[int, str] = field(default_factory=dict)
    """The classes' names, by class."""
    of_images: Mapping[str, int] = field(default_factory=dict)
    """The right class of each image, by the image's name as it stands in the file."""
    of_names: Path | None = None
    of_truth: Path | None = None
    offset: int = 0

    def name(self, number: int) -> str:
        """What a class is called; "" where no file says it."""
        return self.names.get(number, "")

    def class_of(self, image: Path) -> int | None:
        """The right class of an image: of exactly that name, or of that name without its ending."""
        found = self.of_images.get(image.name)
        return found if found is not None else self.of_images.get(image.stem)

    def classes_of(self, images: Sequence[Path]) -> list[int]:
        """The right class of each. RequestError that names images which the file doesn't."""
        found = [self.class_of(image) for image in images]
        missing = [image.name for image, number in zip(images, found) if number is None]
        if missing:
            raise RequestError(
                f"{len(missing)} of {len(images)} images have no label in {self.of_truth}: {_few(missing)}.",
                cause="the file is of other images, or its names differ: they have to be those of the files, or "
                "those without their endings",
                cure="add a line NAME LABEL for each, or remove these images",
            )
        return [number for number in found if number is not None]

    def check(self, classes: int) -> None:
        """RequestError where the files don't fit a model with so many classes."""
        if self.names and max(self.names) + 1 != classes:
            largest = max(self.names)
            cure = "give the file of this model's classes"
            if classes - (largest + 1 - self.offset) in (0, 1):
                cure = f"--label-offset {classes - (largest + 1 - self.offset)}"
            raise RequestError(
                f"The model answers with {classes} scores, and {self.of_names} has names up to class {largest}"
                f"{f' (--label-offset {self.offset})' if self.offset else ''}.",
                cause="many networks have a class for the background before those that the file names",
                cure=cure,
            )
        beyond = [name for name, number in self.of_images.items() if not 0 <= number < classes]
        if beyond:
            number = self.of_images[beyond[0]]
            raise RequestError(
                f"{self.of_truth} has {in_a_line(beyond[0])} in class {number}"
                f"{f' (with --label-offset {self.offset})' if self.offset else ''}, and the model has {classes}, 0 "
                f"to {classes - 1}.",
                cause="the file is of another set of classes, or its numbers begin elsewhere",
                cure="give the right --label-offset, which is added to each label",
            )


def read_labels(paths: Iterable[Path], offset: int = 0) -> Labels:
    """What the files say together: one with the names of the classes, one with the right class of each image.

    Which one a file is, its first line says: `NAME NUMBER` is an image and its label, as in the guide's val_label.txt
    (what follows on a line is left out); `NUMBER NAME` a class and its name; anything else is the name of the class
    that the line's place stands for, from 0. Raises RequestError with the line at fault for files that are neither.
    """
    found = Labels(offset=offset)
    for path in paths:
        lines = _lines(path)
        if _OF_AN_IMAGE.fullmatch(lines[0]) and not _NUMBERED.fullmatch(lines[0]):
            if found.of_truth is not None:
                raise _twice(found.of_truth, path, "the labels of images")
            images = {name: number + offset for name, number in _of_images(path, lines).items()}
            found = Labels(found.names, images, found.of_names, path, offset)
        else:
            if found.of_names is not None:
                raise _twice(found.of_names, path, "the names of classes")
            names = {number + offset: name for number, name in _names(path, lines).items()}
            found = Labels(names, found.of_images, path, found.of_truth, offset)
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = fsutil.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text: byte {error.start + 1} is not valid.",
            cause="it is not a label file, or in another encoding",
            cure="give a file with one label a line, in UTF-8",
        ) from error
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise RequestError(f"{path} has no label.", cause="it is empty", cure="give a file with one label a line")
    gap = next((at for at, line in enumerate(lines, 1) if not line), 0)
    if gap:
        raise _wrong(path, gap, "is empty", "the line's place may be what the label stands for, so none is left out")
    if len(lines) > MOST_CLASSES * 16:
        raise RequestError(f"{path} has {len(lines)} lines.", cause="it is not a label file", cure="give a smaller one")
    return lines


def _of_images(path: Path, lines: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    where: dict[str, int] = {}
    for at, line in enumerate(lines, 1):
        parts = _OF_AN_IMAGE.fullmatch(line)
        if parts is None:
            raise _wrong(path, at, f"is {_shown(line)}, not an image's name and the number of its class")
        name, number = parts[1], int(parts[2])
        if found.setdefault(name, number) != number:
            raise _wrong(path, at, f"gives {in_a_line(name)} the label {number}, and line {where[name]} {found[name]}")
        where.setdefault(name, at)
    return found


def _names(path: Path, lines: Sequence[str]) -> dict[int, str]:
    if not _NUMBERED.fullmatch(lines[0]):
        return dict(enumerate(lines))
    found: dict[int, str] = {}
    where: dict[int, int] = {}
    for at, line in enumerate(lines, 1):
        parts = _NUMBERED.fullmatch(line)
        if parts is None:
            raise _wrong(path, at, f"is {_shown(line)}, not the number of a class and its name")
        number = int(parts[1])
        if not 0 <= number < MOST_CLASSES:
            raise _wrong(path, at, f"has the class {number}", "classes are numbered from 0")
        if number in found:
            raise _wrong(path, at, f"names the class {number}, which line {where[number]} has named")
        found[number], where[number] = parts[2], at
    gaps = [number for number in range(max(found)) if number not in found]
    if gaps and gaps != list(range(min(found))):
        raise RequestError(
            f"{path} has no name for {len(gaps)} of the classes up to {max(found)}: {_few([*map(str, gaps)])}.",
            cause="lines were lost",
            cure="add a line NUMBER NAME for each",
        )
    return found


def _wrong(path: Path, line: int, what: str, cause: str = "") -> RequestError:
    return RequestError(
        f"Line {line} of {path} {what}.",
        cause=cause or "its first line says which kind of label file it is",
        cure="correct that line: NAME LABEL for an image, NUMBER NAME or just NAME for a class",
    )


def _twice(one: Path, other: Path, what: str) -> RequestError:
    return RequestError(
        f"{one} and {other} both hold {what}.",
        cause="one file of each kind can be used",
        cure="give --labels once for the names of the classes, and once for the labels of the images",
    )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(in_a_line(name) for name in names[:_NAMED_FEW])
    return shown + (f" and {len(names) - _NAMED_FEW} more" if len(names) > _NAMED_FEW else "")


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
