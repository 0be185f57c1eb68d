"""What a model answered, as NumPy's arrays, for a person and for `--json`; how such values are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking.answers import strict, with_bytes_as_base64
from npu_serving.asking.class_scores import ScoredClass
from npu_serving.console import duration_text, table

_MOST_SHOWN = 200  # values of an output, for a person
_BEFORE_AND_AFTER = 3


@dataclass(frozen=True)
class ArrayPrediction:
    """The outputs by name; `best` has the best classes of each row, where they were asked for."""

    model: str
    version: int | None
    outputs: Mapping[str, NDArray[Any]]
    seconds: float
    best: tuple[tuple[ScoredClass, ...], ...] = ()
    of: str = ""
    """Which request of several it answers; "" for the only one."""
    is_data: ClassVar[bool] = True

    def to_json(self) -> dict[str, object]:
        """The prediction as `--json` shows it."""
        return {
            **({"request": self.of} if self.of else {}),
            "model": self.model,
            "version": self.version,
            "outputs": {name: strict(plain_values(array)) for name, array in self.outputs.items()},
            **({"top": [[each.to_json() for each in row] for row in self.best]} if self.best else {}),
            "seconds": round(self.seconds, 6),
        }

    def text(self) -> str:
        """The best classes, or else the outputs, and the time it took."""
        shown = class_table([str(at) for at in range(len(self.best))], self.best) if self.best else ""
        version = "" if self.version is None else f" version {self.version}"
        of = f"{self.of}: " if self.of else ""
        return f"{shown or shown_outputs(self.outputs)}\n({of}{self.model}{version}, {milliseconds(self.seconds)})"


@dataclass(frozen=True)
class ArrayPredictions:
    """The answers to several requests, in their order."""

    answers: tuple[ArrayPrediction, ...]
    is_data: ClassVar[bool] = True

    def to_json(self) -> dict[str, object]:
        """All of them."""
        return {"predictions": [answer.to_json() for answer in self.answers]}

    def text(self) -> str:
        """One after the other."""
        return "\n".join(answer.text() for answer in self.answers)


def class_table(rows: Sequence[str], best: Sequence[Sequence[ScoredClass]], heading: str = "ROW") -> str:
    """The best classes of each row, a line each."""
    lines: list[tuple[str, ...]] = [
        (row if not at else "", str(each.number), each.name, f"{each.score:.6g}")
        for row, classes in zip(rows, best)
        for at, each in enumerate(classes)
    ]
    return table(lines, header=(heading, "CLASS", "NAME", "SCORE"))


def shown_outputs(outputs: Mapping[str, NDArray[Any]]) -> str:
    """Each output for a person: its type and shape, and its values, of many only the first and the last."""
    lines = []
    is_cut = False
    for name, array in outputs.items():
        kind = "text" if array.dtype.kind == "O" else array.dtype.name
        lines.append(f"{name}: {kind} {list(array.shape)}")
        is_cut |= array.size > _MOST_SHOWN
        lines.append(np.array2string(_readable(array), threshold=_MOST_SHOWN, edgeitems=_BEFORE_AND_AFTER))
    if is_cut:
        lines.append("(of many values the first and the last; --output FILE.npz or --json has all of them)")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    """A time an answer took."""
    return duration_text(seconds) if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def plain_values(array: NDArray[Any]) -> object:
    """The values as lists within lists, with no more digits than their type has; what is not UTF-8 as {"b64": ...}."""
    if array.dtype.kind == "O":
        values: list[Any] = [_text(value) for value in array.reshape(-1)]
    elif array.dtype.kind == "c":
        parts = array.view(array.real.dtype).reshape(*array.shape, 2) if array.size else array.real[..., None]
        return plain_values(np.ascontiguousarray(parts))
    elif array.dtype.kind == "f" and array.dtype.itemsize < 8:
        values = array.reshape(-1).astype(np.str_).astype(np.float64).tolist()
    else:
        return array.tolist()
    found = np.empty(array.size, object)
    found[:] = values
    return with_bytes_as_base64(found.reshape(array.shape).tolist())[0]


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return array
    found = np.empty(array.size, object)
    found[:] = [_text(value).encode("utf-8", "backslashreplace").decode() for value in array.reshape(-1)]
    return found.reshape(array.shape)
