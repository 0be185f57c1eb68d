"""The check of `./inv lint` on words: what a person reads is written in plain English (plain_words.yaml has the list).

`python -m npu_serving.plain_words` prints FILE:LINE: WORD → what to write, and leaves with 1 where it found any.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("plain_words.yaml")
PLACES = (
    "inv", "invoke.yaml", "tasks.py", "*.md", "docs/**/*.md",
    "npu_serving/**/*.py", "npu_serving/**/*.yaml", "bench/*.py", "docker/**/*", "templates/**/*", ".ci/*",
)  # fmt: skip


@dataclass(frozen=True)
class Word:
    """One entry of the list: what is refused, what to write in its place, and an example of each."""

    pattern: str
    instead: str
    refuses: str
    allows: str = ""

    @functools.cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern between word boundaries, with any white space for each space."""
        # A look-behind is of fixed width, so a space in one stays a single white space.
        spaced = re.sub(r"(\(\?<[!=][^)]*\))| ", lambda found: (found[1] or r"\s+").replace(" ", r"\s"), self.pattern)
        return re.compile(rf"(?<![\w-])(?:{spaced})(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Passage:
    """A text that a person reads, and the line on which it begins."""

    line: int
    text: str


@dataclass(frozen=True, order=True)
class RefusedWord:
    """A refused word in a file; `path` is relative to the project."""

    path: str
    line: int
    word: str
    instead: str

    def text(self) -> str:
        """The line that lint prints."""
        return f"{self.path}:{self.line}: {self.word!r} → {self.instead}"


@functools.cache
def words() -> tuple[Word, ...]:
    """The list of plain_words.yaml."""
    return tuple(Word(**entry) for entry in _table()["words"])


def check_project(root: Path = PROJECT_ROOT) -> list[RefusedWord]:
    """The refused words in everything that a person reads, but for the files that the list exempts."""
    exempt = _table()["exempt"]
    files = {path for pattern in PLACES for path in root.glob(pattern) if path.is_file() and path != TABLE}
    names = sorted(path.relative_to(root).as_posix() for path in files)
    return [
        found for name in names if name not in exempt for found in check_text(name, (root / name).read_text("utf-8"))
    ]


def check_text(path: str, text: str) -> list[RefusedWord]:
    """The refused words in a file of that name: of Python its strings, comments and names, else all of it."""
    passages = _python_passages(text) if path.endswith(".py") else [Passage(1, text)]
    lines = text.split("\n")
    return sorted(
        {
            RefusedWord(path, _line_of(match, passage, lines), " ".join(match[0].split()), word.instead)
            for passage in passages
            for word in words()
            for match in word.regex.finditer(passage.text)
        }
    )


def _python_passages(text: str) -> Iterator[Passage]:
    yield from _strings(ast.parse(text))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.start[0], token.string)


def _strings(tree: ast.AST) -> Iterator[Passage]:
    """The string literals, f-strings as one text each, and the names of functions and classes as words."""
    if isinstance(tree, ast.JoinedStr):
        yield Passage(tree.lineno, "".join(_part_text(item) for item in tree.values))
        tree_children: Iterable[ast.AST] = (item for item in tree.values if not isinstance(item, ast.Constant))
    else:
        tree_children = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield Passage(tree.lineno, tree.value)
    if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield Passage(tree.lineno, tree.name.replace("_", " ").strip())
    for child in tree_children:
        yield from _strings(child)


def _part_text(part: ast.expr) -> str:
    """A piece of an f-string: its text, or {} for a value and {!r} for a quoted one."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return "{!r}" if isinstance(part, ast.FormattedValue) and part.conversion == ord("r") else "{}"


def _line_of(match: re.Match[str], passage: Passage, lines: list[str]) -> int:
    """The line of the file on which the match begins, as far as it can be found there as it is written."""
    at_most = passage.line + passage.text.count("\n", 0, match.start()) + 20
    first_word = match[0].split()[0]
    after = passage.line - 1 + passage.text.count("\n", 0, match.start())
    found = (number for number in range(after, min(at_most, len(lines))) if first_word in lines[number])
    return next(found, after) + 1


@functools.cache
def _table() -> dict[str, Any]:
    import yaml

    document: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return document


def main() -> None:
    """Prints what was found, and leaves with 1 where that is anything."""
    found = check_project()
    for item in found:
        print(item.text())
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
