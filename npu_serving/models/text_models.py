"""Graphs and SavedModels in protobuf's text format (.pbtxt), turned into the bytes that the binary form would have.

Which fields there are stands in message_fields.json, as TensorFlow 1.15's .proto files have them: read from a text, a
field that is not among them is an error for TensorFlow 1.15, where in a binary file it would be passed over.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving.documents.text_format import TextField, TextFormatError, read_text_format
from npu_serving.errors import ModelFileError
from npu_serving.wire_bytes import FIXED32, FIXED64, bytes_field, number_field, tag, varint

_FIELDS = Path(__file__).with_name("message_fields.json")
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # an unsigned number is written as the signed one of its bits


def bytes_of_text(path: Path, text: str, message: str) -> bytes:
    """The message of that name, such as GraphDef, from its text. ModelFileError with the line of what is wrong."""
    try:
        fields = read_text_format(text)
        return _Encoder(path).message(message, fields)
    except TextFormatError as error:
        line, _, what = str(error).partition(": ")
        raise ModelFileError(
            f"{path}:{line} is not protobuf's text format: {what}.",
            cause="it was cut off, or changed by hand",
            cure="copy or export the model again",
        ) from None


@dataclass(frozen=True)
class _Schema:
    """message_fields.json: by its name, of each field of a message its number, its kind, and whether it is repeated."""

    messages: Mapping[str, Mapping[str, list[Any]]]
    enums: Mapping[str, Mapping[str, int]]


class _Encoder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def message(self, name: str, fields: tuple[TextField, ...]) -> bytes:
        known = _messages()[name]
        seen: set[str] = set()
        out = []
        for field in fields:
            if field.name not in known:
                raise self._unknown(name, field)
            number, kind, *repeated = known[field.name]
            if not repeated and field.name in seen:
                raise self._wrong(field, f"{field.name} stands there a second time, and a {name} has only one")
            seen.add(field.name)
            out.append(self._field(number, kind, field))
        return b"".join(out)

    def _field(self, number: int, kind: str, field: TextField) -> bytes:
        if kind in _messages():
            if isinstance(field.value, str):
                raise self._wrong(field, f"{field.name} needs fields in braces")
            return bytes_field(number, self.message(kind, field.fields))
        if not isinstance(field.value, str):
            raise self._wrong(field, f"{field.name} has no fields")
        if kind in ("text", "bytes"):
            if not field.is_string:
                raise self._wrong(field, f"{field.name} needs quotes around its text")
            try:
                return bytes_field(number, field.text.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError:
                raise self._wrong(field, f"{field.name} is not text") from None
        if kind.startswith("enum "):
            names = _enumerations()[kind[len("enum ") :]]
            value = names.get(field.text)
            return number_field(number, self._whole(field) if value is None else value)
        if kind in ("float", "double"):
            wire, form = (FIXED32, "<f") if kind == "float" else (FIXED64, "<d")
            return varint(tag(number, wire)) + struct.pack(form, self._real(field, kind))
        return number_field(number, self._truth(field) if kind == "bool" else self._whole(field))

    def _whole(self, field: TextField) -> int:
        text = field.text
        digits = text.lstrip("-")
        octal = digits.startswith("0") and digits.isdigit()
        try:
            value = int(text, 8) if octal else int(text, 0)
        except ValueError:
            raise self._wrong(field, f"{field.name} is {text[:40]}, which is not a whole number") from None
        if not _SMALLEST <= value <= _LARGEST:
            raise self._wrong(field, f"{field.name} has more than 64 bits")
        return value

    def _truth(self, field: TextField) -> int:
        if field.text.lower() not in (*_TRUE, *_FALSE):
            raise self._wrong(field, f"{field.name} is {field.text[:40]}, and has to be true or false")
        return int(field.text.lower() in _TRUE)

    def _real(self, field: TextField, kind: str) -> float:
        try:
            value = float(re.sub(r"(?<=[0-9.])[fF]\Z", "", field.text))
        except ValueError:
            raise self._wrong(field, f"{field.name} is {field.text[:40]}, which is not a number") from None
        try:
            struct.pack("<f" if kind == "float" else "<d", value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
        return value

    def _unknown(self, message: str, field: TextField) -> ModelFileError:
        if field.name.startswith("["):
            return self._wrong(field, f"{field.name} can't be read without the type that it names")
        return ModelFileError(
            f"{self._path}:{field.line}: TensorFlow 1.15 has no field {field.name} in a {message}, and refuses it.",
            cause="a later TensorFlow wrote it: an unknown field is an error in a text, though not in a binary file",
            cure=f"export the model as saved_model.pb, or remove line {field.line} if the model does without it",
        )

    def _wrong(self, field: TextField, why: str) -> ModelFileError:
        return ModelFileError(
            f"{self._path}:{field.line}: {why}.",
            cause="it was changed by hand, or is of another kind",
            cure=f"correct line {field.line}, or export the model again",
        )


def _messages() -> Mapping[str, Mapping[str, list[Any]]]:
    return _schema().messages


def _enumerations() -> Mapping[str, Mapping[str, int]]:
    return _schema().enums


@functools.cache
def _schema() -> _Schema:
    return _Schema(**json.loads(_FIELDS.read_bytes()))
