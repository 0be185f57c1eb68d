"""What a caller adds to a request: headers of REST, metadata of gRPC. Checked here, as their values may be secrets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from npu_serving.client.errors import NotSentError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")
_VALUE = re.compile(r"[\t -~\xa0-\xff]*")
_OWN = frozenset({"content-length", "transfer-encoding", "connection"})
"""They say where a request ends, which this library knows itself."""


def checked_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers. NotSentError, without any value, for what HTTP/1.1 can't carry or would misunderstand."""
    pairs = _pairs("headers", headers)
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _wrong(f"{name!r} can't be the name of a header.", "use letters, digits and -")
        if name.lower() in _OWN:
            raise _wrong(f"The header {name!r} is set by the client itself.", "leave it out")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise _unfit("header", name, value)
    return pairs


def checked_metadata(metadata: Sequence[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """The metadata. NotSentError, without any value, for what gRPC would refuse without saying which one it is."""
    pairs = _pairs("metadata", metadata)
    for name, value in pairs:
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            raise _wrong(f"{name!r} can't be a key of gRPC's metadata.", "use small letters, digits, - _ and .")
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise _wrong(f"The value of {name!r} is not bytes.", "give bytes, or a key that does not end in -bin")
            continue
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not isinstance(text, str) or not _TEXT.fullmatch(text):
            raise _unfit("key", name, value)
    return pairs


def _pairs(what: str, given: Sequence[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    is_list = isinstance(given, (list, tuple))
    if not is_list or not all(isinstance(one, (list, tuple)) and len(one) == 2 for one in given):
        raise _wrong(f"The {what} are not pairs.", f"give names with values: {what}=[('x-name', 'value')]")
    return tuple((name, value) for name, value in given)


def _unfit(what: str, name: str, value: object) -> NotSentError:
    is_ended = isinstance(value, str) and value != value.rstrip("\r\n")
    return _wrong(
        f"The value of the {what} {name!r} can't be sent.",
        "take the end of the line away: value.strip()" if is_ended else "give a text of printable letters",
        cause="it ends with a line break, as what is read from a file does" if is_ended else "",
    )


def _wrong(what: str, cure: str, cause: str = "") -> NotSentError:
    return NotSentError(what, cause=cause, cure=cure, reason="setting")
