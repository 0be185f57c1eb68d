"""Files that are kept, and the oldest of them removed."""

from __future__ import annotations

import os
from pathlib import Path

from npu_serving.building.newest_files import MOST_KEPT, newest_files, remove_oldest


def test_the_newest_come_first_and_the_oldest_of_many_go(tmp_path: Path) -> None:
    for number in range(MOST_KEPT + 3):
        (tmp_path / f"{number}.json").write_text("")
        os.utime(tmp_path / f"{number}.json", ns=(number, number))
    (tmp_path / "note").write_text("of another kind")
    assert [path.stem for path in newest_files(tmp_path)] == [str(n) for n in reversed(range(MOST_KEPT + 3))]
    remove_oldest(tmp_path)
    assert [path.stem for path in newest_files(tmp_path)] == [str(n) for n in reversed(range(3, MOST_KEPT + 3))]
    assert (tmp_path / "note").exists()


def test_there_may_be_none_and_one_that_another_run_removes_meanwhile_is_passed_over(tmp_path: Path) -> None:
    assert newest_files(tmp_path / "none") == []
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "here.json").write_text("")
    assert newest_files(tmp_path) == [tmp_path / "here.json"]
