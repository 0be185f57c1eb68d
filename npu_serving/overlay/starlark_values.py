"""Values of Starlark in an evaluation that goes on where something is not known, and what can be done with them.

The interpreter that evaluates a WORKSPACE can't do this: nothing that is put in the place of an unknown value may be
added to a list or formatted there. So text, numbers, lists and dicts are Python's own, and beside them are two more
kinds: a sum with select() in it, and an unknown value, which says what it is. What is made from an unknown value is
unknown, except that a list keeps such elements apart.

Every operation says beforehand how much it takes, so none of a file that somebody else wrote takes the machine.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

MOST_EFFORT = 8_000_000
"""Characters and elements that are made; a step counts as STEP of them. The real BUILD file takes 17,000."""
STEP = 8
_LARGEST_NUMBER = 1 << 64
_LONGEST_ARGUMENT = 1_000
"""Of a method that searches a text: the search may look at each character that often."""

_TEXT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "islower", "isspace",
    "isupper", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rindex", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
})  # fmt: skip
_PERCENT = re.compile(r"%(.)", re.DOTALL)
_BRACES = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


class CannotEvaluateError(Exception):
    """An operation that Starlark refuses, or that isn't known here: its value is unknown."""


class EffortSpentError(Exception):
    """The evaluation has taken more than any real file does."""


class Effort:
    """What an evaluation may take, all files together."""

    def __init__(self, most: int = MOST_EFFORT) -> None:
        self._left = most

    def spend(self, amount: int) -> None:
        """Counts `amount` characters or elements; raises EffortSpentError when that is too much."""
        self._left -= amount
        if self._left < 0:
            raise EffortSpentError


@dataclass(frozen=True, eq=False)
class UnknownValue:
    """A value that is not known; each is equal to itself only. `what` says for people what it is.

    A function is one too, by its `name`. TensorFlow's that are called if_… give what they are given, or nothing;
    such a one is `conditional`.
    """

    what: str
    name: str = ""
    conditional: bool = False


@dataclass(frozen=True, eq=False)
class SelectValue:
    """A select(): the values of its branches."""

    branches: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class SumValue:
    """Lists and select()s added up, which Bazel keeps apart until it knows the configuration."""

    parts: tuple[list[Any] | SelectValue, ...]


@dataclass(frozen=True)
class BoundMethod:
    """A method with the text, list or dict that it is called on."""

    value: Any
    name: str


@dataclass(frozen=True)
class BuiltinFunction:
    """A function that every file has, by its name in `FUNCTIONS`."""

    name: str


def unknown_in(value: Any, effort: Effort) -> UnknownValue | None:
    """The first unknown value in `value`, however deep."""
    rest = [value]
    while rest:
        item = rest.pop()
        effort.spend(STEP)
        if isinstance(item, UnknownValue):
            return item
        inner = _inner(item)
        effort.spend(len(inner))
        rest.extend(reversed(inner))
    return None


def _inner(value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, SumValue):
        return value.parts
    return value.branches if isinstance(value, SelectValue) else ()


def is_scalar(value: Any) -> bool:
    """Whether two values of this kind are compared in one step."""
    return value is None or isinstance(value, (str, int))


def check_key(key: Any) -> None:
    """Raises CannotEvaluateError for what can't be the key of a dict, or would be hashed for ever."""
    if not is_scalar(key) and not (isinstance(key, tuple) and all(map(is_scalar, key))):
        raise CannotEvaluateError


def elements(value: Any) -> list[Any]:
    """What a loop over `value` goes through."""
    if isinstance(value, (list, tuple, dict)):
        return list(value)
    raise CannotEvaluateError


def truth(value: Any) -> bool:
    """Whether a known value counts as true."""
    if isinstance(value, SumValue):
        raise CannotEvaluateError  # Bazel refuses that, too
    return bool(value)


# ---- operators


def plus(left: Any, right: Any, effort: Effort) -> Any:
    """`left + right`. What is unknown becomes an element of a list that it is added to."""
    if isinstance(left, UnknownValue) and isinstance(right, (list, SumValue)):
        left = [left]
    elif isinstance(right, UnknownValue) and isinstance(left, (list, SumValue)):
        right = [right]
    for one in (left, right):
        if isinstance(one, UnknownValue):
            return one
    if isinstance(left, SumValue) or isinstance(right, SumValue):
        return SumValue((*_parts(left, effort), *_parts(right, effort)))
    if _is_number(left) and _is_number(right):
        return _bounded(left + right)
    if type(left) is type(right) and isinstance(left, (str, list, tuple)):
        effort.spend(len(left) + len(right))
        return left + right
    raise CannotEvaluateError


def plus_in_place(left: Any, right: Any, effort: Effort) -> Any:
    """`left += right`: a list grows under all of its names."""
    if isinstance(left, list) and isinstance(right, (list, UnknownValue)):
        added = right if isinstance(right, list) else [right]
        effort.spend(len(added))
        left.extend(added)
        return left
    return plus(left, right, effort)


def _parts(value: Any, effort: Effort) -> tuple[list[Any] | SelectValue, ...]:
    if isinstance(value, list):
        effort.spend(len(value))
        return (list(value),)
    if isinstance(value, SumValue):
        effort.spend(len(value.parts))
        return value.parts
    raise CannotEvaluateError


def binary(sign: str, left: Any, right: Any, effort: Effort) -> Any:
    """An operator between two values, `sign` as Python's syntax tree calls it."""
    if sign == "Add":
        return plus(left, right, effort)
    unknown = unknown_in([left, right], effort)
    if unknown is not None:
        return unknown
    if sign == "Mod" and isinstance(left, str):
        return _percent(left, right, effort)
    if sign == "Mult" and _is_number(left) != _is_number(right):
        many, number = (right, left) if _is_number(left) else (left, right)
        if not isinstance(many, (str, list, tuple)):
            raise CannotEvaluateError
        effort.spend(len(many) * max(number, 0))
        return many * number
    if not _is_number(left) or not _is_number(right):
        raise CannotEvaluateError
    if sign in ("Div", "FloorDiv", "Mod") and right == 0:
        raise CannotEvaluateError
    operations: Mapping[str, Callable[[int, int], int]] = {
        "Sub": operator.sub, "Mult": operator.mul, "Div": operator.floordiv, "FloorDiv": operator.floordiv,
        "Mod": operator.mod,
    }  # fmt: skip
    if sign not in operations:
        raise CannotEvaluateError
    return _bounded(operations[sign](left, right))


def compared(sign: str, left: Any, right: Any, effort: Effort) -> Any:
    """A comparison, `sign` as Python's syntax tree calls it."""
    unknown = unknown_in([left, right], effort)
    if unknown is not None:
        return unknown
    if sign in ("In", "NotIn"):
        if isinstance(right, str):
            _check_searched(right, (left,), effort)
        elif not isinstance(right, (list, tuple, dict)) or not is_scalar(left):
            raise CannotEvaluateError
        effort.spend(len(right))
        return (left in right) == (sign == "In")
    _check_flat(left, effort)
    _check_flat(right, effort)
    if sign in ("Eq", "NotEq"):
        return (left == right) == (sign == "Eq")
    orders: Mapping[str, Callable[[Any, Any], bool]] = {
        "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge,
    }  # fmt: skip
    if sign not in orders:
        raise CannotEvaluateError
    return orders[sign](left, right)


def subscript(value: Any, index: Any, effort: Effort) -> Any:
    """`value[index]`; a list with something unknown in it may have more elements than are seen."""
    for one in (value, index):
        if isinstance(one, UnknownValue):
            return one
    if isinstance(value, (list, tuple, dict)):
        effort.spend(len(value))
        for item in value:
            if isinstance(item, UnknownValue):
                return item
    if isinstance(index, slice):
        if not isinstance(value, (str, list, tuple)):
            raise CannotEvaluateError
        effort.spend(len(value))
        return value[index]
    if isinstance(value, dict):
        check_key(index)
        return value[index]
    if not isinstance(value, (str, list, tuple)) or not _is_number(index):
        raise CannotEvaluateError
    return value[index]


def set_item(value: Any, index: Any, item: Any) -> None:
    """`value[index] = item`."""
    if isinstance(value, dict):
        if not isinstance(index, UnknownValue):
            check_key(index)
        value[index] = item
    elif isinstance(value, list) and _is_number(index):
        value[index] = item
    elif isinstance(value, list) and isinstance(index, UnknownValue):
        value.append(index)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bounded(number: int) -> int:
    if abs(number) > _LARGEST_NUMBER:
        raise CannotEvaluateError
    return number


def _check_flat(value: Any, effort: Effort) -> None:
    """Raises CannotEvaluateError for what can't be compared in one pass."""
    if isinstance(value, (list, tuple)):
        effort.spend(len(value))
        if all(map(is_scalar, value)):
            return
    if not is_scalar(value):
        raise CannotEvaluateError


# ---- text


def _shown(value: Any) -> str:
    if not is_scalar(value):
        raise CannotEvaluateError
    return str(value)


def _joined(pieces: Iterator[str], effort: Effort) -> str:
    """The pieces as one text; they are counted before they are put together."""
    kept = []
    for piece in pieces:
        effort.spend(len(piece) + STEP)
        kept.append(piece)
    return "".join(kept)


def _percent(template: str, value: Any, effort: Effort) -> str:
    values = list(value) if isinstance(value, tuple) else [value]

    def pieces() -> Iterator[str]:
        end = 0
        for found in _PERCENT.finditer(template):
            yield template[end : found.start()]
            end = found.end()
            if found[1] == "%":
                yield "%"
            elif found[1] in "sd" and values and (found[1] == "s" or _is_number(values[0])):
                yield _shown(values.pop(0))
            else:
                raise CannotEvaluateError
        yield template[end:]

    text = _joined(pieces(), effort)
    if values:
        raise CannotEvaluateError
    return text


def _formatted(template: str, args: Sequence[Any], keywords: Mapping[str, Any], effort: Effort) -> str:
    rest = iter(args)

    def pieces() -> Iterator[str]:
        end = 0
        for found in _BRACES.finditer(template):
            yield template[end : found.start()]
            end = found.end()
            name = found[1]
            if found[0] in ("{{", "}}"):
                yield found[0][0]
            elif name is None:
                raise CannotEvaluateError
            elif name == "":
                yield _shown(next(rest))
            else:
                yield _shown(args[int(name)] if name.isdecimal() else keywords[name])
        yield template[end:]

    try:
        return _joined(pieces(), effort)
    except RuntimeError as error:  # there was no next one
        raise CannotEvaluateError from error


def _check_searched(text: str, args: Sequence[Any], effort: Effort) -> None:
    for arg in args:
        if not is_scalar(arg) or (isinstance(arg, str) and len(arg) > _LONGEST_ARGUMENT):
            raise CannotEvaluateError
    effort.spend(2 * len(text))


def _text_method(text: str, name: str, args: Sequence[Any], keywords: Mapping[str, Any], effort: Effort) -> Any:
    if name == "format":
        return _formatted(text, args, keywords, effort)
    if keywords:
        raise CannotEvaluateError
    if name == "join":
        items = elements(*args)
        effort.spend(len(items) * len(text) + sum(map(len, items)))
        return text.join(items)
    _check_searched(text, args, effort)
    if name == "replace":
        old, new = args[:2]
        effort.spend(len(text) + text.count(old) * len(new))
        return text.replace(*args)
    if name == "elems":
        effort.spend(len(text))
        return list(text)
    if name not in _TEXT_METHODS:
        raise CannotEvaluateError
    return getattr(text, name)(*args)


# ---- methods and functions


def call_method(method: BoundMethod, args: list[Any], keywords: dict[str, Any], effort: Effort) -> Any:
    """The value of a method of a text, list or dict."""
    value, name = method.value, method.name
    if isinstance(value, list) and name == "append" and len(args) == 1:
        effort.spend(1)
        value.append(args[0])
        return None
    if isinstance(value, list) and name == "extend" and len(args) == 1:
        given = args[0]
        plus_in_place(value, given if isinstance(given, UnknownValue) else elements(given), effort)
        return None
    unknown = unknown_in([args, keywords], effort) or (
        unknown_in(list(value), effort) if isinstance(value, (list, dict)) else None
    )
    if unknown is not None:
        _taint(value, unknown)
        return unknown
    effort.spend(len(value))
    if isinstance(value, str):
        return _text_method(value, name, args, keywords, effort)
    if isinstance(value, list):
        if name not in ("clear", "index", "insert", "pop", "remove") or not all(map(is_scalar, [*args, *value])):
            raise CannotEvaluateError
    elif name not in ("clear", "get", "items", "keys", "pop", "setdefault", "update", "values"):
        raise CannotEvaluateError
    elif name in ("get", "pop", "setdefault"):
        check_key(args[0])
    if name == "update":
        effort.spend(len(args[0]) if args else 0)
    result = getattr(value, name)(*args, **keywords)
    return list(result) if name in ("items", "keys", "values") else result


def _taint(value: Any, unknown: UnknownValue) -> None:
    """Puts something unknown into what a method may have changed."""
    if isinstance(value, list):
        value.append(unknown)
    elif isinstance(value, dict):
        value[unknown] = unknown


def taint_all(values: Sequence[Any], unknown: UnknownValue) -> None:
    """Puts `unknown` into the lists and dicts among `values`, which a function that is not known may have changed."""
    for value in values:
        _taint(value, unknown)


def call_function(function: BuiltinFunction, args: list[Any], keywords: dict[str, Any], effort: Effort) -> Any:
    """The value of a function that every file has."""
    if function.name == "select":
        return _select(args[0] if args else keywords["x"])
    if function.name == "dict" and not args and "**" not in keywords:
        return dict(keywords)
    if function.name in _WITHOUT_LABELS:
        return [] if function.name == "glob" else None
    unknown = unknown_in([args, keywords], effort)
    if unknown is not None:
        return unknown
    return FUNCTIONS[function.name](args, keywords, effort)


def conditional_call(args: Sequence[Any], effort: Effort) -> Any:
    """What a function like if_google(a, b) gives: one of the lists, or nothing."""
    lists = []
    for arg in args:
        if not isinstance(arg, list):
            raise CannotEvaluateError
        effort.spend(len(arg))
        lists.append(list(arg))
    if not lists:
        raise CannotEvaluateError
    return SumValue((SelectValue((*lists, [])),))


def _select(branches: Any) -> Any:
    if isinstance(branches, UnknownValue):
        return branches
    if not isinstance(branches, dict):
        raise CannotEvaluateError
    kept = tuple(list(value) if isinstance(value, list) else value for value in branches.values())
    return SumValue((SelectValue(kept),))


def _range(args: list[Any], keywords: dict[str, Any], effort: Effort) -> list[int]:
    if keywords or not all(map(_is_number, args)):
        raise CannotEvaluateError
    numbers = range(*args)
    effort.spend(len(numbers))
    return list(numbers)


def _sorted(args: list[Any], keywords: dict[str, Any], effort: Effort) -> list[Any]:
    (items,) = map(elements, args)
    if set(keywords) - {"reverse"}:
        raise CannotEvaluateError
    _check_flat(items, effort)
    effort.spend(len(items) * STEP)
    return sorted(items, reverse=bool(keywords.get("reverse", False)))


def _extreme(choose: Callable[[list[Any]], Any]) -> Callable[[list[Any], dict[str, Any], Effort], Any]:
    def function(args: list[Any], keywords: dict[str, Any], effort: Effort) -> Any:
        items = elements(args[0]) if len(args) == 1 else args
        if keywords:
            raise CannotEvaluateError
        _check_flat(items, effort)
        return choose(items)

    return function


def _of_one(function: Callable[[Any], Any]) -> Callable[[list[Any], dict[str, Any], Effort], Any]:
    """A function of one value that looks at every element once."""

    def counted(args: list[Any], keywords: dict[str, Any], effort: Effort) -> Any:
        (value,) = args
        if keywords or isinstance(value, SumValue):
            raise CannotEvaluateError
        effort.spend(len(_inner(value)))
        return function(value)

    return counted


def _dict(value: Any) -> dict[Any, Any]:
    pairs = list(value.items()) if isinstance(value, dict) else elements(value)
    for key, _ in pairs:
        check_key(key)
    return dict(pairs)


def _int(value: Any) -> int:
    if not is_scalar(value) or (isinstance(value, str) and len(value) > 20):
        raise CannotEvaluateError
    return int(value)


def _zip(args: list[Any], keywords: dict[str, Any], effort: Effort) -> list[Any]:
    lists = [elements(arg) for arg in args]
    effort.spend(sum(map(len, lists)))
    return list(zip(*lists))


FUNCTIONS: Mapping[str, Callable[[list[Any], dict[str, Any], Effort], Any]] = {
    "all": _of_one(lambda value: all(elements(value))),
    "any": _of_one(lambda value: any(elements(value))),
    "bool": _of_one(bool),
    "dict": _of_one(_dict),
    "enumerate": _of_one(lambda value: list(enumerate(elements(value)))),
    "int": _of_one(_int),
    "len": _of_one(len),
    "list": _of_one(elements),
    "max": _extreme(max),
    "min": _extreme(min),
    "range": _range,
    "repository_name": lambda args, keywords, effort: "@",
    "reversed": _of_one(lambda value: elements(value)[::-1]),
    "sorted": _sorted,
    "str": _of_one(_shown),
    "tuple": _of_one(lambda value: tuple(elements(value))),
    "zip": _zip,
}
_WITHOUT_LABELS = ("exports_files", "glob", "licenses", "package")  # glob() gives files of the package
FUNCTION_NAMES = frozenset({*FUNCTIONS, *_WITHOUT_LABELS, "select"})
