"""The flags of tensorflow_model_server: the table of server_flags.yaml, and what may be passed on to a server.

The server itself doesn't check: given a flag that it does not know, it prints its usage and starts anyway.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from npu_serving import fsutil
from npu_serving.documents import read_document
from npu_serving.errors import RequestError

TABLE = Path(__file__).with_name("server_flags.yaml")
_INTEGER_BITS = {"int32": 32, "int64": 64}
_EXAMPLES = {"bool": "true", "int32": "1", "int64": "1", "float": "0.5"}


@dataclass(frozen=True)
class ServerFlag:
    """One line of the table; see the head of server_flags.yaml for what the fields say."""

    type: Literal["int32", "int64", "float", "string", "bool"]
    default: bool | int | float | str | None
    meaning: str
    path: bool = False
    must_exist: bool = False
    ignored_with_platform_config: bool = False
    pairs: bool = False
    set_by_plan: bool = False
    name: str = ""
    """The key under which the line stands."""


@dataclass(frozen=True)
class _FlagSource:
    """The file that the flags were read from."""

    file: str
    tag: str
    sha256: str


@dataclass(frozen=True)
class _ServerFlagTable:
    """server_flags.yaml."""

    source: _FlagSource
    flags: Mapping[str, ServerFlag]


@functools.cache
def known_flags() -> Mapping[str, ServerFlag]:
    """Every flag of the server, by its name without the dashes."""
    return {name: dataclasses.replace(flag, name=name) for name, flag in _table().flags.items()}


def checked_flags(texts: Sequence[str], planned: Collection[Path] = ()) -> dict[str, str]:
    """The flags as name -> value, in their order, each valid for the server; paths are absolute in the result.

    `planned` are files that are to be written before the server starts.

    Raises RequestError for what the server does not know or can't parse, for a flag given twice, and for one that
    plan_server() sets itself.
    """
    values: dict[str, str] = {}
    for text in texts:
        flag, value = _parsed(text)
        if flag.name in values:
            raise RequestError(f"--{flag.name} is given twice.", cure="keep one of the two")
        values[flag.name] = _checked_value(flag, value, planned)
    return values


def flags_in(argv: Sequence[str]) -> dict[str, str]:
    """The flags --name=value of a command line, as they are; the last of a name counts."""
    return dict(word[2:].split("=", 1) for word in argv if word.startswith("--") and "=" in word)


def existing_file(path: Path, flag_name: str, planned: Collection[Path] = ()) -> Path:
    """The path made absolute; RequestError where it is neither a readable file nor one that is to be written."""
    absolute = path.expanduser().absolute()
    if absolute in planned:
        return absolute
    if not absolute.is_file():
        raise RequestError(f"--{flag_name}: the file {absolute} does not exist.", cure="check the path")
    if not os.access(absolute, os.R_OK):
        raise RequestError(
            f"--{flag_name}: {absolute} can't be read.",
            cure=f"check its owner and permissions: ls -l {absolute.parent}",
        )
    return absolute


@functools.cache
def _table() -> _ServerFlagTable:
    return read_document(TABLE, _ServerFlagTable)


def _parsed(text: str) -> tuple[ServerFlag, str]:
    if "\0" in text:
        raise RequestError(f"The server flag {text!r} contains a NUL byte.", cure="remove the NUL byte")
    name, equals, value = text[2:].partition("=")
    if not text.startswith("--") or not name:
        raise RequestError(f"{text!r} is not a flag of the server.", cure="write it like --flag=value")
    flag = known_flags().get(name)
    if flag is None:
        raise _unknown(name)
    if flag.set_by_plan:
        raise RequestError(
            f"--{name} can't be passed on to the server.",
            cause="this project sets it itself, or the server would exit without serving",
            cure=f"use the task's own option instead, or leave --{name} out",
        )
    if not equals and flag.type != "bool":
        raise RequestError(f"--{name} needs a value.", cure=f"write --{name}=VALUE, with the '='")
    return flag, value if equals else "true"


def _unknown(name: str) -> RequestError:
    near = difflib.get_close_matches(name, known_flags(), n=1)
    return RequestError(
        f"tensorflow_model_server has no flag --{name}.",
        cause="the server would print its usage and start without it",
        cure=f"did you mean --{near[0]}?" if near else f"its flags are: {', '.join(sorted(known_flags()))}",
    )


def _checked_value(flag: ServerFlag, value: str, planned: Collection[Path]) -> str:
    if flag.type == "bool" and value not in ("true", "false"):
        raise _unfit(flag, value, "true or false")
    if flag.type in _INTEGER_BITS and not _fits(value, _INTEGER_BITS[flag.type]):
        raise _unfit(flag, value, f"a whole number that fits into {_INTEGER_BITS[flag.type]} bits")
    if flag.type == "float" and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII):
        raise _unfit(flag, value, "a number")
    lonely = [entry for entry in value.split(",") if "=" not in entry or entry.startswith("=")] if flag.pairs else []
    if value and lonely:
        raise RequestError(
            f"--{flag.name} has the entry {lonely[0]!r}, which is not NAME=VALUE.",
            cause="the server would end by SIGSEGV once its models are loaded",
            cure=f"write it like --{flag.name}=grpc.max_connection_age_ms=2000",
        )
    if flag.path and fsutil.is_remote(value):
        return value
    if flag.must_exist:
        return str(existing_file(Path(value), flag.name, planned))
    return str(Path(value).expanduser().absolute()) if flag.path else value


def _fits(value: str, bits: int) -> bool:
    if not re.fullmatch(r"[+-]?\d{1,20}", value, re.ASCII):
        return False
    return -(1 << bits - 1) <= int(value) < 1 << bits - 1


def _unfit(flag: ServerFlag, value: str, wanted: str) -> RequestError:
    return RequestError(
        f"--{flag.name} must be {wanted}, not {value!r}.",
        cure=f"write it like --{flag.name}={_EXAMPLES[flag.type]}; it sets: {flag.meaning}",
    )
