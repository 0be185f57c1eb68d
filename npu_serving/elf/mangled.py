"""Which C++ namespaces a mangled name speaks of, read from the name itself: no c++filt has to be at hand.

The grammar is that of the Itanium C++ ABI, "Mangling". Only what decides where a qualified name begins is followed.
"""

from __future__ import annotations

import re
from string import digits
from typing import NamedTuple

_SPECIAL = re.compile(r"_Z(?:T[VTISFJCWH]|GV|GR|GTt|T[hv](?:n?\d+_)+(?:n?\d+_)?|Tc(?:[hv](?:n?\d+_)+){2})*", re.ASCII)
_LENGTH = re.compile(r"\d+", re.ASCII)
_QUALIFIERS = re.compile(r"[rVK]*[RO]?")
_SUBSTITUTION = re.compile(
    r"S[0-9A-Z]*_|S[tabsiod]|TL?\d*_(?:\d*_)?|f[pL]\d*(?:p[rVK]*)?\d*_|[DU]t|Ul|D[a-zA-Z]", re.ASCII
)
_LITERAL_VALUE = re.compile(r"n?[0-9a-f_]*E")
_NUMBERED = re.compile(r"CI?[1-5]|D[0-5]|A\d+_|Dv\d+_|_\d|__\d+_|B(?=\d)", re.ASCII)
_OPENS = "NIJXF"
_CLOSES = "E"


class MangledName(NamedTuple):
    """The scope in which a symbol is declared, from the outside in; the global function's own name where it is in none.

    `mentioned` are the first two parts of all qualified names in it, those of the types of its parameters included.
    """

    scope: tuple[str, ...]
    mentioned: frozenset[tuple[str, ...]]


def parse_mangled(name: str) -> MangledName | None:
    """What a mangled name speaks of; None for a name of C."""
    if not name.startswith("_Z"):
        return None
    return _Reader(name).read()


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._at = 0
        self._open: list[str] = []  # what is open at this place: N for a qualified name, L for a literal, …
        self._qualified: list[list[str]] = []  # for each N the parts read so far, at most two
        self._found: list[tuple[str, ...]] = []
        self._scope: tuple[str, ...] | None = None

    def read(self) -> MangledName:
        special = _SPECIAL.match(self._name)
        self._at = special.end() if special is not None else len("_Z")
        while self._at < len(self._name):
            self._step()
        for parts in self._qualified:  # a name that is cut short
            self._found.append(tuple(parts))
        scope = self._scope if self._scope is not None else (self._found[0] if self._found else ())
        return MangledName(scope, frozenset(parts for parts in self._found if parts))

    def _step(self) -> None:
        name, at = self._name, self._at
        char = name[at]
        if char in digits:
            self._identifier()
        elif char == "N":
            self._at = _QUALIFIERS.match(name, at + 1).end()  # type: ignore[union-attr]
            self._open.append("N")
            self._qualified.append([])
        elif char == "L":
            self._literal()
        elif char == "Z" or name.startswith("_Z", at):
            self._at += 1 if char == "Z" else 2
            self._open.append("Z")
        elif char in _OPENS:
            self._at += 1
            self._open.append(char)
        elif char == _CLOSES:
            self._close()
        else:
            self._other()

    def _identifier(self) -> None:
        """<source-name>: the length, then as many characters."""
        length = _LENGTH.match(self._name, self._at)
        assert length is not None
        start = length.end()
        end = start + int(length.group()[:6])
        self._part(self._name[start:end])
        self._at = min(end, len(self._name))
        self._after_a_type()

    def _part(self, identifier: str) -> None:
        if self._open[-1:] == ["N"] and len(self._qualified[-1]) < 2:
            self._qualified[-1].append(identifier)
        elif self._scope is None and not self._open and not self._found:
            self._scope = (identifier,)  # a function or variable in no namespace

    def _literal(self) -> None:
        """<expr-primary>: L <type> <value> E, or L <mangled name> E."""
        self._at += 1
        self._open.append("L")
        rest = self._name[self._at :]
        if rest.startswith(("_Z", "Z")):
            return
        if rest[:1].islower() or rest.startswith("Dn"):  # a builtin type
            self._at += 2 if rest.startswith("Dn") else 1
            self._value()
        # Otherwise an enumeration's type comes first; _after_a_type() reads the value behind it.

    def _value(self) -> None:
        value = _LITERAL_VALUE.match(self._name, self._at)
        if value is not None:
            self._at = value.end()
            self._open.pop()

    def _after_a_type(self) -> None:
        if self._open[-1:] == ["L"] and not self._name.startswith("I", self._at):
            self._value()

    def _close(self) -> None:
        self._at += 1
        if not self._open:
            return
        kind = self._open.pop()
        if kind == "N":
            read = self._qualified.pop()
            parts = (*read, "") if len(read) == 1 else tuple(read)  # an operator in a namespace has no name
            self._found.append(parts)
            if self._scope is None and not any(item == "I" for item in self._open):
                self._scope = parts
        self._after_a_type()

    def _other(self) -> None:
        name, at = self._name, self._at
        for pattern in (_SUBSTITUTION, _NUMBERED):
            match = pattern.match(name, at)
            if match is not None:
                self._at = match.end()
                if match.group() == "St":
                    self._standard()
                elif match.group().startswith("S"):
                    self._substituted(match.group())
                return
        self._at += 1

    def _standard(self) -> None:
        """St: what follows is in std, in a qualified name or on its own."""
        if self._open[-1:] == ["N"]:
            if not self._qualified[-1]:
                self._qualified[-1].append("std")
        else:
            length = _LENGTH.match(self._name, self._at)
            parts: tuple[str, ...] = ("std",)
            if length is not None:
                end = length.end() + int(length.group()[:6])
                parts = ("std", self._name[length.end() : end])
                self._at = min(end, len(self._name))
            self._found.append(parts)
            if self._scope is None and not self._open:
                self._scope = parts
        self._after_a_type()

    def _substituted(self, text: str) -> None:
        """S_, S0_ … stand for what was mentioned before, Sa, Ss … for names in std."""
        is_standard = text[1] in "absiod"
        if self._open[-1:] == ["N"] and not self._qualified[-1]:
            self._qualified[-1] += ["std", text] if is_standard else ["", ""]
        elif is_standard:
            self._found.append(("std", text))
        self._after_a_type()
