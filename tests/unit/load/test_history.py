"""The runs that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from load_runs import level, run

from npu_serving import fsutil
from npu_serving.errors import DocumentError, NpuServingError
from npu_serving.load.history import keep_run, read_run


def test_a_run_that_was_kept_is_read_back_and_all_its_files_are_there(tmp_path: Path) -> None:
    kept = keep_run(run(level(1), level(2)), tmp_path)
    assert read_run(tmp_path / "load-tests" / f"{kept.run.id}.json") == kept.run
    assert sorted(map(str, kept.directory.iterdir())) == sorted(kept.to_json()["files"])
    assert kept.text().endswith(f"Report: {kept.report}")


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
