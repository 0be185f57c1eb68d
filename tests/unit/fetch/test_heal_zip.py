"""A zip that was only deflated anew becomes again what `git archive` wrote; any other stays what it is."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from npu_serving.fetch import heal
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.heal_zip import deflate_again
from npu_serving.fetch.importing import import_directory
from npu_serving.lock.lockfile import Archive


@pytest.fixture(scope="module")
def of_git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip that git makes of a tree with a text, a program, a link, an empty file and one that can't be deflated."""
    root = tmp_path_factory.mktemp("git")
    tree = root / "tree"
    (tree / "deeper/ünd").mkdir(parents=True)
    words = random.Random(1)
    (tree / "text").write_text("".join(words.choice("abcdefgh \n") for _ in range(200_000)))
    (tree / "program").write_text("#!/bin/sh\nexit\n" * 50)
    (tree / "program").chmod(0o755)
    (tree / "link").symlink_to("text")
    (tree / "empty").touch()
    (tree / "deeper/ünd/random").write_bytes(words.randbytes(5000))
    who = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e"}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "TZ": "America/Los_Angeles"}
    for words_of_git in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-q", "-m", "all"],
        ["archive", "--format=zip", "--prefix=thing-1.0/", "-o", str(root / "pinned.zip"), "HEAD"],
    ):
        subprocess.run(["git", *words_of_git], cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    return root / "pinned.zip"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("level", [0, 1, 4])
def test_a_zip_of_git_that_was_deflated_otherwise_is_healed(of_git: Path, tmp_path: Path, level: int) -> None:
    assert deflate_again(of_git, tmp_path / "anew.zip", level=level)
    assert (tmp_path / "anew.zip").read_bytes() != of_git.read_bytes()
    with zipfile.ZipFile(tmp_path / "anew.zip") as packed:
        assert packed.testzip() is None
    healed = heal.heal(tmp_path / "anew.zip", sha256(of_git).__eq__, tmp_path)
    assert healed is not None
    assert healed.read_bytes() == of_git.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["anew.zip", healed.name])


def test_such_a_zip_is_recognised_when_it_was_fetched_by_hand(of_git: Path, tmp_path: Path) -> None:
    (tmp_path / "by hand").mkdir()
    deflate_again(of_git, tmp_path / "by hand" / "x.zip", level=1)
    pinned = Archive("thing", "http_archive", ("https://a.example/v1.zip",), sha256(of_git), strip_prefix="thing-1.0")
    store = ContentStore(tmp_path / "store")
    report = import_directory(tmp_path / "by hand", [pinned], store)
    assert [item.healed for item in report.recognised] == [True]
    assert store.path(sha256(of_git)).read_bytes() == of_git.read_bytes()


def test_a_zip_with_another_content_is_not_healed(of_git: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(of_git) as old, zipfile.ZipFile(tmp_path / "other.zip", "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info).replace(b"exit", b"evil"))
    assert heal.heal(tmp_path / "other.zip", sha256(of_git).__eq__, tmp_path) is None


@pytest.mark.parametrize("keep", [10, 1000, -1, -30])
def test_a_damaged_zip_is_not_healed_and_is_no_traceback(of_git: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.zip").write_bytes(of_git.read_bytes()[:keep])
    assert heal.heal(tmp_path / "cut.zip", sha256(of_git).__eq__, tmp_path) is None
