"""A BUILD file evaluated: the targets that it declares, their names and their deps, as far as these can be known.

What a .bzl file of the same tree assigns is looked up there. What other repositories have, and what functions do, is
not known; where that gets into the deps of a target, they say so. (The interpreter that evaluates a WORKSPACE has no
place for a value that isn't known: see starlark_values.py.)
"""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from npu_serving.errors import BuildFileError, WorkspaceError
from npu_serving.lock.limits import check_nesting
from npu_serving.lock.starlark_files import Tree
from npu_serving.overlay import starlark_values as values
from npu_serving.overlay.starlark_text import StarlarkSource
from npu_serving.overlay.starlark_values import (
    BoundMethod,
    BuiltinFunction,
    CannotEvaluateError,
    Effort,
    EffortSpentError,
    SelectValue,
    SumValue,
    UnknownValue,
)

LARGEST_TEXT = 1 << 19
"""Characters; the real BUILD file has 20,000. A syntax tree takes a few hundred times as many bytes."""
_DEEPEST_LOAD = 50
_OCTAL = re.compile(r"0\d+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ERRORS = (CannotEvaluateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class DepsTerm:
    """A summand of evaluated deps: the labels of a list, or of each branch of a select(), and what is unknown in it."""

    branches: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...] = ()
    is_select: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all branches."""
        return tuple(label for branch in self.branches for label in branch)


@dataclass(frozen=True)
class EvaluatedDeps:
    """The value of deps. `flaw` says what it is where that is something other than lists and select()s added up."""

    terms: tuple[DepsTerm, ...] = ()
    flaw: str = ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known of them."""
        return tuple(dict.fromkeys(what for term in self.terms for what in term.unknown))


@dataclass(frozen=True)
class EvaluatedTarget:
    """A call that declares a target. `function_end` is where in the text the name of the called function ends.

    `names` are those after `name =`, usually one; `first` is its first argument if that is a text without a name.
    """

    rule: str
    names: tuple[str, ...]
    first: str
    deps: EvaluatedDeps
    function_end: int


def evaluate_build(source: StarlarkSource, package: str, files: Tree | None) -> tuple[EvaluatedTarget, ...]:
    """The targets that a BUILD file declares, in their order. `files` are those of the tree.

    Raises BuildFileError for text that isn't Starlark, or takes more than any real file to evaluate.
    """
    session = _Session(package, files)
    evaluation = _Evaluation(session, source, package, is_build=True)
    try:
        evaluation.run()
    except (EffortSpentError, RecursionError) as error:
        raise BuildFileError(
            f"Gave up evaluating {source.name}: it takes more steps or memory than any real BUILD file.",
            cause="a value that grows without end, or a malicious file",
            cure="correct that file, or unpack the tree again",
        ) from error
    return tuple(evaluation.targets)


class _Session:
    """What a BUILD file and the files that it loads have in common."""

    def __init__(self, package: str, files: Tree | None) -> None:
        self.effort = Effort()
        self.package = package
        self._files = files
        self._modules: dict[str, Mapping[str, Any]] = {}
        self._loading: list[str] = []

    def loaded(self, label: str, package: str) -> Mapping[str, Any]:
        """What a .bzl file assigns at its top level, nothing where it can't be read. `package` is the loading one."""
        repository, slashes, path = label.partition("//")
        if label.startswith("@") and (not slashes or repository != "@"):
            return {}  # of another repository
        folder, colon, file = path.partition(":") if slashes else (package, ":", label.removeprefix(":"))
        if not colon:
            return {}
        name = f"{folder}/{file}".lstrip("/")
        if name not in self._modules:
            if name in self._loading or len(self._loading) == _DEEPEST_LOAD or self._files is None:
                return {}
            self._loading.append(name)
            self._modules[name] = self._evaluated(name, folder)
            self._loading.pop()
        return self._modules[name]

    def _evaluated(self, name: str, package: str) -> Mapping[str, Any]:
        assert self._files is not None
        with contextlib.suppress(BuildFileError, WorkspaceError):
            text = self._files.read(name)
            if text is not None:
                evaluation = _Evaluation(self, StarlarkSource(text, name), package, is_build=False)
                evaluation.run()
                return evaluation.names
        return {}


class _Evaluation:
    """One file."""

    def __init__(self, session: _Session, source: StarlarkSource, package: str, *, is_build: bool) -> None:
        self.targets: list[EvaluatedTarget] = []
        self.names: dict[str, Any] = {}
        self._session = session
        self._effort = session.effort
        self._source = source
        self._package = package
        self._is_build = is_build
        self._scopes = [self.names]
        self._lines = [0, *(found.end() for found in re.finditer("\n", source.text))]

    def run(self) -> None:
        """Evaluates the statements of the file."""
        for statement in _parsed(self._source).body:
            self._effort.spend(values.STEP)
            self._execute(statement)

    # ---- statements

    def _execute(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Call) and _name_of(node.value.func) == "load":
                self._load(node.value)
            else:
                self._value(node.value)
        elif isinstance(node, ast.Assign):
            value = self._value(node.value)
            for target in node.targets:
                self._assign(target, value)
        elif isinstance(node, ast.AugAssign):
            self._augment(node)
        elif isinstance(node, ast.Pass):
            pass
        elif self._is_build:
            raise BuildFileError(
                f"{self._place(node)}: this statement is not allowed in a BUILD file.",
                cause="Bazel takes calls, assignments and load() there, and comprehensions in place of loops",
                cure="move it to a function in a .bzl file, or correct the line; then run the same command again",
            )
        else:
            self._take_for_unknown(node)

    def _load(self, node: ast.Call) -> None:
        texts = [item.value if isinstance(item, ast.Constant) else None for item in node.args]
        if not texts or not isinstance(texts[0], str):
            return
        label = texts[0]
        wanted = [(name, name) for name in texts[1:]]
        wanted += [(word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)]
        found = self._session.loaded(label, self._package)
        for name, symbol in wanted:
            if not isinstance(name, str) or not isinstance(symbol, str):
                continue
            value = found.get(symbol)
            if symbol not in found or isinstance(value, UnknownValue):
                value = UnknownValue(f"{symbol}, loaded from {label}", name, symbol.startswith("if_"))
            self.names[name] = value

    def _take_for_unknown(self, node: ast.stmt) -> None:
        """A statement that isn't evaluated: what it may assign is unknown."""
        if isinstance(node, ast.FunctionDef):
            self.names[node.name] = self._unknown(node, node.name)
            return
        for inner in ast.walk(node):
            self._effort.spend(values.STEP)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.names[inner.id] = self._unknown(inner, inner.id)

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._scopes[-1][target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            for inner, item in zip(target.elts, self._unpacked(value, target)):
                self._assign(inner, item)
        elif isinstance(target, ast.Subscript):
            with contextlib.suppress(*_ERRORS):
                values.set_item(self._value(target.value), self._value(target.slice), value)

    def _unpacked(self, value: Any, target: ast.Tuple | ast.List) -> Sequence[Any]:
        if isinstance(value, (list, tuple)) and len(value) == len(target.elts):
            return list(value)
        unknown = value if isinstance(value, UnknownValue) else self._unknown(target)
        return [unknown] * len(target.elts)

    def _augment(self, node: ast.AugAssign) -> None:
        right = self._value(node.value)
        if isinstance(node.target, ast.Name):
            left = self._name(node.target)
        elif isinstance(node.target, ast.Subscript):
            left = self._value(node.target)
        else:
            return
        try:
            if isinstance(node.op, ast.Add):
                result = values.plus_in_place(left, right, self._effort)
            else:
                result = values.binary(type(node.op).__name__, left, right, self._effort)
        except _ERRORS:
            result = self._unknown(node.target)
        self._assign(node.target, result)

    # ---- expressions

    def _value(self, node: ast.expr) -> Any:
        """The value of an expression; unknown where it isn't understood, or where Starlark would refuse it."""
        self._effort.spend(values.STEP)
        evaluate = getattr(self, f"_{type(node).__name__.lower()}", None)
        if evaluate is None:
            return self._unknown(node)
        try:
            return evaluate(node)
        except _ERRORS:
            return self._unknown(node)

    def _constant(self, node: ast.Constant) -> Any:
        if not values.is_scalar(node.value):
            raise CannotEvaluateError
        self._effort.spend(len(node.value) if isinstance(node.value, str) else 0)
        return node.value

    def _name(self, node: ast.Name) -> Any:
        for scope in reversed(self._scopes):
            if node.id in scope:
                return scope[node.id]
        if node.id in values.FUNCTION_NAMES:
            return BuiltinFunction(node.id)
        what = f"{node.id}, which {self._source.name} does not define"
        return UnknownValue(what, node.id, node.id.startswith("if_"))

    def _list(self, node: ast.List) -> Any:
        return self._elements(node.elts)

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self._elements(node.elts))

    def _dict(self, node: ast.Dict) -> Any:
        found: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values):
            key = self._unknown(node) if key_node is None else self._value(key_node)
            values.set_item(found, key, self._value(value_node))
        return found

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self._value(node.value)
        if isinstance(value, UnknownValue):
            if value.name == "native":
                return UnknownValue(f"native.{node.attr}", node.attr)
            return UnknownValue(value.what, f"{value.name}.{node.attr}")
        if not isinstance(value, (str, list, dict)):
            raise CannotEvaluateError
        return BoundMethod(value, node.attr)

    def _subscript(self, node: ast.Subscript) -> Any:
        return values.subscript(self._value(node.value), self._value(node.slice), self._effort)

    def _slice(self, node: ast.Slice) -> Any:
        bounds = [None if bound is None else self._value(bound) for bound in (node.lower, node.upper, node.step)]
        for bound in bounds:
            if isinstance(bound, UnknownValue):
                return bound
        return slice(*bounds)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self._value(node.operand)
        if isinstance(value, UnknownValue):
            return value
        if isinstance(node.op, ast.Not):
            return not values.truth(value)
        if isinstance(node.op, ast.USub) and isinstance(value, int):
            return -value
        raise CannotEvaluateError

    def _binop(self, node: ast.BinOp) -> Any:
        chain = [node]  # not by a call in a call: a chain of some hundred additions is as deep
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        value = self._value(chain[-1].left)
        for link in reversed(chain):
            right = self._value(link.right)
            try:
                value = values.binary(type(link.op).__name__, value, right, self._effort)
            except _ERRORS:
                value = self._unknown(link)
        return value

    def _boolop(self, node: ast.BoolOp) -> Any:
        value: Any = None
        unknown: UnknownValue | None = None
        for operand in node.values:
            value = self._value(operand)
            if isinstance(value, UnknownValue):
                unknown = unknown or value
            elif unknown is None and values.truth(value) == isinstance(node.op, ast.Or):
                break
        return value if unknown is None else unknown

    def _compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1:
            raise CannotEvaluateError
        left, right = self._value(node.left), self._value(node.comparators[0])
        return values.compared(type(node.ops[0]).__name__, left, right, self._effort)

    def _ifexp(self, node: ast.IfExp) -> Any:
        condition = self._value(node.test)
        if isinstance(condition, UnknownValue):
            self._value(node.body)
            self._value(node.orelse)
            return condition
        return self._value(node.body if values.truth(condition) else node.orelse)

    def _listcomp(self, node: ast.ListComp) -> Any:
        found: list[Any] = []

        def add(unknown: UnknownValue | None) -> None:
            value = self._value(node.elt)
            found.append(value if unknown is None else unknown)

        self._comprehend(node.generators, add)
        return found

    def _dictcomp(self, node: ast.DictComp) -> Any:
        found: dict[Any, Any] = {}

        def add(unknown: UnknownValue | None) -> None:
            key, value = self._value(node.key), self._value(node.value)
            values.set_item(found, key if unknown is None else unknown, value)

        self._comprehend(node.generators, add)
        return found

    def _comprehend(self, generators: Sequence[ast.comprehension], add: Callable[[UnknownValue | None], None]) -> None:
        """Calls `add` as often as the loops and conditions say; with what is unknown where they don't say for sure."""
        self._scopes.append({})
        try:
            self._loop(generators, None, add)
        finally:
            self._scopes.pop()

    def _loop(
        self,
        generators: Sequence[ast.comprehension],
        unknown: UnknownValue | None,
        add: Callable[[UnknownValue | None], None],
    ) -> None:
        if not generators:
            add(unknown)
            return
        first = generators[0]
        iterated = self._value(first.iter)
        if isinstance(iterated, UnknownValue):
            unknown = unknown or iterated
            iterated = [iterated]
        for item in values.elements(iterated):
            self._effort.spend(values.STEP)
            self._assign(first.target, item)
            condition: Any = True
            doubt = unknown
            for test in first.ifs:
                condition = self._value(test)
                if isinstance(condition, UnknownValue):
                    doubt = doubt or condition
                elif not values.truth(condition):
                    break
            else:
                self._loop(generators[1:], doubt, add)

    # ---- calls

    def _call(self, node: ast.Call) -> Any:
        function = self._value(node.func)
        args = self._elements(node.args)
        keywords: dict[str, Any] = {}
        names = []
        for word in node.keywords:
            value = self._value(word.value)
            if word.arg is None:
                keywords.update(self._words(value, word.value))
            else:
                keywords[word.arg] = value
                names += [value] if word.arg == "name" else []
        if isinstance(function, UnknownValue):
            self._note(node, function, args, names or [keywords.get("name")], keywords)
            return self._called(function, args, keywords)
        if isinstance(function, BuiltinFunction):
            return values.call_function(function, args, keywords, self._effort)
        if isinstance(function, BoundMethod):
            return values.call_method(function, args, keywords, self._effort)
        raise CannotEvaluateError

    def _elements(self, nodes: Sequence[ast.expr]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                value = self._value(node.value)
                found += [value] if isinstance(value, UnknownValue) else values.elements(value)
            else:
                found.append(self._value(node))
        return found

    def _words(self, value: Any, node: ast.expr) -> dict[str, Any]:
        """The arguments that `**value` gives."""
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if isinstance(key, str)}
        unknown = value if isinstance(value, UnknownValue) else self._unknown(node)
        return {"**": unknown}

    def _called(self, function: UnknownValue, args: list[Any], keywords: dict[str, Any]) -> Any:
        """What a function gives that isn't known."""
        if function.name == "package_name" and not args:
            return self._package
        if function.conditional:
            with contextlib.suppress(CannotEvaluateError):
                return values.conditional_call([*args, *keywords.values()], self._effort)
        named = function.name and function.what.startswith(function.name)
        unknown = UnknownValue(
            function.what.replace(function.name, f"{function.name}()", 1) if named else function.what
        )
        values.taint_all(args, unknown)
        return unknown

    def _note(
        self, node: ast.Call, function: UnknownValue, args: list[Any], names: list[Any], keywords: dict[str, Any]
    ) -> None:
        first = args[0] if args and isinstance(args[0], str) else ""
        texts = tuple(name for name in names if isinstance(name, str))
        if not self._is_build or not (texts or first):
            return
        end = self._offset(node.func.end_lineno or 0, node.func.end_col_offset or 0)
        deps = self._deps(keywords["deps"]) if "deps" in keywords else EvaluatedDeps()
        self.targets.append(EvaluatedTarget(function.name, texts, first, deps, end))

    def _deps(self, value: Any) -> EvaluatedDeps:
        if isinstance(value, UnknownValue):
            return EvaluatedDeps((DepsTerm(((),), (value.what,)),))
        if isinstance(value, list):
            return EvaluatedDeps((self._term((value,)),))
        if isinstance(value, SumValue):
            return EvaluatedDeps(
                tuple(
                    self._term(part.branches, is_select=True) if isinstance(part, SelectValue) else self._term((part,))
                    for part in value.parts
                )
            )
        return EvaluatedDeps(flaw=_kind(value))

    def _term(self, branches: Sequence[Any], *, is_select: bool = False) -> DepsTerm:
        labels: list[tuple[str, ...]] = []
        unknown: list[str] = []
        for branch in branches:
            items = branch if isinstance(branch, (list, tuple)) else [] if branch is None else [branch]
            self._effort.spend(len(items))
            labels.append(tuple(item for item in items if isinstance(item, str)))
            others = [item for item in items if not isinstance(item, str)]
            unknown += [item.what if isinstance(item, UnknownValue) else _kind(item) for item in others]
        return DepsTerm(tuple(labels), tuple(unknown), is_select)

    # ---- places

    def _unknown(self, node: Any, name: str = "") -> UnknownValue:
        what = f"{name}, which is at {self._place(node)}" if name else f"what is written at {self._place(node)}"
        return UnknownValue(what, name, name.startswith("if_"))

    def _place(self, node: Any) -> str:
        return f"{self._source.name}:{node.lineno}:{node.col_offset + 1}"

    def _offset(self, line: int, column: int) -> int:
        """Where in the text a place of the syntax tree is, which counts columns in bytes."""
        self._effort.spend(column // values.STEP)
        start = self._lines[line - 1]
        bom = self._source.text.startswith("\ufeff") and line == 1
        start += bom
        piece = _plain(self._source.text[start : start + column])
        return start + len(piece.encode()[:column].decode("utf-8", "ignore"))


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    kinds = {str: "a text", tuple: "a tuple", dict: "a dict", bool: "True or False", int: "a number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "something other than a label")


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


# ---- from the text to the syntax tree


def _parsed(source: StarlarkSource) -> ast.Module:
    """The syntax tree of the text: Starlark's grammar is a part of Python's."""
    if len(source.text) > LARGEST_TEXT:
        raise BuildFileError(
            f"{source.name} has {len(source.text):,} characters, twenty times more than any of a serving tree.",
            cause="the file is damaged or malicious",
            cure="unpack the tree again",
        )
    try:
        check_nesting(source.text, source.name)
    except WorkspaceError as error:
        raise BuildFileError(error.what, cause=error.cause, cure=error.cure) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string doesn't matter here
            return ast.parse(_for_python(source))
    except SyntaxError as error:
        place = f"{source.name}:{error.lineno or 1}:{error.offset or 1}"
        raise _invalid(f"{place}: this is not a valid expression or statement ({error.msg}).") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _invalid(f"{source.name} is not a valid BUILD file ({error}).") from error


def _invalid(what: str) -> BuildFileError:
    return BuildFileError(
        what,
        cause="the file was changed by hand, or is damaged",
        cure="correct that line, or unpack the tree again; then run the same command again",
    )


def _for_python(source: StarlarkSource) -> str:
    """The text as Python reads it, each character at its place in its line."""
    pieces = []
    end = 0
    for token in source.tokens:
        if token.kind == "number" and _OCTAL.fullmatch(token.text):  # 0644, which Python refuses
            pieces += [source.text[end : token.start], "1" * len(token.text)]
            end = token.end
    text = "".join([*pieces, source.text[end:]]).removeprefix("\ufeff")
    return _plain(text).replace("\r\n", "\n").replace("\r", " ")


def _plain(text: str) -> str:
    """The text with one character in place of each byte that isn't UTF-8."""
    return _LONE_SURROGATE.sub("\ufffd", text)
