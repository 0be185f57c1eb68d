"""Which patches a tree gets, and what becomes of an archive: of the bytes that they were written for, and of others."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from npu_serving.errors import PinMismatchError, SourceError
from npu_serving.lock.lockfile import Archive
from npu_serving.overlay import patch_plan, patches
from npu_serving.overlay.adapter import plan_overlay
from npu_serving.overlay.patch_plan import (
    ABSENT,
    FITTED,
    IN_THE_IMAGE,
    SKIPPED,
    UNTRIED,
    apply_patches,
    plan_patches,
)
from npu_serving.overlay.patches import Edit, Patch, Toolchain

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
        Patch(
            "whole", "", {"gcc": ">=11"}, "whole", digests["whole"], (Edit("b.c", "x", "y", 1),), (), ("whole-missing",)
        ),
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
    monkeypatch.setattr(patch_plan, "load_patches", lambda: wanted)
    files = {archive.name: tmp_path / archive.file_name for archive in archives}

    def plan(toolchain=DEBIAN_12, among=archives, needed=None):
        return plan_patches(
            tree, among, lambda archive: files[archive.name], tmp_path / "patched", toolchain, needed=needed
        )

    known = {"archives": archives, "files": files, "tree": tree, "patches": wanted, "root": tmp_path / "patched"}
    vars(plan).update(known)  # a function's own attributes
    return plan


def repository(plan, name):
    (item,) = [item for item in plan.repositories if item.archive.name == name]
    return plan.root / item.key / "repository"


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


def with_other_bytes(world, name, files, **fields):
    """The archives, one of which has other content and with it another digest."""
    path = tar_of(world.tree.parent / f"other-{name}.tar.gz", files)
    world.files[name] = path
    other = declared(name, path, strip_prefix=f"{name}-1", **fields)
    return other, tuple(other if archive.name == name else archive for archive in world.archives)


def outcomes(plan):
    return {case.patch.id: case.outcome for case in plan.cases}


def test_edits_that_fit_other_bytes_as_well_are_applied_to_them_and_that_is_said(world):
    other, among = with_other_bytes(world, "whole", {"whole-1/b.c": "x, but newer\n", "whole-1/BUILD": ""})

    plan = world(among=among)

    (case,) = plan.worth_telling
    assert case.patch.id == "whole"
    assert case.is_applied
    assert other.sha256 in case.text()
    assert case.patch.archive_sha256 in case.text()
    assert "its edit fits there" in case.text()
    assert case.to_json()["declared_sha256"] == other.sha256
    assert case.to_json()["written_for_sha256"] == case.patch.archive_sha256
    assert not any(plan.root.glob("*")), "trying writes nothing"
    apply_patches(plan)
    assert (repository(plan, "whole") / "b.c").read_text() == "y, but newer\n"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"whole-1/b.c": "x x\n", "whole-1/BUILD": ""}, "b.c contains 'x' 2 times, not 1"),
        ({"whole-1/b.c": "z\n", "whole-1/BUILD": ""}, "none of the texts that it changes is there"),
        ({"whole-1/BUILD": ""}, "none of the texts that it changes is there"),
        ({"whole-1/b.c": "x\n"}, "the tree writes its build file itself"),
        ({"elsewhere/b.c": "x\n"}, "the tree writes its build file itself"),
    ],
)
def test_a_patch_that_does_not_fit_other_bytes_is_skipped_by_name_with_both_digests_and_why(world, files, why):
    other, among = with_other_bytes(world, "whole", files)

    plan = world(among=among)

    (case,) = plan.worth_telling
    finding = case.finding()
    assert plan.skipped == ("whole",)
    assert why in case.text()
    assert other.sha256 in finding.what
    assert case.patch.archive_sha256 in finding.what
    assert finding.severity == "warning"
    assert "third_party_overlay/patches/patches.yaml" in finding.cure
    assert [item.archive.name for item in plan.repositories] == ["own", "zipped"]
    apply_patches(plan)


def test_of_two_patches_of_an_archive_the_one_that_fits_is_applied(world):
    text = {"own-1/a.c": "old(); old(); old();\n", "own-1/BUILD": ""}
    _, among = with_other_bytes(world, "own", text, build_file="//third_party/own:BUILD.bazel")
    plan = world(among=among)
    assert outcomes(plan)["own-old"] == SKIPPED
    assert outcomes(plan)["own-build"] == FITTED
    apply_patches(plan)
    assert (repository(plan, "own") / "BUILD.bazel").read_text() == 'cc_library(defines = ["NEW"])\n'


def test_a_damaged_archive_skips_its_patch_and_no_plan_fails_of_it(world):
    other, among = with_other_bytes(world, "whole", {"whole-1/b.c": "x"})
    path = world.files["whole"]
    path.write_bytes(path.read_bytes()[:40])
    other = dataclasses.replace(other, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    plan = world(among=tuple(other if archive.name == "whole" else archive for archive in among))
    (case,) = plan.worth_telling
    assert case.outcome == SKIPPED
    assert "Could not read" in case.why


def test_bytes_that_are_not_fetched_yet_are_tried_when_they_are_there(world):
    _, among = with_other_bytes(world, "whole", {"whole-1/b.c": "x\n", "whole-1/BUILD": ""})
    path = world.files["whole"]
    away = path.rename(path.with_suffix(".away"))
    plan = world(among=among)
    assert not plan.is_settled
    assert outcomes(plan)["whole"] == UNTRIED
    assert plan.worth_telling[0].text().endswith("it is tried as soon as whole has been fetched")
    assert plan.worth_telling[0].finding().cure == "./inv fetch-deps", "where the flags are added that were typed"
    away.rename(path)
    plan = world(among=among)
    assert plan.is_settled
    assert outcomes(plan)["whole"] == FITTED


def test_nothing_of_the_trees_own_making_is_lost_to_a_patch(world):
    """Bazel takes a directory in place of such an archive: then nobody would apply the tree's own patches."""
    changes = {"patch_files": ("//third_party:mine.patch",), "build_file": "@other//:BUILD", "sha256": None}
    for name, value in changes.items():
        among = tuple(
            dataclasses.replace(archive, **{name: value}) if archive.name == "whole" else archive
            for archive in world.archives
        )
        (case,) = world(among=among).worth_telling
        assert case.outcome == SKIPPED, name
        assert case.why


def test_an_archive_that_the_build_does_not_ask_for_needs_no_patch_and_no_word(world):
    plan = world(needed={"own", "org_tensorflow"})
    assert {item.archive.name for item in plan.repositories} == {"own"}
    assert plan.worth_telling == ()
    assert outcomes(plan)["zipped"] == ABSENT


def test_a_cure_says_what_this_very_plan_lacked_and_never_the_command_that_failed(world):
    same_command = "./inv build-serving "
    _, among = with_other_bytes(world, "whole", {"whole-1/b.c": "x x\n", "whole-1/BUILD": ""})
    cures = {
        "skipped": world(among=among).cure_of("whole-missing"),
        "absent": world(among=()).cure_of("whole-missing"),
        "applied": world().cure_of("whole-missing"),
        "not called for": world(UBUNTU_18_04).cure_of("whole-missing"),
    }
    assert "b.c contains 'x' 2 times" in cures["skipped"]
    assert "whole has nothing to change in this tree, so this is another place" in cures["absent"]
    assert "for these bytes" not in cures["absent"]
    assert "whole was applied, so this is another place" in cures["applied"]
    assert "not called for" in cures["not called for"]
    assert len(set(cures.values())) == len(cures)
    for cure in cures.values():
        assert IN_THE_IMAGE in cure
        assert same_command not in cure.replace(IN_THE_IMAGE, "")
    assert world().cure_of("no-space") == ""


def test_the_cure_helps_where_it_leads_no_patch_is_called_for(world):
    words = IN_THE_IMAGE.split()
    assert words[:2] == ["./inv", "build-serving"]
    assert words[words.index("--runner") + 1] == "docker"
    assert words[words.index("--base-image") + 1] == "ubuntu:18.04"
    plan = world(UBUNTU_18_04)
    assert plan.cases == ()


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
