"""The digest of a source tree: what is in its way is named, and a memo of any shape costs time only."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from npu_serving.building.tree_digest import tree_digest
from npu_serving.errors import FileAccessError, SourceError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("one")
    (tmp_path / "tree" / "sub" / "b").write_text("two")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "entry", [5, None, "text", [], [1], [[1, 2, 3, 4]], {"x": 1}, [[1, 2, 3, 4], 5], [[1, 2, 3, 4], "x", "y"]]
)
def test_a_memo_of_another_shape_costs_time_only(tree: Path, tmp_path: Path, entry: object) -> None:
    memo = tmp_path / "memo"
    first = tree_digest(tree)
    memo.write_text(json.dumps({"a": entry, "gone": entry}))
    assert tree_digest(tree, memo) == first
    assert json.loads(memo.read_text()).keys() == {"a", "sub/b"}


def test_a_pipe_or_a_socket_is_named_and_not_waited_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "sub" / "a pipe")
    with pytest.raises(SourceError, match="a pipe is a pipe"):
        tree_digest(tree)
    (tree / "sub" / "a pipe").unlink()
    monkeypatch.chdir(tree)  # the name of a socket may be a hundred bytes long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("a socket")
        with pytest.raises(SourceError, match="a socket is a pipe, a socket"):
            tree_digest(tree)


def test_a_directory_that_can_not_be_read_is_named_and_not_skipped(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_scan = os.scandir

    def scan(path: str) -> object:  # root may read everything, so the refusal is put here
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return really_scan(path)

    monkeypatch.setattr("os.scandir", scan)
    with pytest.raises(FileAccessError, match="sub could not be read"):
        tree_digest(tree)


def test_a_tree_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="nowhere"):
        tree_digest(tmp_path / "nowhere")


def test_a_trees_digest_depends_on_contents_names_links_and_modes_and_on_nothing_else(tmp_path: Path) -> None:
    tree, memo = tmp_path / "tree", tmp_path / "memo"
    tree.mkdir()
    (tree / "a").write_text("one")
    (tree / "link").symlink_to("a")
    first = tree_digest(tree, memo)
    os.utime(tree / "a", (1, 1))
    assert tree_digest(tree, memo) == first
    shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    assert tree_digest(tmp_path / "copy", tmp_path / "memo2") == first
    digests = {first}
    (tree / "a").chmod(0o755)
    digests.add(tree_digest(tree, memo))
    (tree / "a").write_text("two")
    digests.add(tree_digest(tree, memo))
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")
    digests.add(tree_digest(tree, memo))
    (tree / "new\nname").write_text("")
    digests.add(tree_digest(tree, memo))
    assert len(digests) == 5


def test_a_damaged_memo_is_no_obstacle(tmp_path: Path) -> None:
    tree, memo = tmp_path / "tree", tmp_path / "memo"
    tree.mkdir()
    (tree / "a").write_text("one")
    first = tree_digest(tree, memo)
    memo.write_text("{")
    assert tree_digest(tree, memo) == first
