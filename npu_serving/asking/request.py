"""What a person wants predicted: read from a file, from standard input or from the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from npu_serving import fsutil
from npu_serving.asking.npy import SUFFIX, json_values, read_npz
from npu_serving.errors import RequestError
from npu_serving.settings import user_path

ROW, COLUMN = "instances", "inputs"
ANSWERS = {ROW: "predictions", COLUMN: "outputs"}
SHAPES = 'a list of instances, {"instances": [...]} or {"inputs": {...}}'
EXCERPT_CHARACTERS = 60


@dataclass(frozen=True)
class PredictRequest:
    """The values of one prediction: `instances` row by row, or `inputs` column by column (TF Serving's two formats)."""

    form: str
    values: object
    signature_name: str = ""

    @property
    def answer_key(self) -> str:
        """The key under which the server puts its answer to this format."""
        return ANSWERS[self.form]

    def body(self, signature_name: str = "") -> str:
        """The request as the server reads it; NaN and Infinity are written as they are."""
        name = signature_name or self.signature_name
        document = {**({"signature_name": name} if name else {}), self.form: self.values}
        return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def read_request(source: str, *, stdin: BinaryIO | None = None) -> PredictRequest:
    """The request in `source`: JSON if it begins with `[` or `{`, `-` for standard input, else the path of a file.

    A file whose name ends in .npz holds the inputs as NumPy's arrays, by their names; another one is JSON. Raises
    RequestError where the file doesn't exist, where the JSON is broken (with line and column), and where it has none of
    the shapes that TensorFlow Serving takes.
    """
    if source.lstrip()[:1] in ("[", "{"):
        return _request(source, "the text given")
    if source == "-":
        stream = stdin if stdin is not None else sys.stdin.buffer
        return _request(_decoded(fsutil.read_whole(stream, "standard input"), "standard input"), "standard input")
    path = _file(source)
    if path.suffix == SUFFIX:
        return PredictRequest(COLUMN, {name: json_values(tensor) for name, tensor in read_npz(path).items()})
    return _request(_decoded(fsutil.read_bytes(path), str(path)), str(path))


def request_in(data: bytes, where: str) -> PredictRequest:
    """The request in JSON; `where` is its name in errors. RequestError for other bytes."""
    return _request(_decoded(data, where), where)


def _file(source: str) -> Path:
    missing = RequestError(
        f"The request {source!r} is neither JSON nor an existing file.",
        cause="text that begins with [ or { is read as JSON, '-' means standard input, anything else is a path",
        cure=f"give {SHAPES}",
    )
    if not source.strip() or "\0" in source:
        raise missing
    path = user_path(source, "the request")
    with fsutil.explained(path, doing="read"):
        if not path.exists() or path.is_dir():
            raise missing
    return path


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{where} is not UTF-8 text: byte {error.start + 1} is not valid.",
            cause="it is a binary file, or text in another encoding",
            cure=f"give {SHAPES} in UTF-8",
        ) from error


def _request(text: str, where: str) -> PredictRequest:
    if not text.strip():
        raise RequestError(f"There is no request: {where} is empty.", cure=f"give {SHAPES}, such as with --request")
    document = _parsed(text, where)
    if isinstance(document, list):
        return PredictRequest(ROW, document)
    if not isinstance(document, dict):
        raise RequestError(f"{where} contains {_excerpt(text)}, which is not a request.", cure=f"give {SHAPES}")
    forms = [key for key in (ROW, COLUMN) if key in document]
    if len(forms) != 1:
        what = f"has both {ROW!r} and {COLUMN!r}" if forms else f"has neither {ROW!r} nor {COLUMN!r}"
        raise RequestError(f"The request in {where} {what}.", cure=f"give {SHAPES}")
    unknown = set(document) - {forms[0], "signature_name"}
    if unknown:
        raise RequestError(
            f"The request in {where} has the unknown key {min(unknown)!r}.",
            cure=f"remove it: besides {forms[0]!r} only 'signature_name' is allowed",
        )
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise RequestError(
            f"signature_name in {where} must be a string, not {signature_name!r}.",
            cure='write it like "signature_name": "serving_default"',
        )
    return PredictRequest(forms[0], document[forms[0]], signature_name)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_float=_number, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        around = line[max(0, error.colno - EXCERPT_CHARACTERS // 2 - 1) :]
        raise RequestError(
            f"{where} is not valid JSON ({error.msg} at line {error.lineno}, column {error.colno}): {_excerpt(around)}",
            cure="correct the JSON at that place",
        ) from error
    except RecursionError as error:
        raise RequestError(f"{where} is nested too deeply to be read.", cure=f"give {SHAPES}") from error
    except ValueError as error:
        raise RequestError(f"{where} can't be read as JSON: {error}.", cure="correct that value") from error


def _number(text: str) -> float:
    """The number; one beyond the range of a double would silently turn into Infinity."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:EXCERPT_CHARACTERS]} is larger than a double can hold")
    return value


def _object(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    """The object; of two values under one key JSON readers keep one or the other."""
    whole = dict(pairs)
    if len(whole) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return whole


def _excerpt(text: str) -> str:
    shown = text.strip()
    return shown if len(shown) <= EXCERPT_CHARACTERS else shown[:EXCERPT_CHARACTERS] + "..."
