"""What the messages of a kit say to type: its own commands, which it takes, or who has what it does not have."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from npu_serving.relink_kit import main as main_module
from npu_serving.relink_kit.own_words import OwnWords
from npu_serving.relink_kit.program_files import program_files

KIT = "/srv/a kit.pyz"
OWN = OwnWords(KIT, ["--dist", "/srv/serving"])
TYPED = re.compile(r"python3 '/srv/a kit\.pyz' ([^\n;,():]*)")
ELSEWHERE = re.compile(r"\./inv [^()]*\((?:on the machine that made this kit|where npu-serving is installed)\)")


def _texts(node: ast.AST) -> Iterator[str]:
    """Every text in the code that names a task; what is filled in is one word."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        else:
            yield from _texts(child)


def _in_table(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, (list, dict)):
        for each in document.values() if isinstance(document, dict) else document:
            yield from _in_table(each)


def messages() -> list[str]:
    """All that the program of a kit could say of the project's tasks."""
    found: set[str] = set()
    for name, data in program_files().items():
        if name.startswith("program/npu_serving") and name.endswith(".py"):
            found.update(_texts(ast.parse(data)))
        elif name.endswith(".yaml"):
            found.update(_in_table(yaml.safe_load(data)))
    return sorted(text for text in found if re.search(r"\./inv [a-z]|python3 FILE", text))


def _is_taken(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    """Whether the kit's program takes the command at the beginning of these words; prose follows it."""
    end, valued = 1, ("--dist", "--build", "--linker", "--adapter", "--install-link")
    while end < len(words) and (words[end].startswith("--") or words[end - 1] in valued):
        end += 1
    try:
        parser.parse_args([word.strip(".,;:()") for word in words[:end]])
    except SystemExit:
        return False
    return True


def test_every_command_that_a_kit_says_to_type_is_one_that_it_takes_or_is_said_to_be_somebody_elses() -> None:
    parser = main_module._parser(KIT)
    assert len(messages()) > 50
    for text in messages():
        said = str(OWN.of(text))
        for command in TYPED.findall(said):
            assert _is_taken(parser, command.split()), (text, said)
        assert "./inv " not in ELSEWHERE.sub("", said), (text, said)
        assert "python3 FILE" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("./inv rebuild-after-cann", "python3 '/srv/a kit.pyz' relink --dist /srv/serving"),
        ("now: ./inv rollback --build ID.", "now: python3 '/srv/a kit.pyz' rollback --dist /srv/serving --build ID."),
        ("then ./inv verify-serving again", "then python3 '/srv/a kit.pyz' verify --dist /srv/serving again"),
        (
            "./inv build-serving --runner docker, whose image",
            "./inv build-serving --runner docker (on the machine that made this kit), whose image",
        ),
        (
            "./inv verify-serving --explain _ZN3 shows who; ./inv cann-info",
            "./inv verify-serving --explain _ZN3 (where npu-serving is installed) shows who; "
            "./inv cann-info (where npu-serving is installed)",
        ),
        ("./inv status MODEL; then", "./inv status MODEL (where npu-serving is installed); then"),
        ("(./inv list-builds shows all)", "(ls /srv/serving shows all)"),
        ("(python3 FILE show names them)", "(python3 '/srv/a kit.pyz' show names them)"),
    ],
)
def test_a_command_is_said_whole_with_the_place_that_was_typed(text: str, said: str) -> None:
    assert OWN.of({"cure": [text]}) == {"cure": [said]}
