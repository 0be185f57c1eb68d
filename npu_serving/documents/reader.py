"""Documents read into typed dataclasses, or refused with every mistake; and the JSON Schema of the same types."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

from npu_serving import fsutil
from npu_serving.documents.kinds import Mistake, Reading, kind_of
from npu_serving.documents.syntax import JSON, YAML, Path, Trouble, UnreadableError, find_places, parse
from npu_serving.errors import DocumentError, NpuServingError

T = TypeVar("T")

FORMAT_KEY = "format"
MISTAKES_SHOWN = 100


@dataclass(frozen=True)
class DocumentRefusal:
    """How a document with mistakes is refused: what is said first, and the error's class, cause and cure."""

    heading: str = ""
    """A line before the mistakes, such as `x.json is not a build manifest:`."""
    error: type[NpuServingError] = DocumentError
    cause: str = ""
    cure: str = ""


def read_document(
    path: FilePath,
    kind: type[T],
    *,
    format: int | None = None,
    ignore_unknown: bool = False,
    refusal: DocumentRefusal = DocumentRefusal(),
) -> T:
    """The value of the file at `path`, as the dataclass `kind`: JSON where its name says so, else YAML.

    With `format` the key of that name has to hold this number; another one is the only mistake that is reported, for
    the rest may then mean anything. Raises what `refusal` says (DocumentError by default) with all mistakes, and
    FileAccessError. Paths are as they were written: what relative ones are relative to is the caller's to say.
    """
    text, syntax = read_source(path, refusal)
    return parse_document(
        text, kind, where=str(path), syntax=syntax, format=format, ignore_unknown=ignore_unknown, refusal=refusal
    )


def read_source(path: FilePath, refusal: DocumentRefusal = DocumentRefusal()) -> tuple[str, str]:
    """The text of a file, and its syntax: JSON where its name says so, else YAML."""
    return _decoded(fsutil.read_bytes(path), str(path), refusal), JSON if path.suffix == ".json" else YAML


def parse_document(
    text: str | bytes,
    kind: type[T],
    *,
    where: str,
    syntax: str = YAML,
    format: int | None = None,
    ignore_unknown: bool = False,
    refusal: DocumentRefusal = DocumentRefusal(),
) -> T:
    """The value of a text, as read_document(); `where` is its name in messages."""
    if isinstance(text, bytes):
        text = _decoded(text, where, refusal)
    reading = Reading(ignore_unknown)
    try:
        plain, troubles = parse(text, syntax)
        found = _read({} if plain is None and syntax == YAML else plain, kind, format, reading)
    except UnreadableError as error:
        raise refused(error.troubles, where, refusal) from error
    if not reading.mistakes and not troubles:
        return found  # type: ignore[no-any-return]
    raise refused([*troubles, *_placed(reading.mistakes, text, syntax)], where, refusal)


def typed_lines(
    plain: object, kind: Any, *, where: str, lines: Mapping[Path, int], troubles: Sequence[Trouble] = ()
) -> Any:
    """The value of a document whose own syntax was read already; `lines` has the line of each path in it.

    Raises DocumentError with all mistakes, those of its syntax (`troubles`) too.
    """
    reading = Reading()
    found = kind_of(kind).read(plain, (), reading)
    if not reading.mistakes and not troubles:
        return found
    placed = []
    for item in reading.mistakes:
        known = (item.path[:length] for length in range(len(item.path), -1, -1) if item.path[:length] in lines)
        placed.append(Trouble(lines[next(known)], 1, item.path, item.message))
    raise refused([*troubles, *placed], where, DocumentRefusal())


def json_schema(kind: type, *, format: int | None = None) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of documents that hold a `kind`; what problems() finds is beyond it."""
    definitions: dict[str, dict[str, Any]] = {}
    root = kind_of(kind).schema(definitions)
    if format is not None:
        own = definitions[root["$ref"].rpartition("/")[2]]
        own["properties"] = {FORMAT_KEY: {"const": format}, **own["properties"]}
        own["required"] = [FORMAT_KEY, *(name for name in own["required"] if name != FORMAT_KEY)]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _read(plain: Any, kind: type, format: int | None, reading: Reading) -> Any:
    """The typed value; mistakes are noted in `reading`."""
    if format is not None and isinstance(plain, dict):
        given = plain.get(FORMAT_KEY)
        if given.__class__ is not int or given != format:
            said = f"is {given!r}"[:60] if FORMAT_KEY in plain else "is missing"
            return reading.wrong(((), FORMAT_KEY), f"{said}, and this program reads format {format}")
        plain = {key: value for key, value in plain.items() if key != FORMAT_KEY}
    try:
        return kind_of(kind).read(plain, (), reading)
    except RecursionError:
        return reading.wrong((), "is nested too deeply")


def _decoded(data: bytes, where: str, refusal: DocumentRefusal) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        message = f"this is not UTF-8 text: the byte 0x{data[error.start]:02x} does not fit"
        raise refused([Trouble(before.count(b"\n") + 1, column, (), message)], where, refusal) from error


def _placed(mistakes: Iterable[Mistake], text: str, syntax: str) -> list[Trouble]:
    places = find_places(text, syntax)
    return [Trouble(*places.of(item.path, key=item.at_key), item.path, item.message) for item in mistakes]


def refused(
    troubles: Iterable[Trouble], where: str, refusal: DocumentRefusal, sources: Sequence[str] = ()
) -> NpuServingError:
    """The error with all of them, in the order of the texts' names (`sources`, where there are several) and places."""
    rank = {name: number for number, name in enumerate(sources)}
    ordered = sorted(troubles, key=lambda item: (rank.get(item.where, 0), item.line, item.column))
    lines = [_line(item, where) for item in ordered[:MISTAKES_SHOWN]]
    if len(ordered) > MISTAKES_SHOWN:
        lines.append(f"{where}: and {len(ordered) - MISTAKES_SHOWN} more mistakes.")
    heading = [refusal.heading] if refusal.heading else []
    error = refusal.error("\n".join([*heading, *lines]), cause=refusal.cause, cure=refusal.cure or f"correct {where}")
    error.details["mistakes"] = [
        {
            **({"source": item.where} if item.where else {}),
            "line": item.line,
            "column": item.column,
            "path": path_text(item.path),
            "message": item.message,
        }
        for item in ordered
    ]
    return error


def _line(trouble: Trouble, where: str) -> str:
    """The place and the mistake; the path once, where the place is the flag that has it (`--set server.port`)."""
    place = _place(trouble, where)
    is_named = place.endswith(f" {path_text(trouble.path)}")
    return f"{place}: {_sentence(replace(trouble, path=()) if is_named else trouble)}"


def _place(trouble: Trouble, where: str) -> str:
    source = trouble.where or where
    return f"{source}:{trouble.line}:{trouble.column}" if trouble.line else source


def _sentence(trouble: Trouble) -> str:
    path = path_text(trouble.path)
    end = "" if trouble.message.endswith("?") else "."
    return (f"{path}: " if path else "") + trouble.message + end


def path_text(path: Path) -> str:
    """The path as messages show it: models[3].name."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w+/@<-][\w+/@<.-]{0,80}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part[:80]!a}]"
    return text
