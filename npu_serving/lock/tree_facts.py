"""What a serving tree says about itself in plain text: its version, and the commit of TensorFlow that it pins.

Nothing is evaluated, so both are known before anything was fetched. Whoever makes a lock and whoever looks for the lock
of a tree have to read the same facts, which is why they are read here only.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from npu_serving import fsutil
from npu_serving.facts import pinned_bazel
from npu_serving.version_numbers import version_of

VERSION_FILE = "tensorflow_serving/model_servers/version.h"
WORKSPACE_FILES = ("WORKSPACE", "WORKSPACE.bazel")
TENSORFLOW = "org_tensorflow"

_BAZEL_CHECK = re.compile(
    r"""^\s*(?:versions\.check|check_bazel_version_at_least)\(\s*["'](\d+(?:\.\d+)+)["']""", re.MULTILINE
)
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_PART = re.compile(r"^[ \t]*#[ \t]*define[ \t]+TF_MODELSERVER_(MAJOR|MINOR|PATCH)_VERSION[ \t]+(\d+)", re.MULTILINE)
# tensorflow_http_archive, git_repository and http_archive say it so; the first that names a commit counts.
_ATTRIBUTES = ("git_commit", "commit", "strip_prefix", "urls", "url")


def serving_version(tree: Path) -> str:
    """The version in the server's version.h, without its suffix, as the tag is called; empty where none can be read."""
    file = tree / VERSION_FILE
    if not file.is_file():
        return ""
    numbers = dict(_PART.findall(fsutil.read_text(file)))
    parts = [numbers.get(part, "") for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(parts) if all(parts) else ""


def bazel_version(tree: Path) -> str:
    """The Bazel that the tree asks for: in .bazelversion, else the least its WORKSPACE takes, else the pinned one."""
    file = tree / ".bazelversion"
    version = fsutil.read_text(file).strip().partition("\n")[0].strip() if file.is_file() else ""
    if re.fullmatch(r"\d+(\.\d+)+", version):
        return version
    asked: list[str] = [pinned_bazel(), *_BAZEL_CHECK.findall(_workspace_text(tree))]
    return max(asked, key=version_of)


def tensorflow_commit(tree: Path) -> str:
    """The commit of TensorFlow (40 hexadecimal digits) that the tree's WORKSPACE pins; empty where it names none.

    Of several declarations Bazel 0.24.1 takes the last one before the next load(). A name that stands for a text is
    looked up; one that a .bzl file declares is not found.
    """
    return _commit_in(_workspace_text(tree))


def _workspace_text(tree: Path) -> str:
    file = next((tree / name for name in WORKSPACE_FILES if (tree / name).is_file()), None)
    return fsutil.read_text(file) if file is not None else ""


def _commit_in(text: str) -> str:
    # A WORKSPACE is Starlark, whose grammar is a part of Python's.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string doesn't matter here
            module = ast.parse(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    values: dict[str, ast.expr] = {}
    found = ""
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            values.update({item.id: statement.value for item in statement.targets if isinstance(item, ast.Name)})
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            arguments = {item.arg: item.value for item in statement.value.keywords if item.arg}
            if found and isinstance(statement.value.func, ast.Name) and statement.value.func.id == "load":
                return found
            if "name" in arguments and TENSORFLOW in _texts(arguments["name"], values):
                found = _commit_among(arguments, values)
    return found


def _commit_among(arguments: Mapping[str, ast.expr], values: Mapping[str, ast.expr]) -> str:
    texts = (text for name in _ATTRIBUTES if name in arguments for text in _texts(arguments[name], values))
    return next((commit.group() for text in texts if (commit := _COMMIT.search(text))), "")


def _texts(expression: ast.expr, values: Mapping[str, ast.expr]) -> Iterator[str]:
    """The string literals in an expression; where it has a name of the file's, those of the name's value, once."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in values:
            rest = {name: value for name, value in values.items() if name != node.id}  # so that no circle is endless
            yield from _texts(values[node.id], rest)
