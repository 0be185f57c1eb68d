"""The plain part of YAML, read a line at a time: twice as fast as a parser's events, for files of thousands of models.

It takes mappings and lists of one style (one key or item a line, scalars without escapes, in ASCII), and reads them as
syntax.py does. Anything else, a mistake or only a doubtful character, it leaves to that: nothing here knows an error.
"""

from __future__ import annotations

import re
from typing import Any, Callable

NOT_PLAIN: Any = object()
"""What is returned in place of a value that is for the parser to read, or to refuse."""

_MOST_LINES = 500_000
"""All lines are cut up at once, which takes some hundred bytes for each."""
_DEEPEST = 50
_WHOLE = "the whole"
_KEY = r"[A-Za-z_][A-Za-z0-9_.-]{0,127}"
_FIRST = r"(?:[A-Za-z0-9_/.~]|[-+](?=[0-9.]))"
_NEXT = r"(?:[A-Za-z0-9_/.~+=@^-]|:(?=[A-Za-z0-9_/])| (?=[A-Za-z0-9_/]))"
_QUOTED = r"'[ -&(-~]{0,500}'|\"[ !#-\[\]-~]{0,500}\""
_COMMENT = "#[ -~]*"
_LINE = (
    rf"^( *(?! ))(?:(- +(?! ))?(?:({_KEY}):(?= |$))?(?: *(?:({_FIRST}{_NEXT}{{0,500}})|({_QUOTED})))?"
    rf"(?: +{_COMMENT})? *|{_COMMENT})$"
)
"""A line: its indentation, the dash of an item, a key, a plain scalar, a quoted one. All may be missing."""
MAY_BE_NO_TEXT = "~nNtTfF+-.0123456789"
"""The first letters of all plain scalars that are not simply texts; "" stands for null."""


def read_plain_lines(text: str, resolved: Callable[[str], object]) -> Any:
    """The value of the text, or NOT_PLAIN; `resolved` makes a value of a plain scalar that may be no text."""
    count = text.count("\n") + 1
    lines = re.findall(_LINE, text, re.MULTILINE) if count <= _MOST_LINES else []
    if len(lines) != count:
        return NOT_PLAIN
    nesting = _Nesting()
    for indentation, dash, key, plain, quoted in lines:
        has_value = bool(plain or quoted)
        value: object = quoted[1:-1] if quoted else resolved(plain) if plain[:1] in MAY_BE_NO_TEXT else plain
        if key:
            fits = nesting.add_entry(len(indentation), len(dash), key, value, has_value=has_value)
        elif dash:
            fits = has_value and nesting.add_item(len(indentation), value)
        else:
            fits = not has_value  # else it is the rest of a longer scalar
        if not fits:
            return NOT_PLAIN
    return nesting.root.get(_WHOLE, NOT_PLAIN)


class _Nesting:
    """The lists and mappings that are open: the innermost one, the column of its items or keys, and those around it.

    What adds to it returns whether a line may stand there at all.
    """

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}  # the whole value is that of its only key
        self._holder: Any = self.root
        self._column = -1
        self._around: list[tuple[int, Any]] = []
        self._waiting = _WHOLE  # the last key of the innermost mapping, as long as it has no value

    def add_item(self, column: int, value: object) -> bool:
        """`- VALUE`"""
        if (column != self._column or self._holder.__class__ is not list) and not self._turn_to(column, list):
            return False
        self._holder.append(value)
        self._waiting = ""
        return True

    def add_entry(self, column: int, dash: int, key: str, value: object, *, has_value: bool) -> bool:
        """`KEY: VALUE`, where `dash` is above 0 the first one of a list's new item."""
        if dash:
            entry: dict[str, object] = {}
            if not self.add_item(column, entry):
                return False
            self._open(column + dash, entry)
        elif (column != self._column or self._holder.__class__ is not dict) and not self._turn_to(column, dict):
            return False
        if key in self._holder or len(self._around) > _DEEPEST:
            return False
        self._holder[key] = value
        self._waiting = "" if has_value else key
        return True

    def _turn_to(self, column: int, kind: type) -> bool:
        """Opens a value of that kind where one has to begin here, else closes those that have ended before."""
        if self._waiting and (column > self._column or (kind is list and column == self._column)):
            new = self._holder[self._waiting] = kind()
            self._open(column, new)
            return True
        while self._column > column or (self._column == column and self._holder.__class__ is not kind):
            self._column, self._holder = self._around.pop()
        return self._column == column

    def _open(self, column: int, new: Any) -> None:
        self._around.append((self._column, self._holder))
        self._column, self._holder = column, new
