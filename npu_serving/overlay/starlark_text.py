"""Starlark as text: tokens with their places, brackets, and what is between them. Nothing is evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from npu_serving.errors import BuildFileError

_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = {closing: opening for opening, closing in _OPENING.items()}
_BLANK = re.compile(r"(?:[ \t\r\n\f]|\\\r?\n|\ufeff|#[^\n]*)+")
_STRING_START = re.compile(r"(?P<prefix>[rRbB]{0,2})(?P<quote>\"\"\"|'''|\"|')")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"\d[\w.]*")
_ESCAPE = re.compile(r"\\(?:\r\n|.)", re.DOTALL)
_OPERATOR = re.compile(r"//=|\*\*|[-+*/%=!<>|&]=|//|<<|>>|.", re.DOTALL)


@dataclass(frozen=True)
class Token:
    """A piece of the text; `kind` is "string", "name", "number" or "operator"."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Item:
    """An element of a list or an argument of a call: tokens [first, last], and the comma behind it, if there is one."""

    first: int
    last: int
    comma: int | None


@dataclass(frozen=True)
class StarlarkCall:
    """A call such as cc_binary(…): the function's name, and the tokens of its parentheses."""

    function: str
    opening: int
    closing: int


class StarlarkSource:
    """A BUILD file's text, its tokens, and which bracket closes which (by token number).

    Raises BuildFileError, with line and column, for text in which brackets or strings are left open.
    """

    def __init__(self, text: str, name: str = "the BUILD file") -> None:
        self.text = text
        self.name = name
        self.tokens = tuple(self._tokenize())
        self.partner = self._match_brackets()

    def place(self, offset: int) -> str:
        """Line and column of an offset, counted from 1, as editors do."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        return f"{self.name}:{line}:{column}"

    def items(self, opening: int) -> tuple[Item, ...]:
        """What is between a bracket and its partner, separated by commas."""
        found: list[Item] = []
        closing = self.partner[opening]
        first = number = opening + 1
        while number < closing:
            token = self.tokens[number]
            if token.text == "," and token.kind == "operator":
                if number > first:
                    found.append(Item(first, number - 1, number))
                first = number = number + 1
            else:
                number = self.skip(number)
        if first < closing:
            found.append(Item(first, closing - 1, None))
        return tuple(found)

    def skip(self, number: int) -> int:
        """The number of the token after this one, or after the whole bracket that it opens."""
        return self.partner.get(number, number) + 1 if self.tokens[number].text in _OPENING else number + 1

    def keyword(self, item: Item) -> str | None:
        """The name of a keyword argument, or None for another kind of argument."""
        if item.last > item.first + 1 and self.tokens[item.first].kind == "name":
            return self.tokens[item.first].text if self.tokens[item.first + 1].text == "=" else None
        return None

    def string(self, first: int, last: int) -> str | None:
        """The value of the tokens if they are a string, or strings put together by + or by standing side by side."""
        value = ""
        for number in range(first, last + 1):
            token = self.tokens[number]
            if token.kind == "string":
                value += string_value(token.text)
            elif token.text != "+" or number in (first, last):
                return None
        return value

    def _tokenize(self) -> Iterator[Token]:
        offset = 0
        while True:
            blank = _BLANK.match(self.text, offset)
            offset = blank.end() if blank else offset
            if offset == len(self.text):
                return
            token = self._token_at(offset)
            offset = token.end
            yield token

    def _token_at(self, offset: int) -> Token:
        string = _STRING_START.match(self.text, offset)
        if string:
            end = self._end_of_string(offset, string.end(), string["quote"])
            return Token("string", self.text[offset:end], offset, end)
        for kind, pattern in (("name", _NAME), ("number", _NUMBER), ("operator", _OPERATOR)):
            found = pattern.match(self.text, offset)
            if found:
                return Token(kind, found[0], offset, found.end())
        raise AssertionError("the last pattern matches anything")

    def _end_of_string(self, start: int, offset: int, quote: str) -> int:
        while offset < len(self.text):
            if self.text.startswith(quote, offset):
                return offset + len(quote)
            if self.text[offset] == "\n" and len(quote) == 1:
                break
            escaped = _ESCAPE.match(self.text, offset)
            offset = escaped.end() if escaped else offset + 1
        raise BuildFileError(
            f"{self.place(start)}: the string that begins here is never closed.",
            cure="close it, then run the same command again",
        )

    def _match_brackets(self) -> Mapping[int, int]:
        partner: dict[int, int] = {}
        open_ones: list[int] = []
        for number, token in enumerate(self.tokens):
            if token.kind != "operator":
                continue
            if token.text in _OPENING:
                open_ones.append(number)
            elif token.text in _CLOSING:
                if not open_ones or self.tokens[open_ones[-1]].text != _CLOSING[token.text]:
                    raise BuildFileError(
                        f"{self.place(token.start)}: there is no open bracket for {token.text!r} to close.",
                        cause="a bracket is missing or superfluous before it",
                        cure="balance the brackets, then run the same command again",
                    )
                partner[open_ones.pop()] = number
        if open_ones:
            token = self.tokens[open_ones[-1]]
            raise BuildFileError(
                f"{self.place(token.start)}: {token.text!r} is never closed.",
                cure="balance the brackets, then run the same command again",
            )
        return partner


def string_value(literal: str) -> str:
    """The value of a string literal; Starlark's are Python's, for every label that Bazel accepts."""
    try:
        return str(ast.literal_eval(literal.replace("\r\n", "\n")))
    except (SyntaxError, ValueError):
        return literal  # an escape that Python refuses: no label, so it equals none
