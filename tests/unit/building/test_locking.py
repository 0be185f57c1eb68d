"""lock-deps for one tree: pins for archives that the tree gives none, and differences that a person can read."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import fault_server as faults
import pytest

from npu_serving.building.locking import lock_deps
from npu_serving.errors import FetchError, WorkspaceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import read_lock, write_lock

ARCHIVE = b"the bytes of an archive" * 100
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 1), ("MINOR", 15), ("PATCH", 0))
)


@pytest.fixture
def server():
    with faults.serving() as running:
        yield running


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def tree(root: Path, workspace: str, **files: str) -> Path:
    texts = {"tensorflow_serving/model_servers/version.h": VERSION, "WORKSPACE": workspace, **files}
    for name, text in texts.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "tree"


def unpinned(*urls: str, name: str = "thing") -> str:
    return f"http_archive(name = {name!r}, urls = {list(urls)!r})\n"


def named(report):
    return {archive.name: archive for archive in report.lock.archives}


def test_an_archive_without_a_sha256_is_named_and_left_as_it_is(tmp_path, server, store):
    path = tree(tmp_path, unpinned(server.put("/x.zip", ARCHIVE)))
    report = lock_deps(path, tmp_path / "lock.json", store)
    assert named(report)["thing"].sha256 is None
    assert "No sha256 is pinned for: thing." in report.text()
    assert report.to_json()["unpinned"] == ["thing"]
    assert server.requests_for("/x.zip") == []


def test_pin_fetches_it_once_and_writes_its_digest_marked_as_ours(tmp_path, server, store):
    lock = tmp_path / "lock.json"
    path = tree(tmp_path, unpinned(server.put("/x.zip", ARCHIVE)))
    report = lock_deps(path, lock, store, pin=True)
    archive = named(report)["thing"]
    assert (archive.sha256, archive.size_bytes, archive.pinned_here) == (DIGEST, len(ARCHIVE), True)
    assert read_lock(lock).archives == report.lock.archives
    assert store.has(DIGEST)
    assert "Pinned by --pin, not by the tree: thing." in report.text()
    before = lock.read_bytes()
    again = lock_deps(path, lock, store, pin=True)
    assert not again.written
    assert again.differences == ()
    assert lock.read_bytes() == before
    assert len(server.requests_for("/x.zip")) == 1


def test_a_pin_of_ours_stays_without_the_flag_without_the_file_and_is_checked(tmp_path, server, store):
    lock = tmp_path / "lock.json"
    path = tree(tmp_path, unpinned(server.put("/x.zip", ARCHIVE)))
    lock_deps(path, lock, store, pin=True)
    before = lock.read_bytes()
    elsewhere = ContentStore(tmp_path / "another store")
    assert lock_deps(path, lock, elsewhere, check=True).exit_code == 0
    assert not lock_deps(path, lock, elsewhere, offline=True).written
    assert lock.read_bytes() == before


def test_a_pin_of_ours_ends_when_the_tree_declares_other_urls_and_this_is_said(tmp_path, server, store):
    lock = tmp_path / "lock.json"
    lock_deps(tree(tmp_path, unpinned(server.put("/x.zip", ARCHIVE))), lock, store, pin=True)
    moved = tree(tmp_path, unpinned(server.put("/moved/x.zip", ARCHIVE + b"new")))
    report = lock_deps(moved, lock, store, check=True)
    assert report.exit_code == 3
    assert f"thing (x.zip): sha256: the lock has {DIGEST}, the tree none" in report.differences
    assert any(line.startswith("thing (x.zip): urls: the lock has http") for line in report.differences)
    assert named(lock_deps(moved, lock, store))["thing"].sha256 is None
    assert named(lock_deps(moved, lock, store, pin=True))["thing"].sha256 != DIGEST


def test_a_sha256_that_the_tree_comes_to_give_takes_the_place_of_our_pin(tmp_path, server, store):
    lock = tmp_path / "lock.json"
    url = server.put("/x.zip", ARCHIVE)
    lock_deps(tree(tmp_path, unpinned(url)), lock, store, pin=True)
    pinned = tree(tmp_path, f'http_archive(name = "thing", urls = ["{url}"], sha256 = "{"a" * 64}")\n')
    archive = named(lock_deps(pinned, lock, store))["thing"]
    assert (archive.sha256, archive.pinned_here) == ("a" * 64, False)


def test_an_unpinned_archive_that_is_loaded_from_is_refused_then_pinned(tmp_path, server, store):
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("m.bzl", f'def more():\n    native.http_archive(name = "b", url = "{server.url}/b.zip")\n')
    url = server.put("/dep.zip", packed.getvalue())
    path = tree(tmp_path, unpinned(url, name="dep") + 'load("@dep//:m.bzl", "more")\nmore()\n')
    with pytest.raises(WorkspaceError, match="no sha256 is pinned") as caught:
        lock_deps(path, tmp_path / "lock.json", store)
    assert "--pin" in caught.value.cure
    server.put("/b.zip", ARCHIVE)
    found = named(lock_deps(path, tmp_path / "lock.json", store, pin=True))
    assert found["dep"].sha256 == hashlib.sha256(packed.getvalue()).hexdigest()
    assert found["b"].sha256 == DIGEST
    assert len(server.requests_for("/dep.zip")) == 1


@pytest.mark.parametrize(
    "fault",
    [faults.status(404), faults.html, faults.truncated(50), faults.gzip_encoded],
    ids=["404", "a page", "truncated", "encoded"],
)
def test_what_is_not_the_whole_archive_is_never_pinned(tmp_path, server, store, fault):
    bad = server.put("/bad/x.zip", ARCHIVE, always=fault)
    good = server.put("/good/x.zip", ARCHIVE)
    with pytest.raises(FetchError, match=r"pin its sha256:\n +http://.*/bad/x\.zip: ."):
        lock_deps(tree(tmp_path, unpinned(bad)), tmp_path / "lock.json", store, pin=True)
    assert not (tmp_path / "lock.json").exists()
    report = lock_deps(tree(tmp_path, unpinned(bad, good)), tmp_path / "lock.json", store, pin=True)
    assert named(report)["thing"].sha256 == DIGEST
    assert list(store.partial.iterdir()) == []


def test_a_shadowed_archive_is_not_pinned_for_bazel_never_asks_for_it(tmp_path, server, store):
    old, new = server.put("/old.zip", b"old"), server.put("/new.zip", ARCHIVE)
    path = tree(tmp_path, unpinned(old) + unpinned(new))
    report = lock_deps(path, tmp_path / "lock.json", store, pin=True)
    assert {(item.file_name, item.sha256) for item in report.lock.archives} == {("old.zip", None), ("new.zip", DIGEST)}
    assert server.requests_for("/old.zip") == []
    assert report.to_json()["unpinned"] == []


def test_a_difference_is_told_with_both_values(tmp_path, store):
    line = 'http_archive(name = "thing", urls = ["https://a.example/x.zip"], sha256 = "%s", strip_prefix = "%s")\n'
    lock = tmp_path / "lock.json"
    lock_deps(tree(tmp_path, line % ("a" * 64, "x-1")), lock, store)
    report = lock_deps(tree(tmp_path, line % ("b" * 64, "")), lock, store, check=True)
    assert report.exit_code == 3
    assert report.differences == (
        f"thing (x.zip): sha256: the lock has {'a' * 64}, the tree {'b' * 64}",
        "thing (x.zip): strip_prefix: the lock has x-1, the tree none",
    )
    assert "Next: " in report.text()


def test_a_url_that_was_taken_out_of_the_lock_is_no_difference_and_does_not_come_back(tmp_path, store):
    urls = ["https://a.example/x.zip", "https://index.example/x.zip"]
    declaring = tree(tmp_path, f'http_archive(name = "thing", urls = {urls}, sha256 = "{DIGEST}")\n')
    path = tmp_path / "lock.json"
    lock = lock_deps(declaring, path, store).lock
    shorter = dataclasses.replace(lock.archives[0], urls=(urls[0],), urls_left_out=1)
    write_lock(path, dataclasses.replace(lock, archives=(shorter,)))
    for check in (True, False):
        report = lock_deps(declaring, path, store, check=check)
        assert (report.exit_code, report.differences, report.written) == (0, (), False)
        assert "leaves out some of the URLs that the tree declares for: thing." in report.text()
    assert "index.example" not in path.read_text()


def test_a_pin_of_the_locks_own_outlives_a_url_that_was_taken_out(tmp_path, store):
    urls = ["https://a.example/x.zip", "https://index.example/x.zip"]
    declaring = tree(tmp_path, f'http_archive(name = "thing", urls = {urls})\n')
    path = tmp_path / "lock.json"
    lock = lock_deps(declaring, path, store).lock
    shorter = dataclasses.replace(lock.archives[0], urls=(urls[0],), urls_left_out=1, sha256=DIGEST, pinned_here=True)
    write_lock(path, dataclasses.replace(lock, archives=(shorter,)))
    for check in (True, False):
        report = lock_deps(declaring, path, store, check=check)
        assert (report.exit_code, report.differences, report.written) == (0, (), False)
