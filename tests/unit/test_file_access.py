"""Files that this user may not read: who refuses, and what opens them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu_serving import file_access


@pytest.fixture
def shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that its group may enter, seen by a user of another group."""
    path = tmp_path / "shut"
    path.mkdir()
    path.chmod(0o750)
    monkeypatch.setattr(os, "getegid", lambda: 54321)
    monkeypatch.setattr(os, "getgroups", lambda: [])
    return path


def cure_with_group(path: Path, group: int, monkeypatch: pytest.MonkeyPatch) -> str:
    fields = list(path.stat())
    fields[5] = group
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda _path: os.stat_result(fields))
        return file_access.cure_for(path)


def test_a_group_that_may_read_it_is_to_be_joined(shut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cure = cure_with_group(shut, 23456, monkeypatch)
    assert cure.startswith("sudo usermod -aG 23456 ")
    assert "--group-add 23456" in cure


def test_nobody_is_sent_into_the_group_of_root(shut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What root's group may read goes far beyond CANN."""
    assert "usermod" not in cure_with_group(shut, 0, monkeypatch)


def test_the_first_directory_that_refuses_is_named_and_none_where_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    file = inner / "file"
    assert file_access.refused_at(file) is None
    file.touch()
    assert file_access.refused_at(file) is None
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) not in (inner, tmp_path / "one"))
    assert file_access.refused_at(file) == tmp_path / "one"
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != file)
    assert file_access.refused_at(file) == file
