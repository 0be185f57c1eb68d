"""The runs that are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from load_runs import level, run

from npu_serving import fsutil
from npu_serving.errors import DocumentError, NpuServingError
from npu_serving.load.history import keep_run, read_run
from npu_serving.load.thresholds import hold_against, parse_threshold


def test_a_run_that_was_kept_is_read_back_and_all_its_files_are_there(tmp_path: Path) -> None:
    kept = keep_run(run(level(1), level(2)), tmp_path)
    assert read_run(tmp_path / "load-tests" / f"{kept.run.id}.json") == kept.run
    files = [Path(str(name)) for name in kept.to_json()["files"]]
    assert all(path.is_file() for path in files)
    assert sorted(files) == sorted((tmp_path / "load-tests").iterdir())


def test_a_file_with_a_damaged_histogram_is_refused_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    kept = run()
    text = json.dumps(kept.to_json()).replace(str(kept.levels[0].histogram), "SGVsbG8=")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError, match=r"levels\[0\]\.histogram: must be a histogram as HdrHistogram writes it"):
        read_run(path)


@pytest.mark.parametrize("fails_at", range(4))
def test_a_run_whose_files_could_not_all_be_written_is_none_of_the_history(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = fsutil.write_file

    def failing(path: Path, data: str) -> bool:
        if len(written) == fails_at:
            raise NpuServingError("The disk is full.")
        written.append(path)
        return write(path, data)

    monkeypatch.setattr(fsutil, "write_file", failing)
    with pytest.raises(NpuServingError, match="disk is full"):
        keep_run(run(), tmp_path)
    assert list((tmp_path / "load-tests").glob("*.json")) == []


def test_a_person_sees_errors_thresholds_and_why_a_run_is_not_valid(tmp_path: Path) -> None:
    busy = replace(level(), errors={"busy": 12})
    found = run(busy, valid=False, reasons=("the sender used all of its processors",))
    found = replace(found, thresholds=tuple(hold_against([parse_threshold("errors.busy>0")], found)))
    text = keep_run(found, tmp_path).text()
    assert "8 at once" in text
    assert "the server's queue was full" in text
    assert "EXCEEDED" in text
    assert "This run is not valid:\nthe sender used all of its processors\nReport: " in text
