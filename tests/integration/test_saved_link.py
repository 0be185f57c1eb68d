"""The final link done again without Bazel, on the sample with the real Bazel: the same bytes, or Bazel itself."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from states import library_path, switch_cann

from npu_serving import fsutil
from npu_serving.building import pipeline
from npu_serving.building.context import BuildContext, find_context
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.building.saved_link_run import relinked, usable_link
from npu_serving.building.saved_links import saved_link_of
from npu_serving.builds.current import CURRENT, DIST_LOCK, find_build
from npu_serving.builds.manifest import Build
from npu_serving.builds.verify import verify_build
from npu_serving.console import Silent
from npu_serving.errors import BuildFailedError, StateLockedError
from npu_serving.linking.saved_link import SavedLink
from npu_serving.overlay.adapter import apply_overlay, plan_overlay
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock

pytestmark = pytest.mark.bazel
OBJECT = "bazel-out/k8-opt/bin/tensorflow_serving/core/_objs/stop_signal/stop_signal.o"


@pytest.fixture(scope="module")
def upgraded(
    built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The sample built, then the next CANN installed, with a dist/ for what follows.

    Built into a dist/ that has nothing yet: a build that is there would leave Bazel's output as another module left it.
    """
    build_serving(
        dataclasses.replace(sample_settings, dist_root=tmp_path_factory.mktemp("first") / "dist", install_link=""),
        Silent(),
    )
    install_sample_cann(sample_settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    yield dataclasses.replace(sample_settings, dist_root=tmp_path_factory.mktemp("linked") / "dist", install_link="")
    switch_cann(sample_settings, FIRST_RELEASE)
    build_serving(sample_settings, Silent())


@pytest.fixture(scope="module")
def linked(upgraded: Settings) -> BuildResult:
    """The server for the next CANN, by the saved link and the linker that Bazel takes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "relinking", lambda _context, made_by: made_by)
        return build_serving(upgraded, Silent(), by_saved_link=True)


@pytest.fixture(scope="module")
def by_bazel(upgraded: Settings, linked: BuildResult, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """The same by Bazel, whose own output is the former server until then."""
    settings = dataclasses.replace(upgraded, dist_root=tmp_path_factory.mktemp("by-bazel") / "dist")
    return build_serving(settings, Silent())


@pytest.fixture(scope="module")
def context(upgraded: Settings, by_bazel: BuildResult) -> BuildContext:
    """What is built from now, with the overlay of the next CANN in the tree."""
    found = find_context(upgraded, Silent())
    apply_overlay(plan_overlay(found.source.tree, found.overlay))
    return found


@pytest.fixture(scope="module")
def saved(context: BuildContext) -> SavedLink:
    """The saved link as it was kept when Bazel linked."""
    found = saved_link_of(context)
    assert found is not None
    return found


@pytest.fixture
def an_object(context: BuildContext) -> Iterator[Path]:
    """One that the link reads, put back at the end as it was."""
    path = next((context.output_base / "execroot").glob(f"*/{OBJECT}"))
    content, status = path.read_bytes(), path.stat()
    yield path
    fsutil.remove(path)
    path.write_bytes(content)
    path.chmod(0o555)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_saved_link_makes_byte_for_byte_what_bazel_makes_and_writes_nothing_of_bazels(
    upgraded: Settings, linked: BuildResult, by_bazel: BuildResult
) -> None:
    assert (linked.by_saved_link, linked.why_bazel) == (True, "")
    assert (linked.record.compiled, linked.record.linked) == (0, 1)
    assert linked.build.manifest.adapter["cann_version"] == NEXT_RELEASE
    assert verify_build(upgraded).exit_code == 0
    assert by_bazel.record.linked == 1, "Bazel's own output was the former server, or it would have nothing to link"
    assert not by_bazel.by_saved_link
    assert by_bazel.build.manifest.files == linked.build.manifest.files
    same = ("input_digest", "objects", "linker", "source", "toolchain", "lock_digest")
    for name in same:
        assert getattr(by_bazel.build.manifest, name) == getattr(linked.build.manifest, name)


def test_lld_links_again_where_it_is_new_enough_and_the_linker_of_before_where_it_fails(
    upgraded: Settings, linked: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = linked.build.manifest.linker
    quick = build_serving(dataclasses.replace(upgraded, dist_root=tmp_path / "quick"), Silent(), by_saved_link=True)
    assert (quick.build.manifest.linker, quick.by_saved_link, first) == ("lld", True, "gold")
    assert quick.build.manifest.linker_version
    assert quick.build.manifest.input_digest == linked.build.manifest.input_digest

    def without_lld(*arguments: Any, linker: str = "", **others: Any) -> Any:
        return relinked(*arguments, linker="nonesuch" if linker == "lld" else linker, **others)

    monkeypatch.setattr(pipeline, "relinked", without_lld)
    former = build_serving(dataclasses.replace(upgraded, dist_root=tmp_path / "former"), Silent(), by_saved_link=True)
    assert (former.build.manifest.linker, former.by_saved_link) == (first, True)
    assert former.build.manifest.files == linked.build.manifest.files


def test_a_build_that_is_there_already_is_not_linked_again(upgraded: Settings, linked: BuildResult) -> None:
    again = build_serving(upgraded, Silent(), by_saved_link=True)
    assert again.build.manifest.build_id == linked.build.manifest.build_id
    assert (again.record.linked, again.by_saved_link) == (0, False)


def test_a_proof_hears_whether_this_run_has_verified_the_build(
    upgraded: Settings, linked: BuildResult, tmp_path: Path
) -> None:
    settings, heard = dataclasses.replace(upgraded, dist_root=tmp_path / "dist"), list[bool]()

    def proof(_build: Build, is_verified: bool) -> None:
        heard.append(is_verified)

    made = build_serving(settings, Silent(), by_saved_link=True, proof=proof)
    fsutil.remove(settings.dist_root / CURRENT)
    again = build_serving(settings, Silent(), by_saved_link=True, proof=proof)
    assert again.build.directory == made.build.directory
    assert heard == [True, False]


def test_nothing_of_a_link_is_left_beside_the_builds(upgraded: Settings, linked: BuildResult) -> None:
    assert {path.name for path in upgraded.dist_root.iterdir()} <= {
        CURRENT,
        ".lock",
        DIST_LOCK,
        ".digests.json",
        linked.build.directory.name,
    }


# ---- when Bazel links


def test_an_object_that_only_got_another_time_is_linked_as_it_is(context: BuildContext, an_object: Path) -> None:
    os.utime(an_object, ns=(1, 1))
    assert usable_link(context).saved is not None


def test_an_object_of_other_bytes_or_none_is_named_and_bazel_links(
    context: BuildContext, upgraded: Settings, an_object: Path, tmp_path: Path
) -> None:
    content = an_object.read_bytes()
    fsutil.remove(an_object)
    an_object.write_bytes(content[::-1])
    changed = usable_link(context)
    assert (changed.saved, changed.why_not) == (None, f"{OBJECT} has changed since the server was linked with it")
    assert not changed.is_gone
    fsutil.remove(an_object)
    gone = usable_link(context)
    assert (gone.why_not, gone.is_gone) == (f"{OBJECT} is gone, with which the server was linked", True)
    settings = dataclasses.replace(upgraded, dist_root=tmp_path / "dist")
    result = build_serving(settings, Silent(), by_saved_link=True)
    assert not result.by_saved_link
    assert OBJECT in result.why_bazel
    assert result.record.compiled == 1
    assert verify_build(settings).exit_code == 0


def test_an_output_root_that_bazel_has_used_for_other_flags_meanwhile_is_left_to_bazel(
    context: BuildContext, upgraded: Settings, linked: BuildResult, tmp_path: Path
) -> None:
    flag = "--per_file_copt=tensorflow_serving/core/stop_signal.cc@-DOTHER,-O0"
    other = dataclasses.replace(upgraded, dist_root=tmp_path / "other", bazel_args=(flag,))
    result = build_serving(other, Silent(), by_saved_link=True)
    assert result.why_bazel == "no link was kept of what this source, toolchain and these flags make"
    assert usable_link(context).why_not == f"{OBJECT} has changed since the server was linked with it"
    assert usable_link(find_context(other, Silent())).saved is not None
    back = build_serving(dataclasses.replace(upgraded, dist_root=tmp_path / "back"), Silent(), by_saved_link=True)
    assert OBJECT in back.why_bazel
    assert back.build.manifest.files == linked.build.manifest.files


def test_a_change_of_the_source_that_changes_no_object_keeps_the_link_and_only_bazel_can_know(
    upgraded: Settings, context: BuildContext, tmp_path: Path
) -> None:
    source = context.source.tree / "tensorflow_serving" / "core" / "stop_signal.cc"
    before = source.read_bytes()
    build_serving(dataclasses.replace(upgraded, dist_root=tmp_path / "before"), Silent())
    source.write_bytes(before + b"// A remark.\n")
    try:
        settings = dataclasses.replace(upgraded, dist_root=tmp_path / "dist")
        remarked = find_context(settings, Silent())
        assert saved_link_of(remarked) is None
        result = build_serving(settings, Silent(), by_saved_link=True)
        assert (result.record.compiled, result.record.linked, result.by_saved_link) == (1, 0, False)
        assert usable_link(remarked).saved is not None
        assert result.build.manifest.linker
    finally:
        source.write_bytes(before)


def test_a_library_that_now_lies_earlier_on_the_linkers_way_means_bazel(
    context: BuildContext, saved: SavedLink
) -> None:
    found = {library.name: library.path for library in saved.libraries}
    assert found["_tf_adapter"].endswith("/lib_tf_adapter.so") and found["stdc++"].endswith("/libstdc++.so")
    earlier = Path(saved.directory) / saved.searched[0] / "libstdc++.so"
    earlier.write_text("a package installed it")
    try:
        why = usable_link(context).why_not
        assert f"{saved.searched[0]}/libstdc++.so for -lstdc++, where {found['stdc++']} was" in why
    finally:
        earlier.unlink()
    assert usable_link(context).saved is not None


def test_another_compiler_or_linker_than_the_one_that_linked_means_bazel(
    context: BuildContext, saved: SavedLink
) -> None:
    """A gcc of the same version may have been built anew: its own bytes are compared, and those of what it adds."""
    names = {Path(item.name).name for item in saved.inputs if item.name.startswith("/")}
    assert {"crti.o", "crtn.o", "libgcc.a", "libstdc++.so", "libc.so.6", "collect2"} <= names
    assert any(name.startswith(("ld", "x86_64")) for name in names)
    other = [
        dataclasses.replace(item, mtime_ns=1, sha256="0") if "crtn" in item.name else item for item in saved.inputs
    ]
    changed = dataclasses.replace(saved, inputs=tuple(other)).changed_input(Path(saved.directory))
    assert changed.endswith("crtn.o")


# ---- what goes wrong at a link


def _starts(server: Path, settings: Settings) -> bool:
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, library_path(settings)))}
    return subprocess.run([server, "--version"], env=environment, capture_output=True, check=False).returncode == 0


def _wrapper(directory: Path, saved: SavedLink, text: str) -> SavedLink:
    """The saved link with a linker of ours in the place of its own."""
    linker = directory / f"ld.{saved.linker}"
    fsutil.write_file(linker, f"#!/bin/sh\n{text}\n", mode=0o755)
    return dataclasses.replace(saved, command=(saved.command[0], f"-B{directory}", *saved.command[1:]))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("kill -9 $$", "memory ran out"),
        ("kill -9 $PPID", "memory ran out"),
        ("echo \"/usr/bin/ld: cannot find -lpython3.7m: No such file or directory\" >&2; exit 1", "-lpython3.7m"),
        ("echo \"ld.lld: error: unable to find library -l_tf_adapter\" >&2; exit 1", "-l_tf_adapter"),
        ("echo \"ld.lld: error: undefined symbol: tensorflow::Status::ToString()\" >&2; exit 1", "tensorflow::Status"),
        ("echo \"/usr/bin/ld: lib_tf_adapter.so: file in wrong format\" >&2; exit 1", "another processor"),
        ("exit 0", ""),
        ("echo something unheard of >&2; exit 1", ""),
    ],
)  # fmt: skip
def test_a_linker_that_fails_or_is_killed_is_told_with_its_cause_and_the_former_server_stays(
    context: BuildContext, saved: SavedLink, tmp_path: Path, text: str, cause: str
) -> None:
    before = {path: path.lstat().st_mtime_ns for path in context.settings.dist_root.rglob("*")}
    with pytest.raises(BuildFailedError) as caught, relinked(context, _wrapper(tmp_path, saved, text), Silent()):
        pass
    assert cause in caught.value.cause
    assert caught.value.cure
    assert before == {path: path.lstat().st_mtime_ns for path in context.settings.dist_root.rglob("*")}
    assert _starts(find_build(context.settings.dist_root).server, context.settings)


def test_a_linker_that_is_missing_and_one_of_another_kind_are_told_as_such(
    context: BuildContext, saved: SavedLink
) -> None:
    """bfd knows no --start-lib."""
    for linker, cause in (("bfd", "another kind of linker"), ("nonesuch", "not installed")):
        with pytest.raises(BuildFailedError) as caught, relinked(context, saved, Silent(), linker=linker):
            pass
        assert cause in caught.value.cause, caught.value.what


def test_another_linker_can_be_named_and_makes_a_server_that_starts(
    context: BuildContext, saved: SavedLink, tmp_path: Path
) -> None:
    with relinked(context, saved, Silent(), linker="lld") as server:
        assert b"LLD" in server.read_bytes()
        (tmp_path / "bin").mkdir()
        (tmp_path / "lib").symlink_to(find_build(context.settings.dist_root).libraries)
        assert _starts(server.rename(tmp_path / "bin" / "server"), context.settings)


def test_a_full_disk_is_told_and_nothing_is_left_on_it(context: BuildContext, saved: SavedLink, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        settings = dataclasses.replace(context.settings, dist_root=disk / "dist")
        full = dataclasses.replace(context, settings=settings)
        with pytest.raises(BuildFailedError) as caught, relinked(full, saved, Silent()):
            pass
        assert "disk" in caught.value.cause, caught.value.what
        assert list(settings.dist_root.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_links_at_once_exclude_each_other(upgraded: Settings, linked: BuildResult, tmp_path: Path) -> None:
    settings = dataclasses.replace(upgraded, dist_root=tmp_path / "dist")
    with state_lock(upgraded.build_root, doing="rebuild-after-cann"), pytest.raises(StateLockedError):
        build_serving(settings, Silent(), by_saved_link=True)
    assert not (tmp_path / "dist" / CURRENT).exists()
