"""The content store and the distdir: only verified bytes, no surprises, quick when nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.errors import PinMismatchError, RequestError
from npu_serving.fetch.content_store import PLACED_NAME, ContentStore

DATA = b"the bytes of an archive\n" * 100
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = b"other bytes"
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()


@dataclass(frozen=True)
class Item:
    file_name: str
    sha256: str | None


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "store")


@pytest.fixture
def distdir(tmp_path):
    return tmp_path / "dist dir"


def file_with(path: Path, data: bytes = DATA) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def filled(store, tmp_path):
    store.adopt(file_with(tmp_path / "a"), SHA)
    store.adopt(file_with(tmp_path / "b", OTHER), OTHER_SHA)
    return store


def test_the_layout_is_that_of_bazels_repository_cache(filled, tmp_path):
    assert (tmp_path / "store/content_addressable/sha256" / SHA / "file").read_bytes() == DATA


def test_a_run_that_was_killed_while_it_took_a_file_in_leaves_nothing_for_good(store, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from npu_serving import fsutil;"
        "from npu_serving.fetch.content_store import ContentStore;"
        "fsutil.copy_file = lambda source, path, mode: (path.write_bytes(b'half'), os.kill(os.getpid(), 9));"
        "ContentStore(Path(sys.argv[1])).adopt(Path(sys.argv[2]), 64 * '0')"
    )
    (tmp_path / "one").write_bytes(b"one")
    killed = subprocess.run([sys.executable, "-c", code, store.root, tmp_path / "one"], check=False)
    assert killed.returncode == -9
    assert [path.read_bytes() for path in store.partial.rglob("*") if path.is_file()] == [b"half"]
    with fsutil.scratch_directory(store.partial) as of_a_living_run:
        store.adopt(tmp_path / "one", hashlib.sha256(b"one").hexdigest())
        assert list(store.partial.iterdir()) == [of_a_living_run]


def test_a_file_with_other_bytes_is_not_adopted(store, tmp_path):
    with pytest.raises(PinMismatchError, match=OTHER_SHA):
        store.adopt(file_with(tmp_path / "a", OTHER), SHA)
    assert not store.has(SHA)


def test_an_adopted_file_is_a_copy_that_its_owner_may_change(store, tmp_path):
    file = file_with(tmp_path / "a")
    store.adopt(file, SHA)
    file.write_bytes(b"changed")
    assert store.has(SHA, verify=True)


def test_a_damaged_file_is_noticed_and_stays_until_it_is_to_be_replaced(filled):
    filled.path(SHA).write_bytes(b"damaged")
    store = ContentStore(filled.root)
    check = store.check([SHA, OTHER_SHA])
    assert check.damaged == (SHA,)
    assert check.present == (OTHER_SHA,)
    assert filled.path(SHA).read_bytes() == b"damaged"
    assert store.remove_damaged(SHA)
    assert not filled.path(SHA).exists()
    assert list(store.partial.iterdir()) == []


def test_a_right_file_and_one_that_is_not_there_are_not_removed(filled):
    assert not filled.remove_damaged(SHA)
    assert filled.has(SHA, verify=True)
    assert not filled.remove_damaged("f" * 64)


def test_right_bytes_that_another_run_put_there_meanwhile_are_not_removed_as_damaged(filled, tmp_path, monkeypatch):
    place = filled.path(SHA)
    place.write_bytes(b"damaged")
    really_rename = os.rename

    def rename(source, target):
        if source == place:  # the last moment in which another run can put the right bytes there
            ContentStore(filled.root).adopt(file_with(tmp_path / "fresh"), SHA)
        really_rename(source, target)

    monkeypatch.setattr("os.rename", rename)
    assert not filled.remove_damaged(SHA)
    assert place.read_bytes() == DATA


def test_a_file_that_vanishes_while_it_is_looked_at_is_missing(filled, monkeypatch):
    really_hash = fsutil.sha256_of

    def vanish(path):
        path.unlink()
        return really_hash(path)

    monkeypatch.setattr("npu_serving.fsutil.sha256_of", vanish)
    assert filled.check([SHA], verify=True).missing == (SHA,)


def test_damage_that_left_size_and_time_alone_is_found_by_verify(filled):
    before = filled.path(SHA).stat()
    filled.path(SHA).write_bytes(DATA.replace(b"bytes", b"bitez"))
    os.utime(filled.path(SHA), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert filled.has(SHA)
    assert not filled.has(SHA, verify=True)


def test_an_untouched_file_is_not_read_again(filled, monkeypatch):
    monkeypatch.setattr("npu_serving.fsutil.sha256_of", lambda path: pytest.fail("it was read"))
    assert ContentStore(filled.root).check([SHA, OTHER_SHA]).present == (SHA, OTHER_SHA)


def test_a_file_that_bazel_put_there_is_verified_once_and_taken(store, monkeypatch):
    store.path(SHA).parent.mkdir(parents=True)
    store.path(SHA).write_bytes(DATA)
    assert store.has(SHA)
    monkeypatch.setattr("npu_serving.fsutil.sha256_of", lambda path: pytest.fail("it was read"))
    assert ContentStore(store.root).has(SHA)


@pytest.mark.parametrize("memo", ["", "[]", "{", '{"x": 1}', '{"x": ["a", 2, 3]}', "null"])
def test_a_memo_that_cannot_be_read_costs_nothing_but_time(filled, memo):
    (filled.root / "memo.json").write_text(memo)
    assert ContentStore(filled.root).check([SHA, OTHER_SHA]).missing == ()


def test_a_lying_memo_does_not_make_a_missing_file_present(filled):
    filled.path(SHA).unlink()
    assert ContentStore(filled.root).check([SHA]).missing == (SHA,)


def test_a_digest_that_is_none_is_refused(store):
    for text in ("", "..", "../" * 20, SHA.upper(), SHA + "0"):
        with pytest.raises(RequestError):
            store.path(text)


def test_archives_get_their_names_as_hard_links(filled, distdir):
    placement = filled.place([Item("a.tar.gz", SHA), Item("b.zip", OTHER_SHA), Item("c.zip", "f" * 64)], distdir)
    assert placement.added == ("a.tar.gz", "b.zip")
    assert (distdir / "a.tar.gz").samefile(filled.path(SHA))
    assert not (distdir / "c.zip").exists()


def test_placing_a_second_time_changes_nothing(filled, distdir):
    filled.place([Item("a.tar.gz", SHA)], distdir)
    before = {path.name: path.stat().st_mtime_ns for path in distdir.iterdir()}
    assert not filled.place([Item("a.tar.gz", SHA)], distdir).changed
    assert {path.name: path.stat().st_mtime_ns for path in distdir.iterdir()} == before


@pytest.mark.parametrize("wrong", [b"", DATA[:100], OTHER])
def test_a_truncated_or_wrong_file_in_the_distdir_is_replaced(filled, distdir, wrong):
    distdir.mkdir()
    (distdir / "a.tar.gz").write_bytes(wrong)
    assert filled.place([Item("a.tar.gz", SHA)], distdir).replaced == ("a.tar.gz",)
    assert (distdir / "a.tar.gz").read_bytes() == DATA


def test_a_link_in_the_distdir_is_replaced_and_what_it_points_to_stays(filled, distdir, tmp_path):
    distdir.mkdir()
    elsewhere = file_with(tmp_path / "elsewhere", b"mine")
    (distdir / "a.tar.gz").symlink_to(elsewhere)
    filled.place([Item("a.tar.gz", SHA)], distdir)
    assert (distdir / "a.tar.gz").read_bytes() == DATA
    assert not (distdir / "a.tar.gz").is_symlink()
    assert elsewhere.read_bytes() == b"mine"


def test_a_directory_in_the_way_is_named(filled, distdir):
    (distdir / "a.tar.gz").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"a\.tar\.gz is a directory"):
        filled.place([Item("a.tar.gz", SHA)], distdir)


def test_names_of_an_earlier_lock_are_taken_away_and_files_of_others_stay(filled, distdir):
    filled.place([Item("old.tar.gz", SHA), Item("b.zip", OTHER_SHA)], distdir)
    (distdir / "mine.txt").write_text("mine")
    placement = filled.place([Item("new.tar.gz", SHA), Item("b.zip", OTHER_SHA)], distdir)
    assert placement.removed == ("old.tar.gz",)
    assert sorted(path.name for path in distdir.iterdir()) == [PLACED_NAME, "b.zip", "mine.txt", "new.tar.gz"]


def test_a_name_of_ours_that_somebody_gave_other_bytes_is_not_taken_away(filled, distdir):
    filled.place([Item("old.tar.gz", SHA)], distdir)
    (distdir / "old.tar.gz").unlink()
    (distdir / "old.tar.gz").write_bytes(b"mine")
    assert filled.place([Item("new.tar.gz", SHA)], distdir).removed == ()
    assert (distdir / "old.tar.gz").read_bytes() == b"mine"


def test_a_record_of_placed_names_cannot_make_us_remove_anything_elsewhere(filled, distdir, tmp_path):
    distdir.mkdir()
    victim = file_with(tmp_path / "victim")
    status = victim.stat()
    entry = {"sha256": SHA, "was": [status.st_size, status.st_mtime_ns, status.st_ino]}
    (distdir / PLACED_NAME).write_text(json.dumps({"../victim": entry, str(victim): entry}))
    filled.place([Item("a.tar.gz", SHA)], distdir)
    assert victim.exists()


def test_damage_done_through_the_distdir_is_noticed(filled, distdir):
    filled.place([Item("a.tar.gz", SHA)], distdir)
    with (distdir / "a.tar.gz").open("r+b") as file:
        file.truncate(10)
    assert ContentStore(filled.root).check([SHA]).damaged == (SHA,)


def test_a_store_that_may_only_be_read_serves(filled, distdir):
    filled.path(SHA).touch()  # so that the memo would have to be written
    for directory in (filled.root, filled.path(SHA).parent):
        directory.chmod(0o555)
    try:
        assert ContentStore(filled.root).check([SHA, OTHER_SHA]).missing == ()
        ContentStore(filled.root).place([Item("a.tar.gz", SHA)], distdir)
    finally:
        for directory in (filled.root, filled.path(SHA).parent):
            directory.chmod(0o755)
    assert (distdir / "a.tar.gz").read_bytes() == DATA


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system to copy to")
def test_across_file_systems_archives_are_copied_and_not_copied_again(filled):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        distdir = Path(name)
        if distdir.stat().st_dev == filled.root.stat().st_dev:
            pytest.skip("it is the same file system")
        filled.place([Item("a.tar.gz", SHA)], distdir)
        inode = (distdir / "a.tar.gz").stat().st_ino
        assert not filled.place([Item("a.tar.gz", SHA)], distdir).changed
        assert (distdir / "a.tar.gz").stat().st_ino == inode
        (distdir / "a.tar.gz").write_bytes(DATA[:-1])
        assert filled.place([Item("a.tar.gz", SHA)], distdir).replaced == ("a.tar.gz",)
        assert (distdir / "a.tar.gz").read_bytes() == DATA
