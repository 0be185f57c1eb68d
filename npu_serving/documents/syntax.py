"""YAML and JSON as plain values, and where in the text each of them stands. What types they are meant to be: kinds.py.

YAML is read by plain_lines.py where it can be, else from PyYAML's events, which takes a tenth of the time of a
plain load. Scalars are resolved by YAML 1.2's core schema: `yes`, `no`, `on`, `off`, `12:30:00`, `1_000` and dates
are texts. Beyond it, a number with zeros in front (0777, which YAML 1.1 takes for 511) is a text too, so that
nobody gets a number that they did not mean. Keys are texts whatever they look like. Aliases are read, within
bounds; tags and merge keys (`<<`) are refused.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from npu_serving.documents.plain_lines import MAY_BE_NO_TEXT, NOT_PLAIN, read_plain_lines

YAML, JSON = "yaml", "json"
MAX_DEPTH = 100
MAX_ALIASED = 100_000
"""So many values may come in through aliases: a few nested ones (the "billion laughs") would fill any memory."""

Path = tuple[Union[str, int], ...]
"""The keys and list positions that lead to a value, such as ("models", 3, "name")."""

_MAX_NUMBER_LENGTH = 400
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBER = re.compile(
    r"(?P<decimal>[-+]?(?:0|[1-9][0-9]*))"
    r"|0o(?P<octal>[0-7]+)|0x(?P<hexadecimal>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a text at one place, whatever it is meant to say. Lines and columns count from 1.

    `where` names the text where a document is made of several; line 0 is for one that has no lines, such as a flag.
    """

    line: int
    column: int
    path: Path
    message: str
    where: str = ""


class UnreadableError(Exception):
    """The text can't be read beyond the last of these places."""

    def __init__(self, *troubles: Trouble) -> None:
        super().__init__()
        self.troubles = troubles


@dataclass
class TextPlaces:
    """Line and column of each value, and of the key that it stands under."""

    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def of(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Where the value (or its key) stands; for one that is not there, the nearest value around it."""
        if key and path in self.keys:
            return self.keys[path]
        around = (path[:length] for length in range(len(path), -1, -1))
        return next((self.values[part] for part in around if part in self.values), (1, 1))


def parse(text: str, syntax: str) -> tuple[object, tuple[Trouble, ...]]:
    """The value that the text holds, and what is wrong with its spelling. Raises UnreadableError."""
    if syntax == JSON:
        return _parse_json(text)
    value = read_plain_lines(text, _resolved)
    if value is not NOT_PLAIN:
        return value, ()
    builder = _YamlBuilder(None)
    return builder.built(text), tuple(builder.troubles)


def find_places(text: str, syntax: str) -> TextPlaces:
    """Where everything stands in a text that parse() could read: a second, slower reading, for messages."""
    places = TextPlaces()
    if syntax == JSON:
        _JsonWalk(text, places).walk()
    else:
        _YamlBuilder(places).built(text)
    return places


# ---- YAML

_NO_KEY = object()  # the next scalar of this mapping is a key
_DROPPED = object()  # the key of a value that nobody gets


class _YamlBuilder:
    """Makes plain values of PyYAML's events, without recursion."""

    def __init__(self, places: TextPlaces | None) -> None:
        self.troubles: list[Trouble] = []
        self._places = places
        self._root: list[Any] = []
        self._holder: Any = self._root
        self._key: Any = _NO_KEY
        self._open: list[tuple[Any, Any, str | None, int]] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._aliased = 0

    def built(self, text: str) -> object:
        """The document's value; None for an empty one."""
        from yaml import events
        from yaml.error import MarkedYAMLError, YAMLError

        handlers = {
            events.ScalarEvent: self._scalar,
            events.MappingStartEvent: self._start_mapping,
            events.SequenceStartEvent: self._start_list,
            events.MappingEndEvent: self._end,
            events.SequenceEndEvent: self._end,
            events.AliasEvent: self._alias,
            events.DocumentStartEvent: self._start_document,
        }
        end = events.StreamEndEvent
        try:
            next_event = _event_source(text)
            while True:
                event = next_event()
                handler = handlers.get(event.__class__)
                if handler is not None:
                    handler(event)
                elif event.__class__ is end:
                    break
        except MarkedYAMLError as error:
            raise UnreadableError(*self.troubles, _yaml_trouble(error, text)) from error
        except (YAMLError, UnicodeEncodeError) as error:
            raise UnreadableError(*self.troubles, _unprintable(text)) from error
        return self._root[0] if self._root else None

    def _path(self) -> Path:
        """Where the next value goes."""
        keys = [len(holder) - 1 if holder.__class__ is list else key for holder, key, _, _ in self._open]
        last = len(self._holder) if self._holder.__class__ is list else self._key
        return tuple([*keys, last][1:])

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        value = event.value
        if self._key is _NO_KEY and self._holder.__class__ is dict:
            self._start_entry(event, value)
        else:
            if not event.style and value[:1] in MAY_BE_NO_TEXT:
                value = _resolved(value)
            self._put(event, value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)

    def _start_entry(self, event: Any, key: str) -> None:
        self._key = key
        if key == "<<" and not event.style:
            self._trouble(event, "is a merge key, which is not part of YAML 1.2: write the keys themselves")
            self._key = _DROPPED
        elif key in self._holder:
            self._trouble(event, "is there twice: keep one of the two")
            self._key = _DROPPED
        elif self._places is not None:
            self._places.keys[self._path()] = _place(event)

    def _put(self, event: Any, value: object) -> None:
        self._count += 1
        if self._places is not None and self._key is not _DROPPED:
            self._places.values[self._path()] = _place(event)
        if self._holder.__class__ is list:
            self._holder.append(value)
        else:
            if self._key is not _DROPPED:
                self._holder[self._key] = value
            self._key = _NO_KEY

    def _start_mapping(self, event: Any) -> None:
        self._start(event, {})

    def _start_list(self, event: Any) -> None:
        self._start(event, [])

    def _start(self, event: Any, new: Any) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        if self._key is _NO_KEY and self._holder.__class__ is dict:
            raise self._fatal(event, "a key has to be a text; a list or a mapping stands in its place")
        if len(self._open) >= MAX_DEPTH:
            raise self._fatal(event, f"is nested more than {MAX_DEPTH} levels deep")
        holder, key = self._holder, self._key
        self._put(event, new)
        self._open.append((holder, key, event.anchor, self._count))
        self._holder, self._key = new, _NO_KEY

    def _end(self, _event: Any) -> None:
        done = self._holder
        self._holder, _, anchor, began = self._open.pop()
        self._key = _NO_KEY
        if anchor is not None:
            self._anchors[anchor] = (done, self._count - began + 1)

    def _alias(self, event: Any) -> None:
        if self._key is _NO_KEY and self._holder.__class__ is dict:
            raise self._fatal(event, "an alias can't be a key")
        if event.anchor not in self._anchors:
            message = f"is the alias *{event.anchor}, and no value with the anchor &{event.anchor} ends before it"
            raise self._fatal(event, message)
        value, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise self._fatal(event, f"the aliases up to here stand for more than {MAX_ALIASED} values")
        self._put(event, value)
        self._count += size - 1

    def _start_document(self, event: Any) -> None:
        if self._root:
            raise self._fatal(event, "a second document begins here (---): one file holds one document")

    def _refuse_tag(self, event: Any) -> None:
        self._trouble(event, f"has the tag {_shortened(event.tag)!r}, and tags are not read: leave it out")

    def _trouble(self, event: Any, message: str) -> None:
        # A key with a tag is looked at before its name is known, and what has no key of its own has none to show.
        path = tuple(part for part in self._path() if isinstance(part, (str, int)))
        self.troubles.append(Trouble(*_place(event), path, message))

    def _fatal(self, event: Any, message: str) -> UnreadableError:
        self._trouble(event, message)
        return UnreadableError(*self.troubles)


def _event_source(text: str) -> Callable[[], Any]:
    """PyYAML's parser in C, or where it was built without libyaml the one in Python."""
    try:
        from yaml._yaml import CParser
    except ImportError:
        from yaml import SafeLoader

        return SafeLoader(text).get_event
    return CParser(text).get_event


def _resolved(text: str) -> object:
    """A plain scalar by the core schema."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER_LENGTH else None
    if match is None:
        return text
    if match["decimal"]:
        return int(text)
    if match["float"]:
        return float(text)
    return int(match["octal"], 8) if match["octal"] else int(match["hexadecimal"], 16)


def _place(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _yaml_trouble(error: Any, text: str) -> Trouble:
    mark = error.problem_mark or error.context_mark
    said = "; ".join(part for part in (error.problem, error.context) if part)
    at_tab = mark is not None and text[mark.index : mark.index + 1] == "\t"  # libyaml does not say so
    advice = ": indent with blanks, never with tabs" if at_tab or "'\\t'" in said or "tab" in said.split() else ""
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Trouble(line, column, (), f"this is not valid YAML ({said}){advice}")


# Not compiled before it is needed: that takes longer than all else here.
_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def _unprintable(text: str) -> Trouble:
    """YAML allows no control characters but tabs and line ends."""
    found = re.search(_UNPRINTABLE, text)
    place = _Lines(text).place(found.start()) if found is not None else (1, 1)
    code = f" U+{ord(found.group()):04X}" if found is not None else ""
    return Trouble(*place, (), f"the control character{code} may not stand in a text file: it may be a binary file")


# ---- JSON


def _parse_json(text: str) -> tuple[object, tuple[Trouble, ...]]:
    doubled = False

    def entries(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal doubled
        found = dict(pairs)
        doubled |= len(found) != len(pairs)
        return found

    try:
        value = json.loads(text, object_pairs_hook=entries)
    except json.JSONDecodeError as error:
        message = f"this is not valid JSON ({error.msg[:1].lower()}{error.msg[1:]})"
        raise UnreadableError(Trouble(error.lineno, error.colno, (), message)) from error
    except RecursionError as error:
        raise UnreadableError(Trouble(1, 1, (), "is nested too deeply")) from error
    except ValueError as error:  # Python turns no text of more than 4300 digits into a number
        digits = re.search("[0-9]{4300}", text)
        place = _Lines(text).place(digits.start()) if digits is not None else (1, 1)
        raise UnreadableError(Trouble(*place, (), "this number has too many digits")) from error
    walk = _JsonWalk(text, TextPlaces())
    return value, tuple(walk.walk()) if doubled else ()


class _JsonWalk:
    """Goes through JSON that is known to be valid, and notes where everything stands."""

    def __init__(self, text: str, places: TextPlaces) -> None:
        self._text = text
        self._places = places
        self._lines = _Lines(text)

    def walk(self) -> list[Trouble]:
        """Fills in the places; what is returned are the keys that stand twice."""
        troubles: list[Trouble] = []
        path: list[str | int] = []  # of the value that comes next
        for piece, place, is_key in self._tokens(path):
            if not is_key:
                self._places.values.setdefault(tuple(path), place)
                continue
            path[-1] = json.loads(piece)
            if tuple(path) in self._places.keys:
                troubles.append(Trouble(*place, tuple(path), "is there twice: keep one of the two"))
            self._places.keys.setdefault(tuple(path), place)
        return troubles

    def _tokens(self, path: list[str | int]) -> Iterator[tuple[str, tuple[int, int], bool]]:
        """Each key and each value's first piece; `path` grows and shrinks with the lists and objects."""
        key_follows = False
        for match in _JSON_TOKEN.finditer(self._text):
            piece = match.group()
            if piece in "]}":
                path.pop()
                key_follows = False
            elif piece == ",":
                key_follows = isinstance(path[-1], str)
                if not key_follows:
                    path[-1] = int(path[-1]) + 1
            elif piece == ":":
                key_follows = False
            else:
                yield piece, self._lines.place(match.start()), key_follows
                if piece in "[{":
                    path.append("" if piece == "{" else 0)
                    key_follows = piece == "{"


class _Lines:
    """Line and column of each position in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, position: int) -> tuple[int, int]:
        line = bisect.bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
