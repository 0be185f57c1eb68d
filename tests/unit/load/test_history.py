"""The runs that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from load_runs import run

from npu_serving.errors import DocumentError
from npu_serving.load.history import keep_run, read_run


def test_a_run_that_was_kept_is_read_back(tmp_path: Path) -> None:
    kept = run()
    path = keep_run(kept, tmp_path)
    assert path == tmp_path / "load-tests" / f"{kept.id}.json"
    assert read_run(path) == kept


def test_a_file_with_a_damaged_histogram_is_refused_by_its_place(tmp_path: Path) -> None:
    kept = run()
    path = keep_run(kept, tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace(str(kept.levels[0].histogram), "SGVsbG8="), encoding="utf-8"
    )
    with pytest.raises(DocumentError, match=r"levels\[0\]\.histogram: must be a histogram as HdrHistogram writes it"):
        read_run(path)
