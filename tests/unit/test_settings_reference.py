"""The reference of settings: whatever a cure names is shown in it, under that name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from npu_serving.settings import PROJECT_ROOT, table_of
from npu_serving.settings_reference import Reference

NAMED = re.compile(r"(?<![\w./-])([a-z]+(?:_[a-z]+)+)(?![\w./(=-])")
BEFORE_THE_FILE = re.compile(r"\b([a-z_]+) in invoke\.yaml")
WORDS = {"paths", "set", "key", "it", "them", "setting", "value", "that"}
"""What stands before "in invoke.yaml" without being the name of a setting."""


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the package, f-strings with their gaps: where it stands, and the text."""
    for path in sorted((PROJECT_ROOT / "npu_serving").rglob("*")):
        where = str(path.relative_to(PROJECT_ROOT))
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    pieces = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    yield f"{where}:{node.lineno}", "".join(map(str, pieces))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{where}:{node.lineno}", node.value
        elif path.suffix == ".yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield from ((where, text) for text in strings_of(document))


def strings_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in strings_of(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in strings_of(item))


def named_settings() -> dict[str, str]:
    """The settings that texts about invoke.yaml name: the name, and one place."""
    found: dict[str, str] = {}
    for where, text in texts():
        if "invoke.yaml" not in text:
            continue
        for sentence in re.split(r"[;\n]", text):
            if "invoke.yaml" in sentence and "settings_reference" not in where:
                found |= dict.fromkeys(NAMED.findall(sentence), where)
                found |= dict.fromkeys(BEFORE_THE_FILE.findall(sentence), where)
    return {name: where for name, where in found.items() if name not in WORDS}


def test_the_cures_that_the_issue_of_the_real_build_met_are_among_those_that_are_looked_at() -> None:
    assert {"python_bin", "python_prefix", "bazel_args", "build_root", "memory_mb"} <= set(named_settings())


@pytest.mark.parametrize("name", sorted(named_settings()))
def test_each_setting_that_a_cure_names_is_shown_in_the_reference_with_what_it_is_for(name: str) -> None:
    assert name in table_of(), f"{named_settings()[name]} names it"
    shown = Reference().text().splitlines()
    (at,) = [number for number, line in enumerate(shown) if line.startswith(f"  {name}:")]
    assert shown[at - 1].startswith("  # ")
    assert f"  {name}:" in (PROJECT_ROOT / "invoke.yaml").read_text()
