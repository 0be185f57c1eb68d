"""publish-model without a server: what is copied where, what is refused, and what a fault leaves behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import model_messages as wire
import pytest

from npu_serving import fsutil
from npu_serving.console import Silent
from npu_serving.errors import ActionNeeded, DiskFullError, FileAccessError, RequestError, StateLockedError
from npu_serving.models.warm_up_file import WARM_UP_FILE, framed
from npu_serving.publishing.destination import Destination, destination
from npu_serving.publishing.publish import (
    PublicationPlan,
    PublicationWish,
    Published,
    alone_at,
    plan_publication,
    publish,
)
from npu_serving.settings import Settings

MODEL, OTHER = wire.simple_model({"x": [-1, 3]}), wire.simple_model({"x": [-1, 4]})


def exported(place: Path, data: bytes = MODEL, **files: bytes) -> Path:
    """A version's directory, with files by their names, `__` for a slash."""
    for name, content in {"saved_model.pb": data, **files}.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


class Site:
    def __init__(self, root: Path) -> None:
        self.settings = Settings(build_root=root / "build")
        self.base = root / "models" / "m"

    @property
    def place(self) -> Destination:
        return destination(self.settings, to=self.base)

    def plan(self, source: Path, **wanted: Any) -> PublicationPlan:
        return plan_publication(source, str(source), self.place, PublicationWish(**wanted))

    def publish(self, source: Path, **wanted: Any) -> Published:
        return publish(self.settings, self.plan(source, **wanted), Silent())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_version_gets_the_next_number_that_was_never_there(site: Site, tmp_path: Path) -> None:
    assert site.publish(exported(tmp_path / "a")).plan.path == site.base / "1"
    assert site.publish(exported(tmp_path / "b", OTHER)).plan.version == 2
    (site.base / "2").rename(site.base / "7.taken-back")
    assert site.publish(exported(tmp_path / "b", OTHER)).plan.version == 8
    assert names(site.base) == ["1", "7.taken-back", "8"]


def test_all_files_are_copied_assets_and_assets_extra_too_and_the_source_may_go_then(
    site: Site, tmp_path: Path
) -> None:
    files = {
        "assets__vocabulary.txt": b"a\nb\n",
        "assets.extra__notes": b"",
        "assets.extra__tf_serving_warmup_requests": framed([b""]),
        "variables__kept.index": b"i",
        "variables__kept.data-00000-of-00001": bytes(3_000_000),
    }
    source = exported(tmp_path / "a", **files)
    (source / "empty").mkdir()
    (source / "link").symlink_to("assets/vocabulary.txt")
    site.publish(source)
    for name, content in files.items():
        copy = site.base / "1" / name.replace("__", "/")
        assert copy.read_bytes() == content
        assert copy.stat().st_nlink == 1
    assert (site.base / "1" / "empty").is_dir()
    assert not (site.base / "1" / "link").is_symlink()
    assert (site.base / "1" / "link").read_bytes() == b"a\nb\n"


def test_who_serves_may_read_what_its_exporter_alone_could(site: Site, tmp_path: Path) -> None:
    source = exported(tmp_path / "a", variables__x=b"x")
    for path in (source / "saved_model.pb", source / "variables" / "x"):
        path.chmod(0o600)
    source.chmod(0o700)
    site.publish(source)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [site.base / "1", *(site.base / "1").rglob("*")]}
    assert modes == {"1": 0o755, "variables": 0o755, "saved_model.pb": 0o644, "x": 0o644}


def test_the_same_contents_are_published_once(site: Site, tmp_path: Path) -> None:
    source = exported(tmp_path / "a", variables__x=b"xyz")
    site.publish(source)
    before = (site.base / "1" / "saved_model.pb").stat()
    for wanted in ({}, {"version": 1}):
        again = site.publish(source, **wanted)
        assert again.plan.has_it
        assert "nothing to do" in again.text()
        assert again.to_json()["changed"] is False
    assert names(site.base) == ["1"]
    assert (site.base / "1" / "saved_model.pb").stat() == before
    assert site.publish(source, version=2).plan.version == 2


@pytest.mark.parametrize("changed", ["saved_model.pb", "variables/x", "variables/y"])
def test_other_contents_under_a_number_that_is_there_are_refused_with_the_next_free_one(
    site: Site, tmp_path: Path, changed: str
) -> None:
    site.publish(exported(tmp_path / "a", variables__x=b"xyz"))
    source = exported(tmp_path / "b", variables__x=b"xyz")
    (source / changed).write_bytes(OTHER if changed == "saved_model.pb" else b"abc")
    with pytest.raises(RequestError, match="has other contents") as caught:
        site.publish(source, version=1)
    assert "--version 2" in caught.value.cure
    assert (site.base / "1" / "variables" / "x").read_bytes() == b"xyz"
    assert site.publish(source).plan.version == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"saved_model.pb": b"\x1f\x8b packed"}, "packed with gzip"),
        ({str(WARM_UP_FILE): b"not framed"}, "record 1 is cut off at byte 0"),
        ({str(WARM_UP_FILE): framed([b"x"])[:-1]}, "is cut off"),
        ({str(WARM_UP_FILE): framed([b""] * 1001)}, "more than 1000 records"),
    ],
)
def test_what_no_server_would_load_is_refused_before_anything_is_copied(
    site: Site, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    source = exported(tmp_path / "a")
    for name, content in files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    with pytest.raises(RequestError, match=said):
        site.publish(source)
    assert not site.base.exists()


def test_a_thousand_warm_up_records_are_fine(site: Site, tmp_path: Path) -> None:
    site.publish(exported(tmp_path / "a", **{"assets.extra__tf_serving_warmup_requests": framed([b""] * 1000)}))


def test_what_clients_would_notice_is_a_warning(site: Site, tmp_path: Path) -> None:
    assert site.publish(exported(tmp_path / "a")).plan.findings == ()
    plan = site.plan(exported(tmp_path / "b", OTHER))
    (finding,) = plan.findings
    assert "has the input x as float32 [?, 4], not float32 [?, 3] (version 1)" in finding.what
    assert finding.what in plan.text()


def test_a_dry_run_says_what_is_done_and_does_nothing(site: Site, tmp_path: Path) -> None:
    source = exported(tmp_path / "a")
    plan = site.plan(source)
    assert plan.steps() == [f"copy {source} (1 file, {len(MODEL)} B) to {site.base / '1'}"]
    assert not site.base.exists()


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = exported(tmp_path / "a", variables__x=bytes(100_000))
    monkeypatch.setattr(fsutil, "free_bytes", lambda _path: 1000)
    with pytest.raises(DiskFullError, match="need 100"):
        site.publish(source)
    assert not site.base.exists()


@pytest.mark.parametrize("call", ["copy_file_range", "fsync", "rename"])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    source = exported(tmp_path / "a", variables__x=bytes(100_000))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full, raising=False)
    with pytest.raises(DiskFullError):
        site.publish(source)
    monkeypatch.undo()
    assert names(site.base) == []
    site.publish(source)
    assert names(site.base) == ["1"]


def test_without_copy_file_range_the_bytes_are_the_same(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(2_500_000)

    def unknown(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", unknown, raising=False)
    site.publish(exported(tmp_path / "a", variables__x=data))
    assert (site.base / "1" / "variables" / "x").read_bytes() == data


_KILLED = """
import os, signal, sys
from pathlib import Path
from npu_serving import fsutil
from npu_serving.console import Silent
from npu_serving.publishing.destination import destination
from npu_serving.publishing.publish import PublicationWish, plan_publication, publish
from npu_serving.settings import Settings
source, base, call = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
settings = Settings(build_root=Path(sys.argv[4]))
real = getattr(os, call)
def killed(*words, **more):
    if call != "rename":
        real(*words, **more)
    os.kill(os.getpid(), signal.SIGKILL)
plan = plan_publication(source, "source", destination(settings, to=base), PublicationWish())
setattr(os, call, killed)
publish(settings, plan, Silent())
"""


@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename"])
def test_a_run_that_is_killed_leaves_no_version_and_the_next_one_clears_up(
    site: Site, tmp_path: Path, call: str
) -> None:
    source = exported(tmp_path / "a", variables__x=b"xyz")
    words = [sys.executable, "-c", _KILLED, str(source), str(site.base), call, str(site.settings.build_root)]
    done = subprocess.run(words, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = names(site.base)
    assert left.startswith(".publishing.")
    assert site.publish(source, version=5).plan.version == 5
    assert names(site.base) == ["5"]


def test_two_at_once_exclude_each_other_and_the_second_says_who_is_there(site: Site, tmp_path: Path) -> None:
    source = exported(tmp_path / "a")
    taken = pytest.raises(StateLockedError, match=rf"process {os.getpid()} \(publish-model, {site.base}\)")
    with alone_at(site.settings, site.place, "publish-model", Silent()), taken:
        site.publish(source)
    site.publish(source)


def test_a_number_that_somebody_else_took_meanwhile_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    plan = site.plan(exported(tmp_path / "a"))
    exported(site.base / "1", OTHER)
    with pytest.raises(FileAccessError, match="appeared while it was made"):
        publish(site.settings, plan, Silent())
    assert (site.base / "1" / "saved_model.pb").read_bytes() == OTHER
    assert names(site.base) == ["1"]


@pytest.mark.parametrize("how", ["grows", "comes", "is replaced"])
def test_a_model_that_changes_while_it_is_copied_is_not_published(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    source = exported(tmp_path / "a", variables__x=b"xyz")
    file = source / "variables" / "x"
    real, guard = os.fchmod, threading.Lock()

    def change(descriptor: int, mode: int) -> None:
        real(descriptor, mode)
        if guard.acquire(blocking=False):
            if how == "grows":
                with file.open("ab") as longer:
                    longer.write(b"!")
            elif how == "comes":
                (source / "variables" / "y").write_bytes(b"new")
            else:
                file.unlink()
                file.write_bytes(b"abc!")

    monkeypatch.setattr(os, "fchmod", change)
    with pytest.raises(RequestError, match="has changed while it was copied"):
        site.publish(source)
    assert names(site.base) == []


def test_what_needs_a_server_says_so(site: Site, tmp_path: Path) -> None:
    source = exported(tmp_path / "a")
    for wanted in ({"wait": True}, {"label": "stable"}, {"unload_first": True}):
        with pytest.raises(RequestError, match="which server loads the model"):
            site.publish(source, **wanted)
    file = tmp_path / "d.yaml"
    file.write_text(f"version: 1\nmodels: [{{name: m, base_path: {site.base}}}]\n")
    place = destination(site.settings, deployment=file)
    with pytest.raises(ActionNeeded, match=r"No server by .*d\.yaml runs here"):
        plan_publication(source, "source", place, PublicationWish(label="stable"))


def test_a_deployment_without_a_server_gets_the_version_into_its_list(site: Site, tmp_path: Path) -> None:
    site.publish(exported(tmp_path / "a"))
    file = tmp_path / "d.yaml"
    text = "# ours\nversion: 1\nmodels:\n  - name: m\n    base_path: {base}\n    versions: [1]  # pinned\n"
    file.write_text(text.format(base=site.base))
    place = destination(site.settings, deployment=file)
    done = publish(
        site.settings, plan_publication(exported(tmp_path / "b", OTHER), "b", place, PublicationWish()), Silent()
    )
    assert file.read_text() == text.format(base=site.base).replace("[1]", "[2]")
    assert "versions: [2], not [1]" in done.text()


def test_a_deployment_that_can_not_be_written_leaves_all_as_it_was(site: Site, tmp_path: Path) -> None:
    site.publish(exported(tmp_path / "a"))
    file = tmp_path / "d.yaml"
    text = f"version: 1\nmodels: [{{name: m, base_path: {site.base}, versions: [1]}}]\n"
    file.write_text(text)
    place = destination(site.settings, deployment=file)
    plan = plan_publication(exported(tmp_path / "b", OTHER), "b", place, PublicationWish())

    def full(path: Path, *_: object, **__: object) -> bool:
        raise DiskFullError(f"{path} could not be written: the disk is full.")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fsutil, "write_file", full)
        with pytest.raises(DiskFullError, match="taken away again"):
            publish(site.settings, plan, Silent())
    assert file.read_text() == text
    assert names(site.base) == ["1"]
