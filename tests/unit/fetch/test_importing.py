"""Files fetched by hand: recognised by content under any name, healed where compressed anew, never touched."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.fetch import heal
from npu_serving.fetch.content_store import PLACED_NAME, ContentStore
from npu_serving.fetch.importing import import_directory
from npu_serving.lock.lockfile import Archive, read_lock

ZIP = b"PK\x03\x04" + bytes(range(256)) * 40


def tar_with(top: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(f"{top}/file")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(b"some text " * 10_000))
    return packed.getvalue()


TAR = tar_with("thing-1.0")
TGZ = subprocess.run(["gzip", "-n"], input=TAR, stdout=subprocess.PIPE, check=True).stdout


def archive(name: str, data: bytes, file_name: str, *, size: bool = True, strip_prefix: str = "") -> Archive:
    return Archive(
        name,
        "http_archive",
        (f"https://host.example/{file_name}",),
        hashlib.sha256(data).hexdigest(),
        size_bytes=len(data) if size else None,
        strip_prefix=strip_prefix,
    )


A_ZIP = archive("a_zip", ZIP, "v1.0.zip")
A_TGZ = archive("a_tgz", TGZ, "1.0.tar.gz", strip_prefix="thing-1.0")
A_TGZ_OF_ANY_TOP = dataclasses.replace(A_TGZ, strip_prefix="")


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "store")


@pytest.fixture
def downloads(tmp_path):
    directory = tmp_path / "Down loads ü"
    directory.mkdir()
    return directory


def snapshot(directory):
    return {
        path: (path.lstat().st_mtime_ns, path.lstat().st_ino, path.lstat().st_nlink) for path in directory.rglob("*")
    }


@pytest.mark.parametrize("name", ["v1.0.zip", "rapidjson-1.1.0 (1).zip", "download", "sub/deeper/x\ny.bin"])
def test_a_file_is_recognised_under_any_name_and_at_any_depth(store, downloads, name):
    (downloads / name).parent.mkdir(parents=True, exist_ok=True)
    (downloads / name).write_bytes(ZIP)
    report = import_directory(downloads, [A_ZIP], store)
    assert [item.archive for item in report.recognised] == ["a_zip"]
    assert report.missing == ()
    assert store.has(A_ZIP.sha256, verify=True)


@pytest.mark.parametrize("size_known", [True, False])
def test_what_is_none_of_the_archives_is_listed_and_not_taken(store, downloads, size_known):
    (downloads / "notes.txt").write_text("notes")
    (downloads / "v1.0.zip").write_bytes(ZIP[:-1] + b"!")
    report = import_directory(downloads, [archive("a_zip", ZIP, "v1.0.zip", size=size_known)], store)
    assert [path.name for path in report.unrecognised] == ["notes.txt", "v1.0.zip"]
    assert [item.name for item in report.missing] == ["a_zip"]
    assert "https://host.example/v1.0.zip" in report.text()


@pytest.mark.parametrize(
    "data", [gzip.compress(TAR, 1), TAR, gzip.compress(TGZ)], ids=["compressed anew", "unpacked", "compressed twice"]
)
def test_a_file_that_a_browser_or_a_mirror_compressed_otherwise_is_healed(store, downloads, data):
    (downloads / "thing-1.0.tar.gz").write_bytes(data)
    report = import_directory(downloads, [archive("a_tgz", TGZ, "1.0.tar.gz")], store)
    assert [item.healed for item in report.recognised] == [True]
    assert store.path(A_TGZ.sha256).read_bytes() == TGZ
    assert report.unrecognised == ()


def test_an_archive_of_another_tree_is_not_healed(store, downloads):
    (downloads / "thing-1.0.tar.gz").write_bytes(gzip.compress(tar_with("thing-2.0")))
    report = import_directory(downloads, [A_TGZ], store)
    assert [item.name for item in report.missing] == ["a_tgz"]
    assert list(store.partial.glob("*")) == [] if store.partial.exists() else True


def test_a_gzip_bomb_is_left_before_it_fills_the_disk_and_is_not_packed_again(store, downloads, monkeypatch):
    monkeypatch.setattr("npu_serving.fetch.heal.ALWAYS_FINE_BYTES", 1 << 20)
    (downloads / "bomb.gz").write_bytes(gzip.compress(bytes(64 << 20)))  # 1,000 times
    largest = 0

    def packed(tar: Path, _packed: Path) -> bool:
        nonlocal largest
        largest = tar.stat().st_size
        return False

    monkeypatch.setattr("npu_serving.fetch.heal._pack", packed)
    report = import_directory(downloads, [A_TGZ_OF_ANY_TOP], store)
    assert [path.name for path in report.unrecognised] == ["bomb.gz"]
    assert largest == 0
    assert list(store.partial.iterdir()) == []


def test_the_persons_own_directory_is_only_read(store, downloads):
    (downloads / "x.zip").write_bytes(ZIP)
    (downloads / "thing.tar").write_bytes(TAR)
    (downloads / "link").symlink_to("x.zip")
    before = snapshot(downloads)
    import_directory(downloads, [A_ZIP, A_TGZ], store)
    assert snapshot(downloads) == before


def test_links_are_followed_to_files_but_not_into_directories_and_dangling_ones_are_named(store, downloads, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.zip").write_bytes(ZIP)
    (downloads / "file").symlink_to(tmp_path / "elsewhere/x.zip")
    (downloads / "loop").symlink_to(downloads)
    (downloads / "nothing").symlink_to("gone")
    report = import_directory(downloads, [A_ZIP], store)
    assert [item.file.name for item in report.recognised] == ["file"]
    assert [path.name for path in report.unreadable] == ["nothing"]


def test_a_pipe_in_the_directory_does_not_hang_the_import(store, downloads):
    os.mkfifo(downloads / "pipe")
    assert import_directory(downloads, [A_ZIP], store).recognised == ()


def test_importing_twice_finds_everything_present(store, downloads):
    (downloads / "x.zip").write_bytes(ZIP)
    import_directory(downloads, [A_ZIP], store)
    report = import_directory(downloads, [A_ZIP], store)
    assert report.present == ("a_zip",)
    assert report.missing == ()
    assert "All needed archives are here" in report.text()


def test_a_directory_that_is_none_is_refused(store, tmp_path):
    with pytest.raises(RequestError, match="is not a directory"):
        import_directory(tmp_path / "nowhere", [A_ZIP], store)


def test_only_what_is_needed_is_told_as_missing(store, downloads):
    (downloads / "x.zip").write_bytes(ZIP)
    merely_declared = archive("declared", b"declared", "declared.zip")
    report = import_directory(
        downloads, [A_ZIP, A_TGZ, merely_declared], store, needed={A_ZIP.sha256 or "", A_TGZ.sha256 or ""}
    )
    assert [item.name for item in report.missing] == ["a_tgz"]
    (downloads / "any name").write_bytes(b"declared")
    assert import_directory(downloads, [merely_declared], store, needed=set()).recognised[0].archive == "declared"


def test_the_exit_status_tells_whether_anything_was_recognised(store, downloads):
    assert import_directory(downloads, [A_ZIP], store).exit_code == 1
    (downloads / "x.zip").write_bytes(ZIP)
    for _ in range(2):  # what was there before is recognised all the same
        assert import_directory(downloads, [A_ZIP], store).exit_code == 0


def test_the_report_names_all_for_json(store, downloads):
    (downloads / "x.zip").write_bytes(ZIP)
    document: Any = import_directory(downloads, [A_ZIP, A_TGZ], store).to_json()
    assert document["recognised"][0]["file_name"] == "v1.0.zip"
    assert document["missing"][0]["name"] == "a_tgz"


# ---- the guide's table 6-4, and all the others

REAL_LOCK = Path(__file__).resolve().parents[3] / "locks" / "serving-1.15.0.json"
AFTER = {  # of table 6-4: repository, and the name that the guide has a person give the file
    "org_tensorflow": "590d6eef7e91a6a7392c8ffffb7b58f2e0c8bc6b.tar.gz",
    "io_bazel_rules_closure": "316e6133888bfc39fb860a4f1a31cfcbae485aef.tar.gz",
    "bazel_skylib": "0.7.0.tar.gz",
    "com_github_tencent_rapidjson": "v1.1.0.zip",
    "com_google_absl": "36d37ab992038f52276ca66b9da80c1cf0f57dc2.tar.gz",
    "com_github_libevent_libevent": "release-2.1.8-stable.zip",
    "llvm": "7a7e03f906aada0cf4b749b51213fe5784eeff84.tar.gz",
}


def test_all_91_archives_are_taken_under_any_name_and_get_the_names_that_bazel_looks_for(store, downloads, tmp_path):
    real = read_lock(REAL_LOCK)
    contents = [f"the bytes of archive {number}\n".encode() * (number + 1) for number in range(len(real.archives))]
    archives = tuple(
        dataclasses.replace(item, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for item, data in zip(real.archives, contents)
    )
    lock = dataclasses.replace(real, archives=archives)
    for number, data in enumerate(contents):
        (downloads / f"down load ({number})").write_bytes(data)

    report = import_directory(downloads, lock.archives, store)
    assert len(report.recognised) == 91
    assert (report.missing, report.unrecognised, report.unreadable) == ((), (), ())

    store.place(lock.archives, tmp_path / "distdir")
    expected = {item.urls[0].rsplit("/", 1)[1]: data for item, data in zip(archives, contents)}
    placed = {path.name: path.read_bytes() for path in (tmp_path / "distdir").iterdir() if path.name != PLACED_NAME}
    assert placed == expected
    assert len(placed) == 91
    assert {item.name: item.file_name for item in archives if item.name in AFTER and not item.shadowed} == AFTER
    assert set(AFTER.values()) <= placed.keys()


@pytest.mark.parametrize("head", [b"", b"\x1f\x8b\x08", TAR[:512], ZIP[:100]], ids=["zeros", "gzip", "tar", "zip"])
def test_a_file_larger_than_any_archive_is_not_read_though_the_size_of_one_is_unknown(
    tmp_path, store, head, monkeypatch
):
    huge = tmp_path / "downloads/huge"
    huge.parent.mkdir()
    huge.write_bytes(head)
    os.truncate(huge, 50 << 30)
    (tmp_path / "downloads/x").write_bytes(ZIP)
    hashed = []

    def noted(path):
        hashed.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(fsutil, "sha256_of", noted)
    unknown = archive("a_zip", ZIP, "v1.0.zip", size=False)
    report = import_directory(huge.parent, [unknown, A_TGZ_OF_ANY_TOP], store)
    assert [item.archive for item in report.recognised] == ["a_zip"]
    assert report.unrecognised == (huge,)
    assert huge not in hashed


def test_a_file_that_says_it_is_empty_is_not_read_as_those_of_proc_never_end(tmp_path, store, monkeypatch):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/kmsg").write_bytes(b"")
    monkeypatch.setattr(fsutil, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(heal, "can_be_healed", lambda path: pytest.fail(f"{path} was read"))
    unknown = archive("a_zip", ZIP, "v1.0.zip", size=False)
    assert import_directory(tmp_path / "downloads", [unknown], store).unrecognised == (tmp_path / "downloads/kmsg",)


def test_a_directory_of_any_depth_is_looked_through(store, downloads):
    deepest = downloads
    for _ in range(1200):
        deepest /= "d"
        deepest.mkdir()
    (deepest / "x").write_bytes(ZIP)
    try:
        assert [item.archive for item in import_directory(downloads, [A_ZIP], store).recognised] == ["a_zip"]
    finally:
        fsutil.remove(downloads)  # pytest's own removal calls itself for each directory
