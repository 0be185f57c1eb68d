"""Declared fixes for newer toolchains: when they apply, to what, and what becomes of an archive."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from npu_serving.errors import PinMismatchError, SourceError
from npu_serving.lock.lockfile import Archive, read_lock
from npu_serving.overlay import patches
from npu_serving.overlay.adapter import plan_overlay
from npu_serving.overlay.patches import (
    Edit,
    Patch,
    Toolchain,
    apply_patches,
    load_patches,
    needed_patches,
    plan_patches,
)
from npu_serving.settings import PROJECT_ROOT

UBUNTU_18_04 = Toolchain(glibc="2.27", gcc="8.4.0")
DEBIAN_12 = Toolchain(glibc="2.36", gcc="12.2.0")
LIBEVENT = "com_github_libevent_libevent"


def tar_of(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def declared(name, path, **fields):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Archive(name=name, rule="http_archive", urls=(f"https://x.invalid/{path.name}",), sha256=digest, **fields)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A tree, three archives and one patch for each place where a build file may come from."""
    tree = tmp_path / "tree"
    (tree / "third_party/zipped").mkdir(parents=True)
    (tree / "third_party/zipped/BUILD").write_text('genrule(cmd = "make")\n')
    tensorflow = tar_of(
        tmp_path / "tf.tar.gz",
        {"tf-1/third_party/own/BUILD.bazel": 'cc_library(defines = ["OLD"])\n', "tf-1/WORKSPACE": "", "tf-1/big": "x"},
    )
    own = tar_of(tmp_path / "own.tar.gz", {"own-1/a.c": "old(); old();\n", "own-1/BUILD": "# upstream's\n"})
    whole = tar_of(
        tmp_path / "whole.tar.gz", {"whole-1/WORKSPACE": "# kept\n", "whole-1/b.c": "x\n", "whole-1/run.sh": ""}
    )
    zipped = tmp_path / "zipped.zip"
    with zipfile.ZipFile(zipped, "w") as packed:
        packed.writestr("zipped-1/c.c", "one\r\ntwo\r\n")
    archives = (
        declared("org_tensorflow", tensorflow, strip_prefix="tf-1"),
        declared("own", own, strip_prefix="own-1", build_file="//third_party/own:BUILD.bazel"),
        declared("whole", whole, strip_prefix="whole-1"),
        declared("zipped", zipped, strip_prefix="zipped-1", build_file="@//third_party/zipped:BUILD"),
    )
    digests = {archive.name: archive.sha256 for archive in archives}
    wanted = (
        Patch("own-old", "", {"glibc": ">=2.30"}, "own", digests["own"], (Edit("a.c", "old()", "new()", 2),)),
        Patch("own-build", "", {"gcc": ">=9"}, "own", digests["own"], (Edit("BUILD.bazel", "OLD", "NEW", 1),)),
        Patch("whole", "", {"gcc": ">=11"}, "whole", digests["whole"], (Edit("b.c", "x", "y", 1),)),
        Patch(
            "zipped",
            "",
            {"gcc": ">=11"},
            "zipped",
            digests["zipped"],
            (Edit("c.c", "one", "1", 1), Edit("BUILD.bazel", "make", "make it", 1)),
        ),
        Patch("flags", "", {"gcc": ">=11"}, flags=("--cxxopt=-include",)),
    )
    monkeypatch.setattr(patches, "load_patches", lambda: wanted)
    files = {archive.name: tmp_path / archive.file_name for archive in archives}

    def plan(toolchain=DEBIAN_12, among=archives):
        return plan_patches(tree, among, lambda archive: files[archive.name], tmp_path / "patched", toolchain)

    known = {"archives": archives, "files": files, "tree": tree, "patches": wanted, "root": tmp_path / "patched"}
    vars(plan).update(known)  # a function's own attributes
    return plan


def repository(plan, name):
    (item,) = [item for item in plan.repositories if item.archive.name == name]
    return plan.root / item.key / "repository"


def test_ubuntu_18_04_calls_for_none_of_the_fixes():
    assert needed_patches(UBUNTU_18_04) == ()


@pytest.mark.parametrize(
    ("glibc", "gcc", "ids"),
    [
        ("2.29", "10.2.1", []),
        ("2.30", "9.3.0", ["grpc-gettid"]),
        ("2.31", "10.2.1", ["grpc-gettid"]),
        ("2.32", "10.2.1", ["grpc-gettid", "hwloc-sysctl"]),
        ("2.35", "11.4.0", ["grpc-gettid", "hwloc-sysctl", "boringssl-warnings", "standard-headers"]),
        ("2.28", "12", ["boringssl-warnings", "standard-headers"]),
        ("2.4", "8", []),
    ],
)
def test_each_fix_applies_from_its_version_on_as_numbers_not_as_text(glibc, gcc, ids):
    assert [patch.id for patch in needed_patches(Toolchain(glibc, gcc))] == ids


def test_debian_12_calls_for_all_of_them():
    assert needed_patches(DEBIAN_12) == load_patches()


def test_the_declared_patches_are_for_the_archives_that_the_lock_pins():
    lock = {archive.name: archive for archive in read_lock(PROJECT_ROOT / "locks/serving-1.15.0.json").archives}
    for patch in load_patches():
        assert patch.why
        assert patch.edits or patch.flags
        assert bool(patch.edits) == bool(patch.archive_name)
        if patch.archive_name:
            assert lock[patch.archive_name].sha256 == patch.archive_sha256
    ids = [patch.id for patch in load_patches()]
    assert len(ids) == len(set(ids))


def test_patches_are_chosen_by_what_the_runner_says_of_itself():
    from npu_serving.building.inputs import toolchain_of

    assert toolchain_of({"compiler": "gcc 12.2.0, g++ 12.2.0", "glibc": "glibc 2.36"}) == Toolchain("2.36", "12.2.0")
    assert toolchain_of({}) == Toolchain("0", "0"), "what is not known counts as old"


def test_a_patched_repository_is_the_archive_with_its_edits_and_its_declared_build_file(world):
    plan = world()
    assert not any(plan.root.glob("*")), "planning writes nothing"

    apply_patches(plan)

    own, whole, zipped = (repository(plan, name) for name in ("own", "whole", "zipped"))
    assert (own / "a.c").read_text() == "new(); new();\n"
    assert (own / "BUILD.bazel").read_text() == 'cc_library(defines = ["NEW"])\n'
    assert (own / "WORKSPACE").read_text() == 'workspace(name = "own")\n'
    assert sorted(path.name for path in own.parent.iterdir()) == ["repository"]
    assert (whole / "WORKSPACE").read_text() == "# kept\n"
    assert (whole / "b.c").read_text() == "y\n"
    assert (whole / "run.sh").stat().st_mode & 0o100
    assert not (whole / "BUILD.bazel").exists()
    assert (zipped / "c.c").read_bytes() == b"1\r\ntwo\r\n"
    assert (zipped / "BUILD.bazel").read_text() == 'genrule(cmd = "make it")\n'


def test_bazel_is_told_of_each_repository_where_it_sees_it(world):
    plan = world()
    key = repository(plan, "whole").parent.name
    assert f"--override_repository=whole={plan.root / key / 'repository'}" in plan.bazel_flags()
    assert f"--override_repository=whole=/inside/{key}/repository" in plan.bazel_flags(Path("/inside"))
    assert plan.bazel_flags()[-1] == "--cxxopt=-include"


def test_a_second_run_changes_nothing_and_reads_no_archive(world):
    apply_patches(world())
    for path in world.files.values():
        path.unlink()
    plan = world()
    assert plan.changes == ()
    apply_patches(plan)


def test_another_archive_edit_or_build_file_makes_another_directory(world, monkeypatch):
    keys = {item.archive.name: item.key for item in world().repositories}
    (world.tree / "third_party/zipped/BUILD").write_text('genrule(cmd = "make", n = 1)\n')
    changed = [
        dataclasses.replace(p, edits=(Edit("b.c", "x", "z", 1),)) if p.id == "whole" else p for p in world.patches
    ]
    monkeypatch.setattr(patches, "load_patches", lambda: changed)

    now = {item.archive.name: item.key for item in world().repositories}

    assert now["zipped"] != keys["zipped"]
    assert now["whole"] != keys["whole"]
    assert now["own"] == keys["own"]


def test_a_tree_without_the_archives_is_left_alone(world):
    plan = world(among=())
    assert plan.repositories == ()
    assert plan.bazel_flags() == ("--cxxopt=-include",)
    assert set(plan.skipped) == {"own-old", "own-build", "whole", "zipped"}
    apply_patches(plan)
    assert not plan.root.exists()


def test_an_archive_of_the_same_name_with_other_content_is_left_alone(world):
    others = tuple(dataclasses.replace(archive, sha256="0" * 64) for archive in world.archives)
    assert world(among=others).repositories == ()


def test_an_edit_that_does_not_fit_is_refused_and_leaves_nothing(world, monkeypatch):
    wrong = [dataclasses.replace(p, edits=(Edit("b.c", "x", "y", 2),)) if p.id == "whole" else p for p in world.patches]
    monkeypatch.setattr(patches, "load_patches", lambda: wrong)
    plan = world()
    with pytest.raises(SourceError, match=r"whole does not fit whole: b\.c contains 'x' 1 times, not 2"):
        apply_patches(plan)
    assert not repository(plan, "whole").parent.exists()
    assert not [path for path in plan.root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["whole", "org_tensorflow"])
def test_an_archive_that_is_not_what_is_pinned_is_not_unpacked(world, name):
    world.files[name].write_bytes(b"something else")
    with pytest.raises(PinMismatchError, match=name):
        apply_patches(world())


def test_a_tree_that_is_none_is_refused_whatever_is_to_be_patched(world, tmp_path):
    from npu_serving.overlay.content import OverlayInputs

    inputs = OverlayInputs(Path("a"), Path("b"), world())
    with pytest.raises(SourceError):
        plan_overlay(tmp_path, inputs)
