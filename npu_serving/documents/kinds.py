"""The kinds of value that a document may hold, made from Python's types: each reads a plain value and has its schema.

A kind returns the typed value, or notes a mistake and returns BAD; nothing is raised, so that all mistakes of a
document are found in one go. Nothing is converted in silence: "8500" is not a number, 1 is not true, 1.0 not whole.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import enum
import functools
import json
import math
import re
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Callable, Union

from npu_serving.documents.syntax import Path

BAD: Any = object()
"""What a kind returns in place of a value that is not valid."""

Steps = Union[tuple[()], tuple["Steps", Union[str, int]]]  # a path as it grows: (((), "models"), 3)
_Schema = dict[str, Any]
_Definitions = dict[str, _Schema]

_KEYS_SHOWN = 20


@dataclass(frozen=True)
class Rule:
    """What a value has to keep beyond its type: `Port = Annotated[int, Rule(minimum=1, maximum=65535)]`."""

    pattern: str = ""
    """The whole text has to match it."""
    expected: str = ""
    """What it is, for messages: "must be EXPECTED, not ..."."""
    minimum: float | None = None
    maximum: float | None = None
    fewest: int = 0
    """Of a list: how many items it has at least."""
    check: Callable[[Any], str] | None = None
    """What is wrong with the value ("must be ..."), "" where nothing is; no schema can say it."""
    choices: Callable[[], Iterable[str]] | None = None
    """The texts that it may be, where a table has them; asked for when the first document is read."""


@dataclass(frozen=True)
class FieldsOf:
    """`Annotated[dict[str, Any], FieldsOf(Settings)]`: those fields of a dataclass that are stated, by their names."""

    made: type


@dataclass(frozen=True, eq=False)  # a Union asks for its hash
class NamedValues:
    """`Annotated[dict[str, V], NamedValues({"key": T}, otherwise=U)]`: keys with kinds of their own, and the others."""

    kinds: Mapping[str, Any]
    otherwise: Any


@dataclass(frozen=True)
class FromText:
    """`Annotated[C, FromText("a digest", check)]`: a text, of which a C is made where `check` finds nothing wrong."""

    expected: str
    check: Callable[[str], str]


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, at the value that `path` leads to or (`at_key`) at its key."""

    path: Path
    message: str
    at_key: bool = False


@dataclass
class Reading:
    """One document's reading: what was found wrong so far."""

    ignore_unknown: bool = False
    mistakes: list[Mistake] = field(default_factory=list)
    _nearest: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)

    def wrong(self, at: Steps, message: str, *, key: bool = False) -> Any:
        """Notes the mistake; returns BAD."""
        self.mistakes.append(Mistake(path_of(at), message, key))
        return BAD

    def nearest(self, key: str, known: tuple[str, ...]) -> str:
        """The known key that was most likely meant, or ""."""
        if (key, known) not in self._nearest:
            close = difflib.get_close_matches(key, known, n=1) if len(key) < 100 else []
            self._nearest[key, known] = close[0] if close else ""
        return self._nearest[key, known]


def path_of(at: Steps) -> Path:
    """The path, from the first key to the last."""
    found: list[str | int] = []
    while at:
        at, key = at
        found.append(key)
    return tuple(reversed(found))


def shown(value: object) -> str:
    """A value as messages name it."""
    if isinstance(value, dict):
        return "keys with values"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


class Kind:
    """What a value may be. `accepts` are the classes of the plain values that it takes at all."""

    expected = "a value"
    accepts: frozenset[type] = frozenset()

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        """The value as this kind's type, or BAD."""
        raise NotImplementedError

    def schema(self, definitions: _Definitions) -> _Schema:
        """The JSON Schema of such a value; those of classes go into `definitions`."""
        raise NotImplementedError

    def unfit(self, value: object, at: Steps, reading: Reading, advice: str = "") -> Any:
        """Notes that the value is of another kind."""
        return reading.wrong(at, f"must be {self.expected}, not {shown(value)}" + (f": {advice}" if advice else ""))


class _AnyKind(Kind):
    """Any value."""

    accepts = frozenset((str, int, float, bool, list, dict, type(None)))

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        return value

    def schema(self, definitions: _Definitions) -> _Schema:
        return {}


class _NullKind(Kind):
    """Nothing."""

    expected = "null"
    accepts = frozenset((type(None),))

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        return None if value is None else self.unfit(value, at, reading)

    def schema(self, definitions: _Definitions) -> _Schema:
        return {"type": "null"}


class _BoolKind(Kind):
    """True or false."""

    expected = "true or false"
    accepts = frozenset((bool,))

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        return value if value.__class__ is bool else self.unfit(value, at, reading)

    def schema(self, definitions: _Definitions) -> _Schema:
        return {"type": "boolean"}


class _TextKind(Kind):
    """A text; with `as_type`, made into that (a Path)."""

    accepts = frozenset((str,))

    def __init__(self, rule: Rule, as_type: type | None = None) -> None:
        self._rule = rule
        self._as_type = as_type
        self._pattern = re.compile(rule.pattern) if rule.pattern else None
        self.expected = rule.expected or ("a path" if as_type is not None else "a text")

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        if value.__class__ is not str:
            scalar = value is None or isinstance(value, (bool, int, float))
            return self.unfit(value, at, reading, "write a string that looks like this in quotes" if scalar else "")
        if self._pattern is not None and self._pattern.fullmatch(value) is None:
            return self.unfit(value, at, reading)
        if not value.isascii() and _can_not_be_written(value):
            return reading.wrong(at, "has half of a character (a surrogate without its other half)")
        if self._rule.check is not None and (problem := self._rule.check(value)):
            return reading.wrong(at, problem)
        if self._as_type is None:
            return value
        if not value or "\0" in value:
            return self.unfit(value, at, reading)
        return self._as_type(value)

    def schema(self, definitions: _Definitions) -> _Schema:
        pattern = f"^(?:{self._rule.pattern})$" if self._rule.pattern else "^[^\\u0000]+$" if self._as_type else ""
        return {"type": "string", **({"pattern": pattern} if pattern else {})}


def _can_not_be_written(text: str) -> bool:
    """Whether no file and no file's name can hold the text; what Python makes of a name that is not UTF-8 can be."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


class _NumberKind(Kind):
    """A number: a whole one, or a finite one that may have a fraction."""

    def __init__(self, rule: Rule, *, whole: bool) -> None:
        self._rule = rule
        self._whole = whole
        self._classes = (int,) if whole else (int, float)
        self.accepts = frozenset(self._classes)
        self.expected = rule.expected or ("a whole number" if whole else "a number") + self._range()

    def _range(self) -> str:
        low, high = self._rule.minimum, self._rule.maximum
        if low is not None and high is not None:
            return f" from {low} to {high}"
        if low is not None:
            return f" that is {low} or more"
        return f" that is {high} or less" if high is not None else ""

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        if value.__class__ not in self._classes:
            return self.unfit(value, at, reading, self._advice(value) if value.__class__ is str else "")
        low, high = self._rule.minimum, self._rule.maximum
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            return self.unfit(value, at, reading)
        if self._rule.check is not None and (problem := self._rule.check(value)):
            return reading.wrong(at, problem)
        if self._whole:
            return value
        try:
            number = float(value)
        except OverflowError:
            return self.unfit(value, at, reading)
        return number if math.isfinite(number) else self.unfit(value, at, reading)

    def _advice(self, text: str) -> str:
        if re.fullmatch(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?", text):
            return "leave out the quotes"
        if re.fullmatch(r"[-+]?0[0-9.]+", text):
            return "leave out the zeros in front"
        return "write it without _" if re.fullmatch(r"[-+]?[0-9_.]*_[0-9_.]*", text) else ""

    def schema(self, definitions: _Definitions) -> _Schema:
        limits = {"minimum": self._rule.minimum, "maximum": self._rule.maximum}
        kept = {name: limit for name, limit in limits.items() if limit is not None}
        return {"type": "integer" if self._whole else "number", **kept}


class _ChoiceKind(Kind):
    """One of several values (typing.Literal, or the values of an Enum)."""

    def __init__(self, choices: Mapping[Any, Any]) -> None:
        self._choices = {(value.__class__, value): made for value, made in choices.items()}
        self.accepts = frozenset(kind for kind, _ in self._choices)
        names = [shown(value) if not isinstance(value, str) else value for _, value in self._choices]
        self.expected = f"one of {', '.join(names)}" if len(names) > 1 else "".join(names)

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        kind = value.__class__
        if kind in self.accepts and (kind, value) in self._choices:
            return self._choices[kind, value]
        texts = tuple(choice for _, choice in self._choices if isinstance(choice, str))
        near = reading.nearest(value, texts) if kind is str else ""
        return self.unfit(value, at, reading, f"did you mean {near}?" if near and len(texts) > 1 else "")

    def schema(self, definitions: _Definitions) -> _Schema:
        return {"enum": [value for _, value in self._choices]}


class _ListKind(Kind):
    """A list of one kind, read as a tuple."""

    accepts = frozenset((list,))

    def __init__(self, item: Kind, rule: Rule) -> None:
        self._item = item
        self._rule = rule
        self.expected = rule.expected or "a list"

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        if value.__class__ is not list:
            return self.unfit(value, at, reading)
        if len(value) < self._rule.fewest:
            fewest = self._rule.fewest
            return reading.wrong(at, f"must have {fewest} {'item' if fewest == 1 else 'items'} or more")
        before = len(reading.mistakes)
        read = self._item.read
        items = tuple([read(item, (at, index), reading) for index, item in enumerate(value)])
        return items if len(reading.mistakes) == before else BAD

    def schema(self, definitions: _Definitions) -> _Schema:
        fewest = {"minItems": self._rule.fewest} if self._rule.fewest else {}
        return {"type": "array", "items": self._item.schema(definitions), **fewest}


class _TableKind(Kind):
    """Keys that may be any (of a kind), each with a value of one kind."""

    expected = "keys with values"
    accepts = frozenset((dict,))

    def __init__(self, key: Kind, item: Kind, named: Mapping[str, Kind] | None = None) -> None:
        self._key = key
        self._item = item
        self._named = named or {}

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        if value.__class__ is not dict:
            return self.unfit(value, at, reading)
        before = len(reading.mistakes)
        found = {}
        for key, item in value.items():
            place: Steps = (at, key)
            name = self._key.read(key, place, reading)
            if name is BAD:
                last = reading.mistakes[-1]
                reading.mistakes[-1] = Mistake(last.path, f"the key {last.message}", at_key=True)
            found[key if name is BAD else name] = self._named.get(key, self._item).read(item, place, reading)
        return found if len(reading.mistakes) == before else BAD

    def schema(self, definitions: _Definitions) -> _Schema:
        names = self._key.schema(definitions)
        limits = {"propertyNames": names} if set(names) != {"type"} else {}
        named = {name: kind.schema(definitions) for name, kind in self._named.items()}
        properties = {"properties": named} if named else {}
        return {"type": "object", **properties, "additionalProperties": self._item.schema(definitions), **limits}


class _UnionKind(Kind):
    """One of several kinds, by the value."""

    def __init__(self, kinds: tuple[Kind, ...], rule: Rule) -> None:
        self._kinds = kinds
        self.accepts = frozenset().union(*(kind.accepts for kind in kinds))
        self.expected = rule.expected or " or ".join(dict.fromkeys(kind.expected for kind in kinds))

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        fitting = [kind for kind in self._kinds if value.__class__ in kind.accepts]
        if len(fitting) == 1 and not isinstance(fitting[0], _ChoiceKind):  # a choice would not name the other kinds
            return fitting[0].read(value, at, reading)
        for kind in fitting:
            before = len(reading.mistakes)
            found = kind.read(value, at, reading)
            if len(reading.mistakes) == before:
                return found
            del reading.mistakes[before:]
        return self.unfit(value, at, reading)

    def schema(self, definitions: _Definitions) -> _Schema:
        return {"anyOf": [kind.schema(definitions) for kind in self._kinds]}


class _ClassKind(Kind):
    """A dataclass: its fields are the keys. metadata={"key": ...} gives another name, {"help": ...} a description.

    It may also hold what a Rule does (minimum=..., pattern=...), and `choices`; both go without this module.
    A method problems() may yield the path within it and the message of each mistake that its fields only show together.
    """

    expected = "keys with values"
    accepts = frozenset((dict,))

    def __init__(self, made: type) -> None:
        self._class = made
        self._fields = [item for item in dataclasses.fields(made) if item.init]
        self._key_of = {item.name: str(item.metadata.get("key", item.name)) for item in self._fields}
        self._required = {item.name for item in self._fields if is_required(item)}
        self._problems: Any = getattr(made, "problems", None)
        self._by_key: dict[str, tuple[str, Callable[[Any, Steps, Reading], Any]]] = {}
        self._kinds: dict[str, Kind] = {}

    def fill(self) -> None:
        """Looks at the fields' types, once the kind itself is known: a class may hold others of itself."""
        types = field_types(self._class)
        self._kinds = {item.name: _field_kind(item, types[item.name]) for item in self._fields}
        self._by_key = {self._key_of[name]: (name, kind.read) for name, kind in self._kinds.items()}

    def read(self, value: Any, at: Steps, reading: Reading) -> Any:
        if value.__class__ is not dict:
            return self.unfit(value, at, reading)
        before = len(reading.mistakes)
        values: dict[str, Any] = {}
        known = self._by_key
        meant = set()
        for key, item in value.items():
            entry = known.get(key)
            if entry is not None:
                values[entry[0]] = entry[1](item, (at, key), reading)
            elif not reading.ignore_unknown:
                meant.add(self._unknown(key, (at, key), reading, value))
        if not self._required <= values.keys():
            for name in self._required - values.keys():
                if self._key_of[name] not in meant:
                    reading.wrong((at, self._key_of[name]), "is missing")
        return self._made(values, at, reading) if len(reading.mistakes) == before else BAD

    def _made(self, values: dict[str, Any], at: Steps, reading: Reading) -> Any:
        """The class's own, unless it has something to say against these fields together."""
        before = len(reading.mistakes)
        found = self._class(**values)
        if self._problems is not None:
            for where, message in self._problems(found):
                path = where if isinstance(where, tuple) else (where,)
                reading.wrong(functools.reduce(lambda steps, key: (steps, key), path, at), message)
        return found if len(reading.mistakes) == before else BAD

    def _unknown(self, key: str, at: Steps, reading: Reading, value: Mapping[str, object]) -> str:
        free = tuple(name for name in self._by_key if name not in value)
        near = reading.nearest(key, free) or reading.nearest(key, tuple(self._by_key))
        further = len(self._by_key) - _KEYS_SHOWN
        names = ", ".join([*self._by_key][:_KEYS_SHOWN]) + (f" and {further} more" if further > 0 else "")
        reading.wrong(at, f"unknown key; {f'did you mean {near}?' if near else f'the keys are {names}'}", key=True)
        return near

    def schema(self, definitions: _Definitions) -> _Schema:
        name = self._class.__name__.lstrip("_")
        if name not in definitions:
            definitions[name] = {}  # of itself, where it holds others of itself
            definitions[name] = self._definition(definitions)
        return {"$ref": f"#/$defs/{name}"}

    def _definition(self, definitions: _Definitions) -> _Schema:
        properties = {}
        for item in self._fields:
            described = self._kinds[item.name].schema(definitions)
            text = item.metadata.get("help", "")
            properties[self._key_of[item.name]] = {**described, **({"description": text} if text else {})}
        said = (self._class.__doc__ or "").partition("\n")[0]
        generated = said.startswith(f"{self._class.__name__}(")  # dataclass() gives each class a docstring
        return {
            "type": "object",
            **({} if generated else {"description": said}),
            "properties": properties,
            "required": [self._key_of[item.name] for item in self._fields if item.name in self._required],
            "additionalProperties": False,
        }


class _StatedKind(_ClassKind):
    """The stated fields of a dataclass; those that aren't have no default here."""

    def __init__(self, made: type) -> None:
        super().__init__(made)
        self._required = set()

    def _made(self, values: dict[str, Any], at: Steps, reading: Reading) -> Any:
        return values

    def schema(self, definitions: _Definitions) -> _Schema:
        return self._definition(definitions)


def is_required(item: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass can't be made without that field."""
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


# ---- from Python's types to kinds

_RULES = tuple(item.name for item in dataclasses.fields(Rule))

_classes: dict[type, _ClassKind] = {}


def kind_of(meant: Any, rule: Rule | None = None) -> Kind:
    """The kind that a type stands for; TypeError for a type that no document can hold."""
    if typing.get_origin(meant) is typing.Annotated:
        plain, *notes = typing.get_args(meant)
        for note in notes:
            if isinstance(note, FieldsOf):
                stated = _StatedKind(note.made)
                stated.fill()
                return stated
            if isinstance(note, FromText):
                return _TextKind(Rule(expected=note.expected, check=note.check), as_type=plain)
            if isinstance(note, NamedValues):
                named = {name: kind_of(each) for name, each in note.kinds.items()}
                return _TableKind(kind_of(typing.get_args(plain)[0]), kind_of(note.otherwise), named)
        return kind_of(plain, next((note for note in notes if isinstance(note, Rule)), rule))
    rule = rule or Rule()
    if isinstance(meant, type) and typing.get_origin(meant) is None:  # Python 3.9 takes tuple[str, ...] for a class
        kind = _simple_kind(meant, rule)
        if kind is not None:
            return kind
    if meant is Any:
        return _AnyKind()
    kind = _compound_kind(typing.get_origin(meant), typing.get_args(meant), rule)
    if kind is None:
        raise TypeError(f"a document can't hold {meant!r}")
    return kind


def _field_kind(item: dataclasses.Field[Any], meant: Any) -> Kind:
    """The kind of a field, with what its metadata asks besides."""
    if item.metadata.get("choices"):
        return _ChoiceKind({choice: choice for choice in item.metadata["choices"]})
    asked = {name: item.metadata[name] for name in _RULES if name in item.metadata}
    return kind_of(meant, Rule(**asked) if asked else None)


def _simple_kind(meant: type, rule: Rule) -> Kind | None:
    if dataclasses.is_dataclass(meant):
        return _class_kind(meant)
    if issubclass(meant, enum.Enum):
        return _ChoiceKind({choice.value: choice for choice in meant})
    if issubclass(meant, FilePath):
        return _TextKind(rule, as_type=meant)
    makers: dict[type, Callable[[], Kind]] = {
        str: lambda: _ChoiceKind({each: each for each in rule.choices()}) if rule.choices else _TextKind(rule),
        bool: _BoolKind,
        int: lambda: _NumberKind(rule, whole=True),
        float: lambda: _NumberKind(rule, whole=False),
        type(None): _NullKind,
        object: _AnyKind,
    }
    return makers[meant]() if meant in makers else None


def _compound_kind(origin: Any, arguments: tuple[Any, ...], rule: Rule) -> Kind | None:
    if origin is typing.Literal:
        return _ChoiceKind({value: value for value in arguments})
    if origin is Union or (sys.version_info >= (3, 10) and isinstance(origin, type) and origin.__name__ == "UnionType"):
        return _UnionKind(tuple(kind_of(argument, rule) for argument in arguments), rule)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _ListKind(kind_of(arguments[0]), rule)
    if isinstance(origin, type) and issubclass(dict, origin) and len(arguments) == 2:
        return _TableKind(kind_of(arguments[0]), kind_of(arguments[1]))
    return None


def _class_kind(made: type) -> _ClassKind:
    if made not in _classes:
        _classes[made] = _ClassKind(made)
        _classes[made].fill()
    return _classes[made]


def field_types(made: type) -> dict[str, Any]:
    """The types of a dataclass's fields. typing.get_type_hints() can't do it: Python 3.9 evaluates no `str | None`."""
    written = [(base, base.__dict__.get("__annotations__", {})) for base in reversed(made.__mro__)]  # noqa: RUF063
    owners = {name: base for base, names in written for name in names}
    return {
        item.name: _evaluated(item.type, vars(sys.modules[owners.get(item.name, made).__module__]))
        for item in dataclasses.fields(made)
    }


def _evaluated(annotation: Any, scope: Mapping[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    tree = ast.fix_missing_locations(_Unions().visit(ast.parse(annotation, mode="eval")))
    return eval(compile(tree, "<annotation>", "eval"), {**scope, "_Union": Union})  # noqa: S307 - of our own classes


class _Unions(ast.NodeTransformer):
    """Makes Union[A, B] of A | B."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """The union of both sides."""
        sides = [self.visit(node.left), self.visit(node.right)]
        return ast.Subscript(ast.Name("_Union", ast.Load()), ast.Tuple(sides, ast.Load()), ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Within a call, such as Rule(...), an operator is an operator."""
        return node
