"""Which tree is meant, which lock belongs to it, and how it comes into place."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from npu_serving.building import sources
from npu_serving.building.sources import prepare_source, resolve_source
from npu_serving.errors import SourceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import Archive, Lock, write_lock
from npu_serving.settings import Settings

COMMIT = "ab" * 20
FILES = {
    "WORKSPACE": f'workspace(name = "tf_serving")\nx(\n    name = "org_tensorflow",\n    git_commit = "{COMMIT}",\n)\n',
    "tensorflow_serving/model_servers/BUILD": "",
    "tensorflow_serving/model_servers/version.h": "".join(
        f"#define TF_MODELSERVER_{part}_VERSION {number}\n"
        for part, number in (("MAJOR", 7), ("MINOR", 8), ("PATCH", 9))
    ),
}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of a version 7.8.9 that a lock pins."""
    path = tmp_path / "fetched by hand.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in FILES.items():
            info = tarfile.TarInfo(f"serving-7.8.9/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = Archive("serving", "", ("https://x.invalid/7.8.9.tar.gz",), digest, strip_prefix="serving-7.8.9")
    (tmp_path / "locks").mkdir()
    write_lock(tmp_path / "locks" / "serving-7.8.9.json", Lock("7.8.9", COMMIT, source, ()))
    monkeypatch.setattr(sources, "LOCKS", tmp_path / "locks")
    return path


def _settings(tmp_path: Path, source: str) -> Settings:
    return dataclasses.replace(Settings(), source=source, build_root=tmp_path / "build")


def test_a_version_is_unpacked_from_the_pinned_archive_and_only_once(tmp_path: Path, archive: Path) -> None:
    settings = _settings(tmp_path, "7.8.9")
    store = ContentStore(settings.store_root)
    source = resolve_source(settings)
    assert source.archive is not None
    assert not source.is_ready
    store.adopt(archive, source.archive.sha256 or "")
    assert prepare_source(source, store)
    assert (source.tree / "WORKSPACE").read_text() == FILES["WORKSPACE"]
    assert source.is_ready
    assert not prepare_source(source, store)


def test_an_archive_fetched_by_hand_is_known_by_its_content_and_kept_for_later(tmp_path: Path, archive: Path) -> None:
    settings = _settings(tmp_path, str(archive))
    store = ContentStore(settings.store_root)
    source = resolve_source(settings)
    assert source.name == "7.8.9"
    assert prepare_source(source, store)
    archive.unlink()
    again = resolve_source(_settings(tmp_path, "7.8.9"))
    assert again.is_ready
    assert store.has(again.archive.sha256 if again.archive and again.archive.sha256 else "")


def test_an_archive_with_one_byte_changed_is_refused(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(SourceError, match="is not an archive of a TensorFlow Serving version"):
        resolve_source(_settings(tmp_path, str(archive)))


def test_a_tree_of_ones_own_takes_the_lock_of_its_version_and_commit(tmp_path: Path, archive: Path) -> None:
    tree = tmp_path / "my tree"
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    source = resolve_source(_settings(tmp_path, str(tree)))
    assert (source.tree, source.lock.serving_version, source.is_ready) == (tree, "7.8.9", True)
