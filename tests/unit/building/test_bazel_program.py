"""Which Bazel a build uses: only a binary that fits, never a script, and the pinned release where npm fails."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import platform
import shlex
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_server as faults
import pytest
from listening import Listening

from npu_serving.building import bazel_program
from npu_serving.building.bazel_program import find_bazel
from npu_serving.console import Silent
from npu_serving.doctor.bazel_version import bazel_version, can_build, required_text
from npu_serving.errors import FetchError, RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.toolchains import Tool, find_tool
from npu_serving.settings import Settings

RELEASE = b"\x7fELF the release"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="a release is published for x86_64 only")


def binary(path: Path, label: str, *, head: bytes = b"\x7fELF") -> Path:
    """A file with the archive that Bazel appends to its binary, which can't be started."""
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as opened:
        opened.writestr("build-data.properties", f"build.label={label}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("A-server.jar", jar.getvalue())
    path.chmod(0o755)
    return path


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Settings(build_root=tmp_path / "build")


# ---- the version


@pytest.mark.parametrize(
    ("label", "version", "fits"),
    [
        ("0.24.0", "0.24.0", False),
        ("0.24.1", "0.24.1", True),
        ("0.24.1- (@non-git)", "0.24.1", True),
        ("0.26.1", "0.26.1", True),
        ("0.26.2", "0.26.2", False),
        ("7.4.1", "7.4.1", False),
        ("no_version", "", False),
        ("", "", False),
    ],
)
def test_the_version_is_read_from_the_binary_and_0_24_1_to_0_26_1_serve(
    tmp_path: Path, label: str, version: str, fits: bool
) -> None:
    assert bazel_version(binary(tmp_path / "bazel", label)) == version
    assert can_build(version) == fits


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"\x7fELFPK\x05\x06" + b"\0" * 18, b"\x7fELF" + b"PK\x01\x02" * 50, b"#!/bin/sh\n"]
)
def test_what_is_no_bazel_has_no_version(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bazel").write_bytes(data)
    assert bazel_version(tmp_path / "bazel") == ""
    assert bazel_version(tmp_path) == ""
    assert bazel_version(tmp_path / "nothing") == ""


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_a_damaged_binary_breaks_nothing(tmp_path: Path, place: int) -> None:
    path = binary(tmp_path / "bazel", "0.24.1")
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 0xFF
    path.write_bytes(data)
    assert bazel_version(path) in ("", "0.24.1") or not can_build(bazel_version(path))


def test_the_pinned_release_is_one_that_serves_and_that_can_be_fetched() -> None:
    assert can_build(pinned_bazel())
    assert required_text() == "0.24.1 to 0.26.1"
    assert find_tool("bazel", "linux-x86_64", version=pinned_bazel()).kind == "program"


# ---- which one is used


def test_a_binary_on_path_that_fits_is_used(settings: Settings, tmp_path: Path) -> None:
    path = binary(tmp_path / "bin/bazel", "0.25.2")
    program = find_bazel(settings, Silent())
    assert (program.path, program.version) == (path, "0.25.2")
    assert program.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wrapper_on_path_is_not_started_and_the_pinned_release_is_used(settings: Settings, tmp_path: Path) -> None:
    script(tmp_path / "bin/bazel", f"touch {shlex.quote(str(tmp_path / 'started'))}; echo Build label: 0.24.1")
    notes = Listening()
    program = find_bazel(settings, notes)
    assert program.version == "0.24.1"
    assert settings.build_root in program.path.parents
    assert "is not Bazel itself" in notes.notes[0]
    assert not (tmp_path / "started").exists()


def test_a_script_with_a_bazel_packed_behind_it_is_a_script(settings: Settings, tmp_path: Path) -> None:
    binary(tmp_path / "bin/bazel", "0.24.1", head=b"#!/bin/sh\nexit 1\n")
    assert settings.build_root in find_bazel(settings, Silent()).path.parents


def test_a_bazel_that_could_not_be_read_once_is_looked_at_again(settings: Settings, tmp_path: Path) -> None:
    path = binary(tmp_path / "bin/bazel", "0.25.2")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert settings.build_root in find_bazel(settings, Silent()).path.parents
    path.write_bytes(whole)
    assert find_bazel(settings, Silent()).path == path


@pytest.mark.parametrize(("label", "said"), [("7.4.1", "is Bazel 7.4.1"), ("", "is not Bazel itself")])
def test_a_bazel_that_was_set_and_does_not_fit_is_refused(tmp_path: Path, label: str, said: str) -> None:
    path = binary(tmp_path / "my bazel", label)
    with pytest.raises(RequestError, match=said):
        find_bazel(Settings(build_root=tmp_path / "build", bazel=str(path)), Silent())


# ---- npm first, then the release itself


def package(directory: Path, members: dict[str, bytes]) -> Path:
    path = directory / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def release() -> Iterator[Tool]:
    with faults.serving() as server:
        url = server.put("/bazel-0.24.1-linux-x86_64", RELEASE)
        digest = hashlib.sha256(RELEASE).hexdigest()
        yield Tool("bazel", "0.24.1", "linux-x86_64", "program", digest, len(RELEASE), (url,), ("this test",))


def brought(release: Tool, settings: Settings) -> tuple[bytes, list[str]]:
    store, notes = ContentStore(settings.store_root), Listening()
    bazel_program.fetch_release(release, settings, notes)
    assert [path.name for path in store.root.iterdir() if path.name.startswith("tmp")] == []
    return store.path(release.sha256).read_bytes(), notes.notes


def test_the_package_of_npm_is_taken_when_it_holds_the_release(
    release: Tool, settings: Settings, tmp_path: Path
) -> None:
    tgz = package(tmp_path, {"package/bazel-0.24.1-linux-x86_64": RELEASE})
    script(tmp_path / "bin/npm", f"cp {shlex.quote(str(tgz))} .")
    data, notes = brought(release, settings)
    assert data == RELEASE
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("members", "command"),
    [
        ({}, "exit 1"),
        ({}, "exit 0"),
        ({}, "echo damaged >x.tgz"),
        ({}, "mkdir x.tgz"),
        ({"package/bazel-0.24.1-linux-x86_64": b"other bytes"}, "cp {tgz} ."),
        ({"package/README.md": b"no Bazel"}, "cp {tgz} ."),
        ({"package/../../x": b"outside"}, "cp {tgz} ."),
        ({"package/bazel-0.24.1-linux-x86_64": RELEASE}, "cp {tgz} a.tgz; cp {tgz} b.tgz"),
    ],
    ids=["fails", "brings nothing", "no archive", "a directory", "other bytes", "no Bazel", "unsafe", "two packages"],
)
def test_whatever_npm_brings_that_is_not_the_release_the_release_itself_is_fetched(
    release: Tool, settings: Settings, tmp_path: Path, members: dict[str, bytes], command: str
) -> None:
    tgz = package(tmp_path, members)
    script(tmp_path / "bin/npm", command.format(tgz=shlex.quote(str(tgz))))
    data, notes = brought(release, settings)
    assert data == RELEASE
    assert "npm could not fetch it" in notes[1]


def test_an_npm_that_can_not_be_started_is_no_obstacle(release: Tool, settings: Settings, tmp_path: Path) -> None:
    npm = script(tmp_path / "bin/npm", "")
    npm.write_text("#!/no/such/interpreter\n")
    assert brought(release, settings)[0] == RELEASE


def test_offline_npm_is_not_asked(release: Tool, settings: Settings, tmp_path: Path) -> None:
    script(tmp_path / "bin/npm", f"touch {shlex.quote(str(tmp_path / 'asked'))}")
    offline = Settings(build_root=settings.build_root, offline=True)
    with pytest.raises(FetchError):
        brought(release, offline)
    assert not (tmp_path / "asked").exists()


# ---- npm beside mirrors


def npm_with(release_bytes: bytes, tmp_path: Path) -> Path:
    tgz = package(tmp_path, {"package/bazel-0.24.1-linux-x86_64": release_bytes})
    return script(tmp_path / "bin/npm", f"touch {shlex.quote(str(tmp_path / 'asked'))}; cp {shlex.quote(str(tgz))} .")


def test_a_mirror_is_asked_before_npm_and_npm_before_the_declared_url(
    release: Tool, settings: Settings, tmp_path: Path
) -> None:
    npm_with(RELEASE, tmp_path)
    (tmp_path / "mirror").mkdir()
    mirrored = dataclasses.replace(settings, mirrors=((tmp_path / "mirror").as_uri(),))
    document: Any = bazel_program.plan_tools([release], mirrored).to_json()
    (missing,) = document["missing"]
    assert missing["urls"][0] == f"{(tmp_path / 'mirror').as_uri()}/bazel-0.24.1-linux-x86_64"
    assert missing["urls"][-2:] == ["npm:@bazel/bazel-linux_x64@0.24.1", release.urls[0]]
    assert "then npm:@bazel/bazel-linux_x64@0.24.1" in bazel_program.plan_tools([release], mirrored).text()
    assert (
        brought(dataclasses.replace(release, urls=("https://x.invalid/bazel-0.24.1-linux-x86_64",)), mirrored)[0]
        == RELEASE
    )
    assert (tmp_path / "asked").exists()


def test_a_mirror_that_has_bazel_keeps_npm_from_being_asked(release: Tool, settings: Settings, tmp_path: Path) -> None:
    npm_with(RELEASE, tmp_path)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/bazel-0.24.1-linux-x86_64").write_bytes(RELEASE)
    data, notes = brought(release, dataclasses.replace(settings, mirrors=((tmp_path / "mirror").as_uri(),)))
    assert (data, notes) == (RELEASE, [])
    assert not (tmp_path / "asked").exists()


def test_the_failure_names_what_mirror_npm_and_declared_url_answered(
    release: Tool, settings: Settings, tmp_path: Path
) -> None:
    script(tmp_path / "bin/npm", "exit 1")
    (tmp_path / "mirror").mkdir()
    gone = dataclasses.replace(release, urls=(release.urls[0] + "-gone",))
    with pytest.raises(FetchError) as caught:
        brought(gone, dataclasses.replace(settings, mirrors=((tmp_path / "mirror").as_uri(),)))
    answers = [line.split(": ")[0].strip() for line in caught.value.what.splitlines()[2:]]
    assert answers[0].startswith("file:///")
    assert answers[-2:] == ["npm:@bazel/bazel-linux_x64@0.24.1", gone.urls[0]]


def test_where_npm_is_not_installed_the_failure_names_that_way(
    release: Tool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    gone = dataclasses.replace(release, urls=(release.urls[0] + "-gone",))
    with pytest.raises(FetchError) as caught:
        brought(gone, settings)
    assert "install npm: Bazel is then taken from its package @bazel/bazel-linux_x64" in caught.value.cure
    assert "npm:" not in bazel_program.plan_tools([release], settings).text()


def test_offline_the_plan_names_neither_npm_nor_a_url_and_refuses_as_the_run_does(
    release: Tool, settings: Settings, tmp_path: Path
) -> None:
    npm_with(RELEASE, tmp_path)
    offline = dataclasses.replace(settings, offline=True)
    plan = bazel_program.plan_tools([release], offline)
    assert plan.tried == {release.sha256: ()}
    with pytest.raises(FetchError) as planned:
        plan.refuse_without_places()
    with pytest.raises(FetchError) as ran:
        brought(release, offline)
    assert str(planned.value) == str(ran.value)
