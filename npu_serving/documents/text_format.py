"""Protobuf's text format, as configuration files of servers have it: fields, in their order, with their places.

Without the schema: which fields there are is the server's to judge. The grammar is that of text_format.cc and
tokenizer.cc (protobuf 3.8), which the server of TensorFlow Serving 1.15 is built with.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\r\v\f]+|\#[^\n]*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
# A part of a string: the engine keeps a place for each turn, of which a string of megabytes would have too many.
_IN_STRING = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\.){{1,4096}}", re.DOTALL) for quote in "\"'"}
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    "'": "'",
    '"': '"',
}
_LAST_CODE = 0x10FFFF  # of Unicode
_BYTE = 0xDC00  # is added to a byte that is not text, as by Python's surrogateescape
_CLOSING = {"{": "}", "<": ">"}
_DEEPEST = 100  # protobuf's own limit


class TextFormatError(Exception):
    """What a text is not in text format for, with the line and the column, from 1."""

    def __init__(self, line: int, column: int, what: str) -> None:
        super().__init__(f"{line}:{column}: {what}")


@dataclass(frozen=True)
class TextField:
    """A field: its name (an extension's or a type's in brackets), its value, and its line and column, from 1.

    A value is a message, which is a tuple of fields, or the text of a scalar, a string's without its quotes.
    """

    name: str
    value: str | tuple[TextField, ...]
    line: int
    is_string: bool = False
    column: int = dataclasses.field(default=1, compare=False)

    @property
    def fields(self) -> tuple[TextField, ...]:
        """The fields of a message; none for a scalar."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str:
        """The text of a scalar; "" for a message."""
        return self.value if isinstance(self.value, str) else ""

    def walk(self) -> Iterator[TextField]:
        """The field itself, and all within it."""
        yield self
        for field in self.fields:
            yield from field.walk()


def last_text(fields: tuple[TextField, ...], name: str) -> str:
    """The text of the scalar of that name, which counts where it stands several times: the last; "" without one."""
    return next((field.text for field in reversed(fields) if field.name == name), "")


def read_text_format(text: str) -> tuple[TextField, ...]:
    """The fields of a message in text format. Raises TextFormatError."""
    return _TextFormatReader(text).message("", 0)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    line: int
    column: int


class _TextFormatReader:
    """Reads token by token: of a text of megabytes that is wrong at its beginning, the rest is not looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._line_start = 1, 0
        self._end = 0
        self._peek = self._last = _Token("end", "", 0, 1, 1)
        self._step()

    def _step(self) -> None:
        """Passes a token, which then is the last one."""
        self._last = self._peek
        text, before, start = self._text, self._last.start, self._end
        found = _TOKEN.match(text, start)
        while found is not None and found.lastgroup == "blank":
            start = found.end()
            found = _TOKEN.match(text, start)
        if newlines := text.count("\n", before, start):
            self._line += newlines
            self._line_start = text.rindex("\n", before, start) + 1
        kind, self._end = ("end", start) if found is None else (found.lastgroup or "", found.end())
        if kind == "mark" and text[start] in _IN_STRING and (end := self._end_of_string(start)):
            kind, self._end = "string", end
        self._peek = _Token(kind, text[start : self._end], start, self._line, start - self._line_start + 1)

    def _end_of_string(self, start: int) -> int:
        """Where the string ends that begins there; 0 where it does not."""
        quote, end = self._text[start], start + 1
        while (part := _IN_STRING[quote].match(self._text, end)) is not None:
            end = part.end()
        return end + 1 if self._text.startswith(quote, end) else 0

    def message(self, closing: str, depth: int) -> tuple[TextField, ...]:
        """The fields up to the mark that closes their message, or to the end."""
        if depth > _DEEPEST:
            self._refuse("messages are nested too deeply")
        fields: list[TextField] = []
        while not self._takes(closing):
            fields += self._field(depth)
            _ = self._takes(",") or self._takes(";")
        return tuple(fields)

    def _field(self, depth: int) -> list[TextField]:
        start = self._peek
        name = self._bracketed() if start.text == "[" else self._word()
        place = start.line, start.column
        colon = self._takes(":")
        if self._takes("["):
            values = []
            while not self._takes("]"):
                values.append(self._value(name, place, depth))
                if not self._takes(",") and self._peek.text != "]":
                    self._refuse("a list goes on with a comma")
            return values
        if not colon and self._peek.text not in _CLOSING:
            self._refuse(f"a colon is missing after {name}")
        return [self._value(name, place, depth)]

    def _value(self, name: str, place: tuple[int, int], depth: int) -> TextField:
        token, (line, column) = self._peek, place
        if token.text in _CLOSING and token.kind == "mark":
            self._step()
            return TextField(name, self.message(_CLOSING[token.text], depth + 1), line, column=column)
        if token.kind == "string":
            pieces = []
            while self._peek.kind == "string":  # as in C, those that follow each other are one
                pieces.append(self._unquoted(self._peek.text))
                self._step()
            return TextField(name, _of_bytes("".join(pieces)), line, is_string=True, column=column)
        sign = "-" if self._takes("-") else ""
        if self._peek.kind not in ("number", "word"):
            self._refuse(f"{name} has no value")
        self._step()
        return TextField(name, sign + self._last.text, line, column=column)

    def _bracketed(self) -> str:
        begin = self._peek.start
        while not self._takes("]"):
            if self._peek.kind == "end":
                self._refuse("a bracket is not closed")
            self._step()
        return "".join(self._text[begin : self._last.start + 1].split())

    def _word(self) -> str:
        if self._peek.kind != "word":
            self._refuse(f"the name of a field is expected, not {self._peek.text or 'the end'!r}")
        self._step()
        return self._last.text

    def _takes(self, text: str) -> bool:
        """Whether the next token is that mark, or, for "", the end; then it is passed."""
        token = self._peek
        is_it = token.kind == "end" if not text else token.kind == "mark" and token.text == text
        if text and not is_it and token.kind == "end" and text in (*_CLOSING.values(), "]"):
            self._refuse(f"{text} is missing")
        if is_it and text:
            self._step()
        return is_it

    def _refuse(self, what: str) -> NoReturn:
        raise TextFormatError(self._peek.line, self._peek.column, what)

    def _unquoted(self, literal: str) -> str:
        """The text of a string; a byte beyond ASCII that an escape stands for is one half of a character."""

        def plain(found: re.Match[str]) -> str:
            octal, hexadecimal, short, long, letter = found.groups()
            code = int(octal, 8) if octal else int(hexadecimal or short or long or "0", 16)
            if (letter not in _LETTERS and letter is not None) or code > _LAST_CODE:
                self._refuse(f"{found.group()} is not an escape")
            if letter is not None:
                return _LETTERS[letter]
            if short or long:
                return chr(code)
            code &= 0xFF
            return chr(code) if code < 0x80 else chr(_BYTE + code)

        return _ESCAPE.sub(plain, literal[1:-1])


def _of_bytes(text: str) -> str:
    """The text with the bytes that are characters together read as such: protobuf itself writes é as two escapes.

    The others stay halves of characters, as fsutil.read_text() has them.
    """
    if not any(_BYTE <= ord(letter) <= _BYTE + 0xFF for letter in text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text
