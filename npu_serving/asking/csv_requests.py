"""Rows of a CSV file as one request: the header says which column is which input, the signature what its values are."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.given_requests import ROWS
from npu_serving.asking.request import COLUMN, PredictRequest
from npu_serving.client.data_types import BY_NAME, DataType
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError

_PART = re.compile(r"(.+?)(?:\[([0-9]{1,7})\]|\.([0-9]{1,7}))")
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_DECIMAL = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def read_csv(path: Path, signature: Signature) -> PredictRequest:
    """The request: one row of the batch for each row of the file.

    A column is called like its input, or NAME.0, NAME.1 and so on (NAME[0] as well) where a row of that input has
    several values. The only input of a signature takes all columns in their order where none is called like it. In a
    .tsv file tabs stand between the values. RequestError, with the line, for what does not fit.
    """
    try:
        text = fsutil.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text: byte {error.start + 1} is not valid.",
            cause="it is in another encoding, or no CSV file",
            cure="save it as CSV in UTF-8",
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=ROWS[path.suffix.lower()], strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise _wrong(path, reader.line_num, f"can't be read: {error}", "correct the quotes in it") from error
    if len(rows) < 2:
        raise RequestError(
            f"{path} has no row of values.",
            cause="it is empty, or has a header alone" if rows else "it is empty",
            cure="give a header with the names of the inputs, and a line for each row",
        )
    header = [name.strip() for name in rows[0]]
    for line, row in zip(lines, rows):
        if len(row) != len(header):
            raise _wrong(
                path, line, f"has {len(row)} values, and the header {len(header)}", "give each line as many as that"
            )
    columns = _columns(path, header, signature)
    values: dict[str, object] = {}
    for info in signature.inputs:
        places = columns[info.name]
        kind = BY_NAME.get(info.dtype)
        found = [
            [_value(path, line, header[at], row[at], kind, info) for at in places]
            for line, row in zip(lines[1:], rows[1:])
        ]
        values[info.name] = _shaped(found, info)
    return PredictRequest(COLUMN, values)


def _columns(path: Path, header: Sequence[str], signature: Signature) -> Mapping[str, Sequence[int]]:
    """For each input the places of its columns, in the order of its values."""
    twice = next((name for at, name in enumerate(header) if name in header[:at]), None)
    if twice is not None:
        raise _unfit(path, f"has the column {twice!r} twice", header, signature)
    inputs = {info.name: info for info in signature.inputs}
    found: dict[str, dict[int, int]] = {name: {} for name in inputs}
    for at, name in enumerate(header):
        part = _PART.fullmatch(name)
        if name in inputs:
            found[name][0] = at
        elif part is not None and part[1] in inputs:
            found[part[1]][int(part[2] or part[3])] = at
        elif len(inputs) == 1 and not any(
            other in inputs or ((of := _PART.fullmatch(other)) and of[1] in inputs) for other in header
        ):
            found[next(iter(inputs))][at] = at
        else:
            raise _unfit(path, f"has the column {name!r}, which the signature has not as an input", header, signature)
    for name, places in found.items():
        if not places:
            raise _unfit(path, f"has no column for the input {name!r}", header, signature)
        gap = next((at for at in range(max(places)) if at not in places), None)
        if gap is not None:
            raise _unfit(path, f"lacks the column {name}.{gap}", header, signature)
        size = _row_size(inputs[name])
        if size not in (None, len(places)):
            what = f"has {len(places)} columns for the input {name!r}, whose rows have {size} values"
            raise _unfit(path, what, header, signature)
    return {name: [places[at] for at in sorted(places)] for name, places in found.items()}


def _row_size(info: TensorInfo) -> int | None:
    """How many values a row has; None where the shape leaves it open."""
    inner = (info.shape or (-1, -1))[1:]
    return None if -1 in inner else math.prod(inner)


def _shaped(rows: Sequence[Sequence[object]], info: TensorInfo) -> object:
    """The rows as nested lists of the input's shape; of one value each alone where the shape has no more than rows."""
    inner = (info.shape or (-1, -1))[1:]
    if not inner:
        return [row[0] for row in rows]
    if inner.count(-1) > 1:
        return [list(row) for row in rows]
    sizes = [len(rows[0]) // -math.prod(inner) if size == -1 else size for size in inner]
    return [_nested(list(row), sizes) for row in rows]


def _nested(values: list[object], sizes: Sequence[int]) -> list[object]:
    for size in reversed(sizes[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


def _value(path: Path, line: int, column: str, text: str, kind: DataType | None, info: TensorInfo) -> object:
    if kind is None or kind.is_complex or not kind.field:
        raise RequestError(
            f"The input {info.name!r} is of the type {info.dtype}, which no CSV file can give.",
            cause="its values are numbers, texts, true and false only",
            cure="give the input as an array: --request FILE.npz",
        )
    if kind.is_text:
        return text
    plain = text.strip()
    try:
        if kind.code == "?":
            return _TRUTHS[plain.lower()]
        if _WHOLE.fullmatch(plain):
            return int(plain)
        if not kind.is_real or not _DECIMAL.fullmatch(plain):
            raise ValueError
        number = float(plain)
        if math.isinf(number) and plain[-1].isdigit():
            raise ValueError
        return number
    except (KeyError, ValueError):
        wanted = "true or false" if kind.code == "?" else "a number" if kind.is_real else "a whole number"
        shown = repr(text if len(text) <= 60 else text[:57] + "...") if plain else "empty"
        raise _wrong(
            path, line, f"has in the column {column!r} {shown}, not {wanted}", f"the signature takes {info.text()}"
        ) from None


def _wrong(path: Path, line: int, what: str, cure: str) -> RequestError:
    return RequestError(f"Line {line} of {path} {what}.", cure=cure)


def _unfit(path: Path, what: str, header: Sequence[str], signature: Signature) -> RequestError:
    wanted = "; ".join(info.text() for info in signature.inputs) or "no inputs"
    return RequestError(
        f"The header of {path} {what}.",
        cause=f"the signature takes {wanted}; the file has {', '.join(header[:20])}",
        cure="name each column like its input, or NAME.0, NAME.1 and so on where a row has several values",
    )
