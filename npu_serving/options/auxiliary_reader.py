"""The files of session options that somebody else wrote, read into the classes of auxiliary_files.py.

Or refused with every mistake and its line. What is read is what CANN reads, and the // comments that the guide has in
its samples of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from npu_serving import fsutil
from npu_serving.documents import JSON, parse_document
from npu_serving.documents.reader import typed_lines
from npu_serving.documents.syntax import Trouble
from npu_serving.errors import DocumentError
from npu_serving.options.auxiliary_files import AUXILIARY_FILES

_Lines = dict[tuple[Union[str, int], ...], int]

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*')
_DTYPES = "InputDtype:(?P<inputs>[^:]*),OutputDtype:(?P<outputs>[^:]*)"
_BY_TYPE, _BY_NAME = re.compile(f"OpType::(?P<who>[^:]*):{_DTYPES}"), re.compile(f"(?P<who>[^:]*)::{_DTYPES}")
_FORM = "NAME::InputDtype:DTYPE,OutputDtype:DTYPE, or OpType::TYPE:InputDtype:DTYPE,OutputDtype:DTYPE"
_SECTION = re.compile(r"\[([^\[\]]+)\]")
_LARGEST = 10 * 1024 * 1024  # no such file is nearly as large; another one, named by mistake, may be


def read_auxiliary_file(option: str, path: Path) -> Any:
    """What stands in the file that the option names. Raises DocumentError with all mistakes, and FileAccessError."""
    file = AUXILIARY_FILES[option]
    fsutil.refuse_endless(path)
    with fsutil.explained(path, doing="read"):
        size = path.stat().st_size
    if size > _LARGEST:
        raise DocumentError(
            f"{path} is far too large for {file.name}: it has {size} bytes.", cure="name the right file"
        )
    try:
        text = fsutil.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is not UTF-8 text.", cure=f"write {path} in UTF-8") from error
    if file.syntax == "json":
        return parse_document(_without_comments(text), file.content, where=str(path), syntax=JSON)
    lines: _Lines = {(): 1}
    troubles: list[Trouble] = []
    if file.syntax == "ini":
        plain = _sections(text, lines, troubles, file.first_section)
    else:
        plain = {"dtypes": _dtypes, "debug": _debug_words, "nodes": _nodes}[file.syntax](text, lines, troubles)
    return typed_lines(plain, file.content, where=str(path), lines=lines, troubles=troubles)


def passed_over(path: Path) -> int | None:
    """The number of the first line of a file that is empty or a comment; None where each says something."""
    lines = fsutil.read_text(path).splitlines()
    empty = (number for number, line in enumerate(lines, start=1) if not line.strip() or line.lstrip().startswith("#"))
    return next(empty, None)


def _without_comments(text: str) -> str:
    """Blanks in place of each comment, so that all else stays where it is."""
    return _STRING_OR_COMMENT.sub(lambda found: found[0] if found[0][0] == '"' else " " * len(found[0]), text)


def _stripped(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor comments, each with its number."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _dtypes(text: str, lines: _Lines, troubles: list[Trouble]) -> object:
    found: dict[str, dict[str, object]] = {"by_name": {}, "by_type": {}}
    for number, line in _stripped(text):
        key, entry = "by_type", _BY_TYPE.fullmatch(line)
        if entry is None:
            key, entry = "by_name", _BY_NAME.fullmatch(line)
        if entry is None:
            troubles.append(Trouble(number, 1, (), f"must be {_FORM}"))
            continue
        name = entry["who"]
        if name in found[key]:
            troubles.append(Trouble(number, 1, (), f"{name} has an entry already, in line {lines[key, name]}"))
            continue
        lines[key, name] = number
        found[key][name] = {"inputs": entry["inputs"].split(","), "outputs": entry["outputs"].split(",")}
    return found


def _sections(text: str, lines: _Lines, troubles: list[Trouble], section: str) -> object:
    """Lines before the first section belong to `section`; without one, they are a mistake."""
    found: dict[str, dict[str, object]] = {}
    for number, line in _stripped(text):
        title = _SECTION.fullmatch(line)
        name, equals, value = (part.strip() for part in line.partition("="))
        if title is not None:
            section = title[1]
            lines.setdefault((section,), number)
            found.setdefault(section, {})
        elif not equals or not name:
            troubles.append(Trouble(number, 1, (), "must be NAME=VALUE, or a section such as [NAME]"))
        elif not section:
            troubles.append(Trouble(number, 1, (), f"{name} stands before the first section"))
        elif name in found.setdefault(section, {}):
            message = f"{name} has a value already, in line {lines[section, name]}"
            troubles.append(Trouble(number, 1, (), message))
        else:
            lines.setdefault((section,), number)
            lines[section, name] = number
            found[section][name] = int(value) if re.fullmatch("[0-9]{1,18}", value, re.ASCII) else value
    return found


def _debug_words(text: str, lines: _Lines, troubles: list[Trouble]) -> object:
    entries = list(_stripped(text))
    for number, line in entries[1:]:
        troubles.append(Trouble(number, 1, (), f"only the line op_debug_config = WORD,WORD may stand here, not {line}"))
    if not entries:
        return []
    number, line = entries[0]
    name, equals, value = (part.strip() for part in line.partition("="))
    lines[()] = number
    if name != "op_debug_config" or not equals:
        troubles.append(Trouble(number, 1, (), "must be op_debug_config = WORD,WORD"))
        return ["oom"]
    return [word.strip() for word in value.split(",")]


def _nodes(text: str, lines: _Lines, troubles: list[Trouble]) -> object:
    """CANN reads up to the first blank or end of a line."""
    words = text.split()
    if len(words) > 1:
        troubles.append(Trouble(1, 1, (), "must be one line of names with ; between them, without blanks"))
    return [name for name in (words[0] if words else "").split(";") if name]
