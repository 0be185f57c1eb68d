"""Each error says what happened in words of ours, and what to type next; seen in the package's own text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving import errors
from npu_serving.errors import NpuServingError

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, NpuServingError)
}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def without_cure(tree: ast.AST) -> list[int]:
    """The lines that make an error of ours without saying what to type next."""
    found = []
    for call in calls(tree):
        cures = [item.value for item in call.keywords if item.arg in ("cure", None)]
        empty = all(isinstance(value, ast.Constant) and not value.value for value in cures)
        if name_of(call) in CLASSES and empty:
            found.append(call.lineno)
    return found


def without_words(tree: ast.AST) -> list[int]:
    """The lines that raise an exception whose whole message is the text of another exception."""
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    made = [
        *(call for call in raised if name_of(call)[:1].isupper()),
        *(c for c in calls(tree) if name_of(c) in CLASSES),
    ]
    return [call.lineno for call in made if call.args and is_bare(call.args[0])]


def is_bare(message: ast.expr) -> bool:
    if isinstance(message, ast.JoinedStr):
        said = [part for part in message.values if isinstance(part, ast.Constant) and str(part.value).strip(" .:")]
        return not said and len(message.values) <= 2
    return isinstance(message, ast.Call) and name_of(message) in ("str", "repr")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_error_says_what_to_type_next(path: Path) -> None:
    assert without_cure(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_error_has_nothing_but_the_text_of_another_one(path: Path) -> None:
    assert without_words(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "missing", ["RequestError('no')", "RequestError('no', cure='')", "FetchError('no', cause='x')"]
)
def test_an_error_without_a_cure_would_be_seen(missing: str) -> None:
    assert without_cure(ast.parse(f"raise {missing}")) == [1]
    assert without_cure(ast.parse(f"x = {missing}")) == [1]


@pytest.mark.parametrize("bare", ["str(error)", "f'{error}'", "f'{error}.'"])
def test_a_bare_message_would_be_seen(bare: str) -> None:
    assert without_words(ast.parse(f"raise ValueError({bare})")) == [1]
    assert without_words(ast.parse(f"x = RequestError({bare}, cure='y')")) == [1]


def test_no_next_step_starts_a_server_that_only_the_cpu_would_answer_for() -> None:
    """`--model-base-path` alone does that, and a golden request like it: NpuOptimizer stands in the platform config."""
    texts = [
        node.value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    starting = [text for text in texts if "./inv serve --model-base-path" in text or "--record --" in text]
    assert len(starting) >= 3
    assert [text for text in starting if "--platform-config-file" not in text] == []
