"""Edits of BUILD files that add or remove labels of one target's deps and leave every other byte unchanged."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from npu_serving.errors import BuildFileError
from npu_serving.lock.starlark_files import Tree
from npu_serving.overlay.build_evaluation import DepsTerm, EvaluatedDeps, EvaluatedTarget, evaluate_build
from npu_serving.overlay.starlark_text import Item, StarlarkCall, StarlarkSource
from npu_serving.settings import Settings

RULE = "cc_binary"
TARGET = "tensorflow_model_server"
PACKAGE = "tensorflow_serving/model_servers"
FILE = f"{PACKAGE}/BUILD"

# Marks a list that this module wrote whole, so that it can be removed whole: `deps = []` may have been there before.
MARK = "  # put here by npu-serving"
INDENT = "    "


def add_deps(text: str, *, labels: Sequence[str], files: Tree | None = None) -> str:
    """The text with those of `labels` added to the server's deps that aren't there in any spelling yet.

    A list is extended in its own style; a variable, a select() or a concatenation of such gets ` + [...]`. What is
    there is known by evaluating the file, with what it loads from `files`, those of the tree. Raises BuildFileError
    when there is no such target, or more than one, or when its deps are not known, or written in a way that can't be
    extended with certainty.
    """
    deps = _find_deps(text, files)
    missing = _missing(deps, labels)
    if not missing:
        return text
    added = _with_added(deps, [f'"{label}"' for label in missing])
    _check_added(deps, _find_deps(added, files), missing)
    return added


def remove_deps(text: str, *, labels: Sequence[str], files: Tree | None = None) -> str:
    """The text without those labels: what add_deps() wrote goes without a trace."""
    unwanted = {canonical(label, PACKAGE) for label in labels}
    while True:
        deps = _find_deps(text, files)
        found = [place for place in deps.places if canonical(place.label, PACKAGE) in unwanted]
        if not found:
            return text
        text = _with_removed(deps, found[-1])


def read_deps(text: str, *, files: Tree | None = None) -> tuple[str, ...]:
    """The labels that stand in the target's deps as plain lists, as they are spelled there."""
    return _find_deps(text, files).labels


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
    evaluated: EvaluatedDeps
    others: tuple[tuple[object, ...], ...]
    """What all other targets evaluate to, as it has to be after the edit, too."""
    argument: Item | None = None
    lists: tuple[int, ...] = ()
    """The brackets of the plain lists among the terms, in order."""
    places: tuple[_Place, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(place.label for place in self.places)


def _find_deps(text: str, files: Tree | None) -> _Deps:
    source = StarlarkSource(text, FILE)
    targets = evaluate_build(source, PACKAGE, files)
    found = _find_target(source, targets)
    call = _call_of(source, found)
    others = tuple((item.rule, item.names, _comparable(item.deps)) for item in targets if item is not found)
    deps = _Deps(source, call, found.deps, others)
    together = [item for item in targets if item is not found and item.function_end == found.function_end]
    if together:
        names = ", ".join(name for item in together for name in item.names)
        raise _unfit(deps, f"the same line of a comprehension makes {names}, which would get what is added, too")
    arguments = source.items(call.opening)
    keywords: dict[str, Item] = {}
    for argument in arguments:
        keyword = source.keyword(argument)
        if keyword in keywords:
            places = " and ".join(
                source.place(source.tokens[item.first].start) for item in (keywords[keyword], argument)
            )
            raise BuildFileError(
                f"{RULE} {TARGET!r} is given {keyword} twice: {places}.",
                cause="Bazel allows only one; the file was edited by hand or merged badly",
                cure=f"make one {keyword} of them, then run the same command again",
            )
        if keyword is not None:
            keywords[keyword] = argument
    if "deps" in keywords:
        return _examined(deps, keywords["deps"])
    if any(source.tokens[argument.first].text in ("*", "**") for argument in arguments):
        raise _unfit(deps, "its arguments come from *args or **kwargs, which may hold deps")
    return deps


def _find_target(source: StarlarkSource, targets: Sequence[EvaluatedTarget]) -> EvaluatedTarget:
    def place(target: EvaluatedTarget) -> str:
        return source.place(source.tokens[_call_of(source, target).opening].start)

    for target in targets:
        if target.rule == RULE and target.first == TARGET:
            raise BuildFileError(
                f"{place(target)}: {RULE} {TARGET!r} is named without `name =`.",
                cause="Bazel accepts keyword arguments only",
                cure=f"write name = {TARGET!r} there, then run the same command again",
            )
    found = [target for target in targets if TARGET in target.names]
    if len(found) > 1:
        raise BuildFileError(
            f"{len(found)} targets are named {TARGET!r}: {' and '.join(place(target) for target in found)}.",
            cause="Bazel allows only one; the file was edited by hand or merged badly",
            cure="remove the wrong one, then run the same command again",
        )
    if not found:
        names = [name for target in targets for name in target.names if target.rule == RULE]
        raise _absent(source, RULE, TARGET, names)
    if found[0].rule != RULE:
        raise BuildFileError(
            f"{place(found[0])}: {TARGET!r} is a {found[0].rule}, not a {RULE}.",
            cause="this project does not know this version of TensorFlow Serving",
            cure=f"use --source with TensorFlow Serving {Settings.source}",
        )
    return found[0]


def _call_of(source: StarlarkSource, target: EvaluatedTarget) -> StarlarkCall:
    """The parentheses of the call that declares a target."""
    tokens = source.tokens
    number = bisect_left([token.start for token in tokens], target.function_end)
    apart = tokens[number - 1].end <= target.function_end  # not so where only Python sees a call, as in an f-string
    while number < len(tokens) and tokens[number].text == ")":  # the function may be in parentheses itself
        number += 1
    if not apart or number == len(tokens) or tokens[number].text != "(":
        raise BuildFileError(
            f"{source.place(target.function_end)}: the arguments of {target.rule} can't be found.",
            cause="the file is damaged, or was changed by hand",
            cure="write this call as in TensorFlow Serving, then run the same command again",
        )
    return StarlarkCall(target.rule, number, source.partner[number])


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


# ---- what the deps are


def _missing(deps: _Deps, labels: Sequence[str]) -> list[str]:
    """Those of the labels that have to be added. Raises BuildFileError where that isn't certain."""
    evaluated = deps.evaluated
    if evaluated.flaw:
        raise _unfit(deps, f"their value is {evaluated.flaw}, to which no list can be added")
    missing = []
    for label in dict.fromkeys(labels):
        meant = canonical(label, PACKAGE)
        holding = [term for term in evaluated.terms if meant in {canonical(item, PACKAGE) for item in term.labels}]
        if _is_twice(holding, meant):
            raise _unfit(
                deps, f"{label} is listed twice in them, and Bazel rejects that", cure=f"leave {label} in one place"
            )
        if any(term.is_select for term in holding):
            raise _unfit(
                deps,
                f"{label} is in a part of them that holds under a condition, and Bazel rejects a label that is listed "
                "twice",
                cure=f"take {label} out of that part",
            )
        if not holding:
            missing.append(label)
    if missing and evaluated.unknown:
        raise _unfit(
            deps,
            f"it is not known whether {missing[0]} is in them already, because of {'; '.join(evaluated.unknown)}",
            cause="what other repositories and functions give is not evaluated",
            cure=f"add to the deps of {TARGET!r} by hand those of these that they lack: {', '.join(missing)}",
        )
    return missing


def _is_twice(terms: Sequence[DepsTerm], meant: str) -> bool:
    """Whether Bazel finds the label twice: in one branch, or in two terms, even if their conditions exclude each other.

    (Tried with Bazel 0.24.1.)
    """
    branches = (branch for term in terms for branch in term.branches)
    return len(terms) > 1 or any([canonical(item, PACKAGE) for item in branch].count(meant) > 1 for branch in branches)


def _comparable(deps: EvaluatedDeps, added: Sequence[str] = ()) -> tuple[object, ...]:
    """The deps, with what is added to them, in a form that is the same however they are written down."""
    plain = sorted([*added, *(label for term in deps.terms if not term.is_select for label in term.labels)])
    selects = sorted(term.branches for term in deps.terms if term.is_select)
    return plain, selects, sum(len(term.unknown) for term in deps.terms), deps.flaw


def _check_added(before: _Deps, after: _Deps, added: Sequence[str]) -> None:
    """Raises BuildFileError where the edit did more or less than add these labels to this target."""
    wanted = (before.call.opening, _comparable(before.evaluated, added), before.others)
    if (after.call.opening, _comparable(after.evaluated), after.others) != wanted:
        raise _unfit(before, f"the file would not say what is meant with {', '.join(added)} added")


def _examined(deps: _Deps, argument: Item) -> _Deps:
    """The deps with the plain lists among the terms of their value."""
    lists: list[int] = []
    places: list[_Place] = []
    for first, last in _terms(deps, argument):
        if _is_plain_list(deps.source, first, last):
            lists.append(first)
            places += _places(deps, first)
    return replace(deps, argument=argument, lists=tuple(lists), places=tuple(places))


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


def _unfit(
    deps: _Deps,
    why: str,
    *,
    cause: str = "the file was changed by hand",
    cure: str = "write deps as a list, or as lists, variables and select() joined by +",
) -> BuildFileError:
    place = deps.source.place(deps.source.tokens[deps.call.opening].start)
    return BuildFileError(f"{place}: the deps of {TARGET!r} can't be edited: {why}.", cause=cause, cure=cure)


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
