"""One document made of several: a file, files merged onto it, and single values set by a flag.

Mappings are merged key by key; a list whose items have names is merged by them; anything else is replaced. A null takes
the key out, so that its default counts again. Mistakes are reported at the place that the wrong value comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from npu_serving.documents.kinds import Mistake, Reading, kind_of
from npu_serving.documents.reader import DocumentRefusal, read_source, refused
from npu_serving.documents.syntax import YAML, Path, TextPlaces, Trouble, UnreadableError, find_places, parse
from npu_serving.errors import RequestError
from npu_serving.shown_text import masked_setting

T = TypeVar("T")

_KEY = re.compile(r"(?:[^.\\=]|\\.)+")


@dataclass(frozen=True)
class Layer:
    """A text of the document; without one it is a single value, whose place is its name alone."""

    where: str
    text: str | None = None
    syntax: str = YAML


@dataclass(frozen=True)
class SourcePlace:
    """Where a value comes from: a file with line and column, counted from 1, or a flag, which has no lines."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def to_json(self) -> dict[str, object]:
        """The same, without lines for a flag."""
        return {"source": self.source, **({"line": self.line, "column": self.column} if self.line else {})}


class Sources:
    """Which part of a document of several layers comes from where."""

    def __init__(self, layers: Sequence[Layer], merged: _Merged) -> None:
        self._layers = layers
        self._merged = merged
        self._places: dict[int, TextPlaces] = {}

    @property
    def document(self) -> object:
        """The whole as plain values: mappings, lists and scalars."""
        return self._merged.root

    def place(self, path: Path) -> SourcePlace | None:
        """Where the value stands, or the nearest one around it; None for one of which nothing is written."""
        layer, texts, there = self._origin(path)
        if texts is None:
            return SourcePlace(layer.where)
        around = (there[:length] for length in range(len(there), 0, -1))
        found = next((texts.values[part] for part in around if part in texts.values), None)
        return SourcePlace(layer.where, *found) if found is not None else None

    def trouble(self, mistake: Mistake) -> Trouble:
        """The mistake at the place that its value, or the one around it, has in its layer."""
        layer, texts, there = self._origin(mistake.path)
        line, column = texts.of(there, key=mistake.at_key) if texts is not None else (0, 0)
        return Trouble(line, column, mistake.path, mistake.message, layer.where)

    def _origin(self, path: Path) -> tuple[Layer, TextPlaces | None, Path]:
        number, there = self._merged.origin(path)
        layer = self._layers[number]
        if layer.text is None:
            return layer, None, there
        if number not in self._places:
            self._places[number] = find_places(layer.text, layer.syntax)
        return layer, self._places[number], there


def read_layers(
    path: FilePath,
    kind: type[T],
    *,
    overlays: Sequence[FilePath] = (),
    values: Sequence[str] = (),
    named_lists: Mapping[Path, str] | None = None,
) -> T:
    """The value of the file at `path` with the overlays merged onto it, in their order, then the values.

    A value is written KEY.KEY=VALUE, such as models.0.name=resnet; VALUE is YAML, and a dot within a key has a
    backslash before it. `named_lists` says which lists are merged by which key of their items. Raises
    DocumentError with the mistakes of all of them, RequestError for a value that can't be set, and FileAccessError.
    """
    return read_with_sources(path, kind, overlays=overlays, values=values, named_lists=named_lists)[0]


def read_with_sources(
    path: FilePath,
    kind: type[T],
    *,
    overlays: Sequence[FilePath] = (),
    values: Sequence[str] = (),
    named_lists: Mapping[Path, str] | None = None,
) -> tuple[T, Sources]:
    """What read_layers() reads, and where each part of it comes from."""
    layers = [Layer(str(file), *read_source(file)) for file in (path, *overlays)]
    merged = _Merged(named_lists or {})
    troubles: list[Trouble] = []
    unreadable = False
    for number, layer in enumerate(layers):
        try:
            plain, found = parse(layer.text or "", layer.syntax)
        except UnreadableError as error:
            found, plain, unreadable = error.troubles, None, True
        troubles += [Trouble(item.line, item.column, item.path, item.message, layer.where) for item in found]
        try:
            merged.add(plain, number)
        except RecursionError:  # by aliases: as it is written, a text is never that deep
            troubles.append(Trouble(1, 1, (), "is nested too deeply", layer.where))
    for text in values:
        keys, plain, where = _parsed(text)
        layers.append(Layer(where))
        merged.set(keys, plain, len(layers) - 1, where)
    reading = Reading()
    result: Any = None if unreadable else _read(merged.root, kind, reading)
    sources = Sources(layers, merged)
    if not reading.mistakes and not troubles:
        return result, sources
    troubles += [sources.trouble(mistake) for mistake in reading.mistakes]
    names = [layer.where for layer in layers]
    at_fault = [name for name in names if any(item.where == name for item in troubles)]
    raise refused(troubles, " and ".join(dict.fromkeys(at_fault)), DocumentRefusal(), names)


def _read(plain: object, kind: type, reading: Reading) -> Any:
    try:
        return kind_of(kind).read(plain, (), reading)
    except RecursionError:
        return reading.wrong((), "is nested too deeply")


class _Merged:
    """The plain value so far, and which part of it comes from where."""

    def __init__(self, named_lists: Mapping[Path, str]) -> None:
        self.root: Any = {}
        self._named_lists = named_lists
        self._origins: dict[Path, tuple[int, Path]] = {(): (0, ())}

    def add(self, plain: object, layer: int) -> None:
        """Merges a whole document, or takes it as it is where it is the first; None is an empty one."""
        if plain is not None:
            self.root = self._merge(self.root, plain, (), (), layer) if layer else plain

    def set(self, keys: Sequence[str], value: object, layer: int, where: str) -> None:
        """Sets one value. RequestError where a list on the way has no such item."""
        self.root = self._with(self.root, keys, value, (), layer, where)

    def origin(self, path: Path) -> tuple[int, Path]:
        """The layer that a value comes from, and its path there."""
        for length in range(len(path), -1, -1):
            found = self._origins.get(path[:length])
            if found is not None:
                return found[0], (*found[1], *path[length:])
        raise AssertionError("the whole has an origin")

    def _merge(self, base: Any, new: Any, at: Path, source: Path, layer: int) -> Any:
        if isinstance(new, dict):
            if not isinstance(base, dict):
                base = self._replaced(base, {}, at, source, layer)
            return self._merged_mapping(base, new, at, source, layer)
        if isinstance(new, list) and at in self._named_lists:
            if not isinstance(base, list):
                base = self._replaced(base, [], at, source, layer)
            return self._merged_list(base, new, at, source, layer)
        return self._replaced(base, new, at, source, layer)

    def _merged_mapping(
        self, base: dict[str, Any], new: dict[str, Any], at: Path, source: Path, layer: int
    ) -> dict[str, Any]:
        whole = dict(base)  # an alias may have put the same one elsewhere as well
        for key, value in new.items():
            if value is None:
                whole.pop(key, None)
                self._replaced(base.get(key), None, (*at, key), (*source, key), layer)
            else:
                whole[key] = self._merge(base.get(key), value, (*at, key), (*source, key), layer)
        return whole

    def _merged_list(self, base: list[Any], new: list[Any], at: Path, source: Path, layer: int) -> list[Any]:
        key = self._named_lists[at]
        whole = list(base)
        places = {name: place for place, item in enumerate(base) if (name := _name_of(item, key)) is not None}
        for number, item in enumerate(new):
            name = _name_of(item, key)
            place = places.get(name, len(whole)) if name is not None else len(whole)
            if place == len(whole):
                whole.append(None)
            whole[place] = self._merge(whole[place], item, (*at, place), (*source, number), layer)
        return whole

    def _replaced(self, base: Any, new: Any, at: Path, source: Path, layer: int) -> Any:
        if isinstance(base, (dict, list)):  # what was in it is gone
            for path in [path for path in self._origins if len(path) > len(at) and path[: len(at)] == at]:
                del self._origins[path]
        self._origins[at] = (layer, source)
        return new

    def _with(self, base: Any, keys: Sequence[str], value: object, at: Path, layer: int, where: str) -> Any:
        key, rest = keys[0], keys[1:]
        if isinstance(base, list):
            if not key.isdecimal() or int(key) >= len(base):
                many = f"{len(base)} item{'' if len(base) == 1 else 's'}, counted from 0" if base else "no item yet"
                raise RequestError(
                    f"{where}: there is no item {key!r} here.",
                    cause=f"the list has {many}",
                    cure="give the number of an item, or write a file with the new one and give it with --overlay",
                )
            whole = list(base)
            index = int(key)
            place: Path = (*at, index)
            whole[index] = self._new(base[index], rest, value, place, layer, where)
            return whole
        if not isinstance(base, dict):
            base = self._replaced(base, {}, at, (), layer)
        if not rest and value is None:
            self._replaced(base.get(key), None, (*at, key), (), layer)
            return {name: item for name, item in base.items() if name != key}
        return {**base, key: self._new(base.get(key), rest, value, (*at, key), layer, where)}

    def _new(self, base: Any, rest: Sequence[str], value: object, at: Path, layer: int, where: str) -> Any:
        if rest:
            return self._with(base, rest, value, at, layer, where)
        return self._merge(base, value, at, (), layer)


def _name_of(item: object, key: str) -> str | None:
    name = item.get(key) if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def set_value(text: str) -> tuple[list[str], object]:
    """The keys and the value of a --set. Raises RequestError."""
    keys, value, _ = _parsed(text)
    return keys, value


def _parsed(text: str) -> tuple[list[str], object, str]:
    """The keys, the value, and how messages name the flag."""
    keys: list[str] = []
    end = 0
    while found := _KEY.match(text, end):
        keys.append(re.sub(r"\\(.)", r"\1", found[0], flags=re.DOTALL))
        end = found.end() + 1
        if text[end - 1 : end] != ".":
            break
    if not keys or text[end - 1 : end] != "=":
        raise RequestError(
            f"--set {masked_setting(text)!r} names no value.",
            cure="write it like --set server.port=9000, with the keys before the =",
        )
    where = f"--set {text[: end - 1]}"
    try:
        plain, troubles = parse(text[end:], YAML)
    except UnreadableError as error:
        plain, troubles = None, error.troubles
    if troubles:
        raise RequestError(
            f"{where}: {troubles[0].message}.", cure="""write the value as YAML, a text in quotes: --set 'KEY="TEXT"'"""
        )
    return keys, plain, where
