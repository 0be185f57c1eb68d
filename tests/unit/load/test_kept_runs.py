"""The runs that are kept: found by name, and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from load_runs import level, run

from npu_serving.errors import DocumentError, RequestError
from npu_serving.load.kept_runs import find_run, list_kept_runs
from npu_serving.load.results import LoadRun

OLD, NEW = "20261128-120000-m", "20261129-090000-m"


def kept(build: Path, run: LoadRun) -> Path:
    path = build / "load-tests" / f"{run.id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(run.to_json()), encoding="utf-8")
    return path


@pytest.fixture
def build(tmp_path: Path) -> Path:
    kept(tmp_path, run(id=OLD))
    kept(tmp_path, run(level(1), level(2), id=NEW))
    return tmp_path


def test_a_run_is_found_by_its_id_by_its_place_and_by_its_file(
    build: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert find_run("latest", build).id == find_run(NEW, build).id == NEW
    assert find_run("previous", build).id == find_run(OLD, build).id == OLD
    elsewhere = kept(build / "load-tests", run(id="x"))
    assert find_run(str(elsewhere), build).id == "x"


def test_a_mistyped_id_is_answered_with_the_nearest(build: Path) -> None:
    with pytest.raises(RequestError) as caught:
        find_run("20261129-09000-m", build)
    assert caught.value.cause == f"mistyped: there is {NEW}"
    assert caught.value.cure.startswith("./inv list-runs ")


def test_without_two_runs_there_is_no_previous_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no latest load test"):
        find_run("latest", tmp_path)
    kept(tmp_path, run(id=OLD))
    with pytest.raises(RequestError, match="There is no previous load test"):
        find_run("previous", tmp_path)


def test_the_list_has_every_load_the_newest_run_first_and_names_what_is_damaged(build: Path) -> None:
    (build / "load-tests" / "20261130-000000-m.json").write_text("{", encoding="utf-8")
    found = list_kept_runs(build)
    assert [each.id for each in found.runs] == [NEW, OLD]
    lines = found.text().splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [NEW, "", OLD, lines[-1]]
    assert lines[-1].startswith("damaged: ")
    assert json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(DocumentError):
        find_run("latest", build)


def test_where_nothing_was_run_the_next_step_is_said(tmp_path: Path) -> None:
    assert list_kept_runs(tmp_path).text().endswith("./inv load-test MODEL makes one")
