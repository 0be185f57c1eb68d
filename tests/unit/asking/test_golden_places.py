"""Where golden requests may be."""

from __future__ import annotations

from pathlib import Path

from npu_serving.asking.golden_places import FORMER, golden_directory, may_have_golden_requests


def test_there_may_be_some_in_the_directory_and_in_the_single_file_of_before(tmp_path: Path) -> None:
    assert not may_have_golden_requests(tmp_path)
    (tmp_path / FORMER).write_text("{}")
    assert may_have_golden_requests(tmp_path)
    (tmp_path / FORMER).unlink()
    golden_directory(tmp_path).mkdir()
    assert may_have_golden_requests(tmp_path)
