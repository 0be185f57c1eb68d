"""Each sentence of the guide about several options, and each refusal of the adapter: broken, and kept.

facts/constraints.yaml has the guide's 123 sentences, facts/refusals.yaml what TF Adapter's source refuses.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from npu_serving.options.asked_options import DEPRECATED, EFFECT
from npu_serving.options.catalogue import session_options
from npu_serving.options.explaining import explain
from npu_serving.options.rules import check_options

FACTS, TESTS = Path(__file__).parent / "facts", Path(__file__).parent.parent
ENDS = {"process": "ends-the-process", "session": "fails-the-run"}


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FACTS / name).read_text(encoding="utf-8"))
    return found


CONSTRAINTS, REFUSALS = rows("constraints.yaml"), rows("refusals.yaml")
ALL = [*CONSTRAINTS, *REFUSALS]


def name_of(row: dict[str, Any]) -> str:
    return f"{row['about']}: {row.get('says') or row['rule']}"


def found(row: dict[str, Any], options: str, directory: Path) -> set[tuple[str, str]]:
    """What is said of the option that the row is about, but for what holds whatever stands beside it."""
    environment = row.get("environment", {}) if options == "broken" else {}
    asked = {"use_off_line": True, "graph_run_mode": 0, **row[options]}
    findings = check_options(asked, row.get("release", "6.3.RC2"), environment=environment, directory=directory)
    assert all(each.cure for each in findings)
    said = {(each.kind, each.what) for each in findings if each.where == row.get("where", row["about"])}
    return {(kind, what) for kind, what in said if kind != DEPRECATED and "is for training" not in what}


def test_the_123_sentences_of_the_guide_are_there() -> None:
    assert len(CONSTRAINTS) == 123
    assert len({name_of(row) for row in CONSTRAINTS}) == 123
    assert {row["about"] for row in CONSTRAINTS} <= set(session_options())


def test_every_refusal_of_the_adapter_is_there() -> None:
    enforced = [(option.name, rule.when) for option in session_options().values() for rule in option.enforced]
    assert sorted((row["about"], row["rule"]) for row in REFUSALS) == sorted(enforced)


@pytest.mark.parametrize("row", [row for row in ALL if "broken" in row], ids=name_of)
def test_what_breaks_it_has_a_finding_and_what_keeps_it_has_none(row: dict[str, Any], tmp_path: Path) -> None:
    broken, kept = found(row, "broken", tmp_path), found(row, "kept", tmp_path)
    if "rule" in row:
        rule = next(each for each in session_options()[row["about"]].enforced if each.when == row["rule"])
        assert ENDS[rule.ends] in {kind for kind, _ in broken}
        assert not {kind for kind, _ in kept} & set(EFFECT)
    else:
        assert broken - kept
        assert kept == set()


@pytest.mark.parametrize("row", [row for row in ALL if "explained" in row], ids=name_of)
def test_what_no_file_shows_is_said_by_explain(row: dict[str, Any]) -> None:
    assert row["explained"] in " ".join(explain(row["about"]).text().split())


@pytest.mark.parametrize("row", [row for row in ALL if "shown_by" in row], ids=name_of)
def test_what_takes_a_model_has_a_test_of_its_own(row: dict[str, Any]) -> None:
    file, _, name = row["shown_by"].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
