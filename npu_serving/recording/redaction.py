"""The values of named inputs taken out of a request: what is left has the same types, shapes and lengths of lists.

A request that can't be rewritten is a NotUnderstoodError: it must not be kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any, Callable

from npu_serving.asking.recorded_file import GRPC, RecordedRequest
from npu_serving.asking.recorded_requests import (
    EXAMPLES,
    PREDICT,
    NotUnderstoodError,
    is_named,
    method_of,
    rest_document,
)
from npu_serving.asking.request import COLUMN, ROW
from npu_serving.client.data_types import CONTENT_FIELD, TEXTS_FIELD
from npu_serving.wire_bytes import BYTES, VARINT, MalformedMessageError, entry_of, fields, tag, varint

_DTYPE, _SHAPE, _VERSION = tag(1, VARINT), tag(2, BYTES), tag(3, VARINT)
_AS_IN_MEMORY = tuple(tag(number, BYTES) for number in (CONTENT_FIELD, 5, 6, 9, 12))
"""Fields whose bytes are the numbers themselves: tensor_content, float_val, double_val, scomplex_val, dcomplex_val."""
_AS_VARINTS = tuple(tag(number, BYTES) for number in (7, 10, 11, 13, 16, 17))
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = (tag(number, BYTES) for number in (1, 2, 3))
_ONE = tag(1, BYTES)

Change = Callable[[int, memoryview], "bytes | None"]


def redacted(request: RecordedRequest, names: Collection[str]) -> tuple[RecordedRequest, frozenset[str]]:
    """The request without the values of those inputs, and which of them it had. NotUnderstoodError.

    In JSON, an input without a name counts as one of them.
    """
    found: list[str] = []
    try:
        if request.api == GRPC:
            body = _message(method_of(request.api, request.path), memoryview(request.body), names, found)
        else:
            body = _document(request.body, names, found)
    except (MalformedMessageError, RecursionError) as error:
        raise NotUnderstoodError(f"its bytes are another message ({error})") from error
    return (dataclasses.replace(request, body=body) if found else request), frozenset(found)


def _rewritten(message: memoryview, change: Change) -> bytes:
    """The message with other contents for those fields of bytes for which `change` has some; b"" leaves the content
    empty.
    """
    parts: list[bytes | memoryview] = []
    for key, number, content in fields(message):
        parts.append(varint(key))
        if key & 7 == VARINT:
            parts.append(varint(number))
            continue
        if key & 7 == BYTES:
            changed = change(key, content)
            content = content if changed is None else memoryview(changed)
            parts.append(varint(len(content)))
        parts.append(content)
    return b"".join(parts)


def _message(method: str, message: memoryview, names: Collection[str], found: list[str]) -> bytes:
    def of_predict(key: int, content: memoryview) -> bytes | None:
        if key != tag(2, BYTES):
            return None
        name, tensor = entry_of(content)
        if name not in names:
            return None
        found.append(name)
        return _rewritten(content, lambda of, _: _blank_tensor(tensor) if of == tag(2, BYTES) else None)

    def of_examples(key: int, content: memoryview) -> bytes | None:
        return _rewritten(content, lambda _, listed: _examples(listed, names, found)) if key == tag(2, BYTES) else None

    return _rewritten(message, of_predict if method == PREDICT else of_examples)


def _blank_tensor(message: memoryview) -> bytes:
    """The tensor with zeros, or empty texts; a field that is not known is left out."""
    parts: list[bytes] = []
    for key, number, content in fields(message):
        if key in (_DTYPE, _VERSION):
            parts += (varint(key), varint(number))
        elif key == _SHAPE:
            parts += (varint(key), varint(len(content)), bytes(content))
        elif key in _AS_IN_MEMORY:
            parts += (varint(key), varint(len(content)), bytes(len(content)))
        elif key in _AS_VARINTS:
            count = _count_of_varints(content)
            parts += (varint(key), varint(count), bytes(count))
        elif key == tag(TEXTS_FIELD, BYTES) or key & 7 == VARINT:
            parts += (varint(key), b"\0")
        elif key & 7 != BYTES:
            parts += (varint(key), bytes(len(content)))
    return b"".join(parts)


def _count_of_varints(content: memoryview) -> int:
    """How many numbers end in it: each by a byte below 128."""
    return len(bytes(content).translate(None, delete=bytes(range(128, 256))))


def _examples(listed: memoryview, names: Collection[str], found: list[str]) -> bytes:
    """An ExampleList, or one with a context: each Example without the features of those names."""

    def of_feature(key: int, entry: memoryview) -> bytes | None:
        name, feature = entry_of(entry)
        if key != _ONE or name not in names:
            return None
        found.append(name)
        blank = _rewritten(feature, _blank_list)
        return _rewritten(entry, lambda of, _: blank if of == tag(2, BYTES) else None)

    def of_example(_: int, example: memoryview) -> bytes | None:
        return _rewritten(example, lambda key, features: _rewritten(features, of_feature) if key == _ONE else None)

    return _rewritten(listed, of_example)


def _blank_list(key: int, content: memoryview) -> bytes | None:
    if key == _BYTES_LIST:
        return _rewritten(content, lambda _, value: b"")
    if key == _FLOAT_LIST:
        return b"".join(
            varint(of) + (varint(len(value)) if of & 7 == BYTES else b"") + bytes(len(value))
            for of, _, value in fields(content)
        )
    if key == _INT64_LIST:
        counts = (1 if of & 7 == VARINT else _count_of_varints(value) for of, _, value in fields(content))
        count = sum(counts)
        return varint(_ONE) + varint(count) + bytes(count)
    return b""


def _document(body: bytes, names: Collection[str], found: list[str]) -> bytes:
    document = rest_document(body)
    json.loads(body, object_pairs_hook=_once)
    for key in document:
        if key in (ROW, COLUMN, EXAMPLES, "context"):  # which an input may be called as well
            value = _named(document[key], names, found, is_list=key in (ROW, EXAMPLES))
            document[key] = _anywhere(value, names, found)
        else:
            document.update(_anywhere({key: document[key]}, names, found))
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()


def _once(pairs: list[tuple[str, object]]) -> None:
    """NotUnderstoodError for a key that stands twice: the first of the two would stay unseen."""
    if len(dict(pairs)) < len(pairs):
        raise NotUnderstoodError("a key stands twice in one object")


def _anywhere(value: Any, names: Collection[str], found: list[str]) -> Any:
    """The value, without those of the names where no request has them, such as beside "instances" by mistake."""
    if isinstance(value, list):
        return [_anywhere(item, names, found) for item in value]
    if not isinstance(value, dict):
        return value
    found += [name for name in value if name in names]
    return {name: _blank(item) if name in names else _anywhere(item, names, found) for name, item in value.items()}


def _named(value: object, names: Collection[str], found: list[str], *, is_list: bool) -> object:
    if is_list and isinstance(value, list):
        return [_named(item, names, found, is_list=False) for item in value]
    if is_named(value):
        assert isinstance(value, dict)
        found += [name for name in value if name in names]
        return {name: _blank(item) if name in names else item for name, item in value.items()}
    found.append("")
    return _blank(value)


def _blank(value: object) -> object:
    if isinstance(value, list):
        return [_blank(item) for item in value]
    if isinstance(value, dict):
        return {name: _blank(item) for name, item in value.items()}
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)):
        return type(value)(0)
    return "" if isinstance(value, str) else value
