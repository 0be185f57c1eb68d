"""Edits of BUILD files that add or remove labels of one target's deps and leave every other byte unchanged."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.errors import BuildFileError
from npu_serving.overlay.starlark_text import Item, StarlarkCall, StarlarkSource, string_value
from npu_serving.settings import Settings

RULE = "cc_binary"
TARGET = "tensorflow_model_server"
PACKAGE = "tensorflow_serving/model_servers"
FILE = f"{PACKAGE}/BUILD"

# Marks a list that this module wrote whole, so that it can be removed whole: `deps = []` may have been there before.
MARK = "  # put here by npu-serving"
INDENT = "    "


def add_deps(text: str, *, labels: Sequence[str]) -> str:
    """The text with those of `labels` added to the server's deps that aren't there in any spelling yet.

    A list is extended in its own style; a variable, a select() or a concatenation of such gets ` + [...]`. Raises
    BuildFileError when there is no such target, or more than one, or when its deps are written in a way that can't be
    extended with certainty.
    """
    deps = _find_deps(StarlarkSource(text, FILE), RULE, TARGET)
    present = {canonical(label, PACKAGE) for label in (*deps.labels, *deps.labels_of_variables)}
    missing = [label for label in dict.fromkeys(labels) if canonical(label, PACKAGE) not in present]
    for label in missing:
        if canonical(label, PACKAGE) in {canonical(other, PACKAGE) for other in deps.conditional_labels}:
            raise _unfit(
                deps, f"{label} is in a computed part of its deps, and Bazel rejects a label that is listed twice"
            )
    if not missing:
        return text
    return _with_added(deps, [f'"{label}"' for label in missing])


def remove_deps(text: str, *, labels: Sequence[str]) -> str:
    """The text without those labels: what add_deps() wrote goes without a trace."""
    unwanted = {canonical(label, PACKAGE) for label in labels}
    while True:
        deps = _find_deps(StarlarkSource(text, FILE), RULE, TARGET)
        found = [place for place in deps.places if canonical(place.label, PACKAGE) in unwanted]
        if not found:
            return text
        text = _with_removed(deps, found[-1])


def read_deps(text: str) -> tuple[str, ...]:
    """The labels that stand in the target's deps as plain lists, as they are spelled there."""
    return _find_deps(StarlarkSource(text, FILE), RULE, TARGET).labels


def canonical(label: str, package: str) -> str:
    """The one spelling of a label: `:x` and `x` become //package:x, `//a/b` becomes //a/b:b, `@//a` becomes //a:a."""
    repository, slashes, path = label.partition("//")
    if not slashes and label.startswith("@"):
        return f"{label}//:{label[1:]}"
    if not slashes:
        return f"//{package}:{label[1:] if label.startswith(':') else label}"
    folder, colon, target = path.partition(":")
    default = folder.rpartition("/")[2] or repository.lstrip("@")
    return f"{'' if repository == '@' else repository}//{folder}:{target if colon else default}"


# ---- finding the target


@dataclass(frozen=True)
class _Place:
    """Where a label stands: the bracket of its list, and its number there."""

    label: str
    opening: int
    index: int


@dataclass(frozen=True)
class _Deps:
    """The target's call, its deps argument if it has one, and what is in it."""

    source: StarlarkSource
    call: StarlarkCall
    target: str
    argument: Item | None = None
    lists: tuple[int, ...] = ()
    """The brackets of the plain lists among the terms, in order."""
    places: tuple[_Place, ...] = ()
    labels_of_variables: tuple[str, ...] = ()
    conditional_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(place.label for place in self.places)


def _find_deps(source: StarlarkSource, rule: str, target: str) -> _Deps:
    call = _find_call(source, rule, target)
    arguments = source.items(call.opening)
    deps = _Deps(source, call, target)
    for argument in arguments:
        if source.keyword(argument) == "deps":
            return _examined(deps, argument)
    if any(source.tokens[argument.first].text in ("*", "**") for argument in arguments):
        raise _unfit(deps, "its arguments come from *args or **kwargs, which may hold deps")
    return deps


def _find_call(source: StarlarkSource, rule: str, target: str) -> StarlarkCall:
    named: list[tuple[StarlarkCall, str]] = []
    for call in source.calls():
        arguments = source.items(call.opening)
        for argument in arguments:
            if source.keyword(argument) == "name":
                value = source.string(argument.first + 2, argument.last)
                if value is not None:
                    named.append((call, value))
        if call.function == rule and arguments and source.string(arguments[0].first, arguments[0].last) == target:
            raise BuildFileError(
                f"{source.place(source.tokens[call.opening].start)}: {rule} {target!r} is named without `name =`.",
                cause="Bazel accepts keyword arguments only",
                cure=f"write name = {target!r} there, then run the same command again",
            )
    found = [call for call, value in named if value == target]
    at = source.place(source.tokens[found[0].opening].start) if found else ""
    if len(found) > 1:
        places = " and ".join(source.place(source.tokens[call.opening].start) for call in found)
        raise BuildFileError(
            f"{len(found)} targets are named {target!r}: {places}.",
            cause="Bazel allows only one; the file was edited by hand or merged badly",
            cure="remove the wrong one, then run the same command again",
        )
    if not found:
        raise _absent(source, rule, target, [value for call, value in named if call.function == rule])
    if found[0].function != rule:
        raise BuildFileError(
            f"{at}: {target!r} is a {found[0].function}, not a {rule}.",
            cause="this project does not know this version of TensorFlow Serving",
            cure=f"use --source with TensorFlow Serving {Settings.source}",
        )
    return found[0]


def _absent(source: StarlarkSource, rule: str, target: str, names: Sequence[str]) -> BuildFileError:
    near = difflib.get_close_matches(target, names, n=3)
    said = (
        f"similar names are {', '.join(near)}"
        if near
        else f"its targets of that kind are: {', '.join(names[:5]) or 'none'}"
    )
    return BuildFileError(
        f"{source.name} has no {rule} named {target!r}; {said}.",
        cause="this is not a TensorFlow Serving tree, or the target was renamed",
        cure=f"use --source with TensorFlow Serving {Settings.source}",
    )


# ---- what the deps are made of


def _examined(deps: _Deps, argument: Item) -> _Deps:
    """The deps with the terms of their value sorted out: plain lists, variables, and what is computed."""
    source = deps.source
    lists: list[int] = []
    places: list[_Place] = []
    variables: list[str] = []
    conditional: list[str] = []
    assigned = source.assigned_lists()
    for first, last in _terms(deps, argument):
        inside = range(first, last + 1)
        if _is_plain_list(source, first, last):
            lists.append(first)
            places += _places(deps, first)
        elif first == last and source.tokens[first].kind == "name":
            variables += assigned.get(source.tokens[first].text, ())
        else:
            conditional += [string_value(source.tokens[n].text) for n in inside if source.tokens[n].kind == "string"]
    return _Deps(
        source, deps.call, deps.target, argument, tuple(lists), tuple(places), tuple(variables), tuple(conditional)
    )


def _terms(deps: _Deps, argument: Item) -> list[tuple[int, int]]:
    """The terms that are put together by + at the top level, as (first, last) tokens."""
    source = deps.source
    terms: list[tuple[int, int]] = []
    first = number = argument.first + 2
    while number <= argument.last:
        token = source.tokens[number]
        if token.text == "+" and token.kind == "operator":
            terms.append((first, number - 1))
            first = number + 1
        elif not _may_stand_in_a_term(token.kind, token.text):
            raise _unfit(deps, f"its deps are an expression ({token.text!r} at {source.place(token.start)})")
        number = source.skip(number)
    terms.append((first, argument.last))
    if any(last < first for first, last in terms):
        raise _unfit(deps, "its deps are not a valid expression")
    return terms


def _may_stand_in_a_term(kind: str, text: str) -> bool:
    if kind == "name":
        return text not in ("if", "else", "or", "and", "not", "in", "lambda", "for", "None")
    return kind == "operator" and text in ("(", "[", ".")


def _is_plain_list(source: StarlarkSource, first: int, last: int) -> bool:
    if source.tokens[first].text != "[" or source.partner[first] != last:
        return False
    number = first + 1
    while number < last:
        if source.tokens[number].text == "for" and source.tokens[number].kind == "name":
            return False
        number = source.skip(number)
    return True


def _places(deps: _Deps, opening: int) -> list[_Place]:
    found = []
    for index, item in enumerate(deps.source.items(opening)):
        label = deps.source.string(item.first, item.last)
        if label is not None:
            found.append(_Place(label, opening, index))
    return found


def _unfit(deps: _Deps, why: str) -> BuildFileError:
    place = deps.source.place(deps.source.tokens[deps.call.opening].start)
    return BuildFileError(
        f"{place}: the deps of {deps.target!r} can't be edited: {why}.",
        cause="the file was changed by hand",
        cure="write deps as a list, or as lists, variables and select() joined by +",
    )


# ---- writing


def _with_added(deps: _Deps, literals: Sequence[str]) -> str:
    source = deps.source
    if deps.lists:
        return _insert(source, deps.lists[-1], literals)
    newline = _newline(source.text)
    if deps.argument is None:
        indent = _indent_of_items(source, deps.call.opening)
        return _insert(source, deps.call.opening, [f"deps = {_marked_list(literals, indent, newline)}"])
    indent = _line_indent(source.text, source.tokens[deps.argument.first].start)
    end = source.tokens[deps.argument.last].end
    return f"{source.text[:end]} + {_marked_list(literals, indent, newline)}{source.text[end:]}"


def _marked_list(literals: Sequence[str], indent: str, newline: str) -> str:
    lines = [f"[{MARK}", *(f"{indent}{INDENT}{literal}," for literal in literals), f"{indent}]"]
    return newline.join(lines)


def _with_removed(deps: _Deps, place: _Place) -> str:
    source = deps.source
    after_bracket = source.tokens[place.opening].end
    closing = source.partner[place.opening]
    assert deps.argument is not None
    if len(source.items(place.opening)) > 1 or not source.text.startswith(MARK, after_bracket):
        return _delete(source, place.opening, place.index)
    # The last label of a list that add_deps() wrote: the list goes with it.
    if (place.opening, closing) == (deps.argument.first + 2, deps.argument.last):
        arguments = source.items(deps.call.opening)
        return _delete(source, deps.call.opening, arguments.index(deps.argument))
    if source.tokens[place.opening - 1].text == "+":
        return source.text[: source.tokens[place.opening - 2].end] + source.text[source.tokens[closing].end :]
    return _delete(source, place.opening, place.index)


def _insert(source: StarlarkSource, opening: int, pieces: Sequence[str]) -> str:
    """Puts `pieces` behind the last item of a bracket, on lines of their own if that one stands on one of its own."""
    text = source.text
    items = source.items(opening)
    close_at = source.tokens[source.partner[opening]].start
    newline = _newline(text)
    if not items:
        after_open = source.tokens[opening].end
        if "\n" not in text[after_open:close_at]:
            return text[:after_open] + ", ".join(pieces) + text[after_open:]
        line = text.rfind("\n", 0, close_at) + 1
        indent = _line_indent(text, close_at) + INDENT
        return text[:line] + "".join(f"{indent}{piece},{newline}" for piece in pieces) + text[line:]
    last = items[-1]
    end = source.tokens[last.last].end
    after = end if last.comma is None else source.tokens[last.comma].end
    if "\n" not in text[after:close_at]:
        joined = ", ".join(pieces)
        return text[:after] + (f", {joined}" if last.comma is None else f" {joined},") + text[after:]
    indent = _indent_of_items(source, opening)
    line = text.index("\n", after) + 1
    lines = f",{newline}".join(f"{indent}{piece}" for piece in pieces)
    if last.comma is None:
        return text[:end] + "," + text[end:line] + lines + newline + text[line:]
    return text[:line] + lines + "," + newline + text[line:]


def _delete(source: StarlarkSource, opening: int, index: int) -> str:
    """Removes an item: with its line if it has one of its own, else with the blank before it."""
    text = source.text
    items = source.items(opening)
    item = items[index]
    start = source.tokens[item.first].start
    end = source.tokens[item.last if item.comma is None else item.comma].end
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end) + 1
    next_at = source.tokens[(item.last if item.comma is None else item.comma) + 1].start
    before = items[index - 1] if index > 0 else None
    if text[line_start:start].strip() == "" and 0 < line_end <= next_at:
        if item.comma is None and before is not None and before.comma is not None:
            comma = source.tokens[before.comma]
            return text[: comma.start] + text[comma.end : line_start] + text[line_end:]
        return text[:line_start] + text[line_end:]
    if before is None:
        return text[:start] + text[next_at if index + 1 < len(items) else end :]
    assert before.comma is not None
    cut = source.tokens[before.comma].end if item.comma is not None else source.tokens[before.last].end
    if "\n" in text[cut:start]:
        cut = start
    return text[:cut] + text[end:]


def _indent_of_items(source: StarlarkSource, opening: int) -> str:
    """The white space before the last item if that begins a line, else one step in from the closing bracket."""
    items = source.items(opening)
    if items:
        start = source.tokens[items[-1].first].start
        before = source.text[source.text.rfind("\n", 0, start) + 1 : start]
        if before.strip() == "":
            return before
    close_at = source.tokens[source.partner[opening]].start
    line = source.text[source.text.rfind("\n", 0, close_at) + 1 : close_at]
    return _line_indent(source.text, close_at) + (INDENT if line.strip() == "" else "")


def _line_indent(text: str, offset: int) -> str:
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _newline(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"
