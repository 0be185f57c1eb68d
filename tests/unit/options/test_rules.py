"""Each rule against what real adapters did (facts/adapter_runs.yaml), and what the guide forbids beside that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from npu_serving.findings import PROBLEM, Finding
from npu_serving.options.asked_options import (
    ENDS_THE_PROCESS,
    FAILS_THE_RUN,
    RUNS_ON_THE_CPU,
    AskedValue,
)
from npu_serving.options.rules import check_options

RUNS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "facts" / "adapter_runs.yaml").read_text(encoding="utf-8")
)
RELEASES = ("6.3.RC2.alpha003", "6.3.RC2", "9.0.0")
OUTCOMES = {"runs": "", "cpu": RUNS_ON_THE_CPU, "fails": FAILS_THE_RUN, "ends": ENDS_THE_PROCESS}
NOT_SHOWN_BY_OPTIONS = {
    "no NpuOptimizer at all": "the optimizer itself is looked for elsewhere",
    "dyn scalar 0": "only the model says how many inputs it has",
    "in_out_pair + mix flag false": "only the graph says what is between the operators",
    "shapes change": "it depends on the requests",
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "dump").mkdir()
    (tmp_path / "dumplink").symlink_to(tmp_path / "dump")
    (tmp_path / "a-file").touch()
    (tmp_path / "dumpdir").mkdir()
    return tmp_path


def asked(run: dict[str, Any], world: Path) -> dict[str, AskedValue]:
    """The options of a run; its files are those of this test."""
    return {
        name: str(world / value.removeprefix("/data/")) if str(value).startswith("/data/") else value
        for name, _, value in run["options"]
    }


def adapter_kinds(findings: list[Finding]) -> set[str]:
    kinds = {ENDS_THE_PROCESS, FAILS_THE_RUN, RUNS_ON_THE_CPU}
    assert all(finding.severity == PROBLEM for finding in findings if finding.kind in kinds)
    return {finding.kind for finding in findings} & kinds


@pytest.mark.parametrize("index", range(3), ids=RELEASES)
@pytest.mark.parametrize(
    "run", [run for run in RUNS if run["name"] not in NOT_SHOWN_BY_OPTIONS], ids=lambda run: run["name"]
)
def test_the_verdict_is_what_the_adapter_did(run: dict[str, Any], index: int, world: Path) -> None:
    found = check_options(asked(run, world), RELEASES[index], environment=run.get("environment", {}), directory=world)
    expected = OUTCOMES[run["outcomes"][index]]
    assert adapter_kinds(found) == ({expected} if expected else set()), found
    assert all(finding.cure and finding.where for finding in found)


def test_all_98_runs_are_there_and_what_no_option_shows_is_named() -> None:
    assert len(RUNS) == 98
    assert set(NOT_SHOWN_BY_OPTIONS) < {run["name"] for run in RUNS}


def test_without_a_release_only_what_holds_for_all_of_them_is_a_problem(world: Path) -> None:
    for run in RUNS:
        if run["name"] in NOT_SHOWN_BY_OPTIONS:
            continue
        found = check_options(asked(run, world), environment=run.get("environment", {}), directory=world)
        outcomes = {OUTCOMES[outcome] for outcome in run["outcomes"]}
        expected = outcomes if len(outcomes) == 1 else set()
        assert adapter_kinds(found) == expected - {""}, run["name"]
