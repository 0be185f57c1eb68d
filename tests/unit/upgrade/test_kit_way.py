"""A build that is linked from its own relink kit, because nothing else of it is there but its source's name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from listening import Listening
from small_kits import ANSWER, OTHER, described, install_adapter, make_members, relinked, small_adapter, write_small_kit

from npu_serving.asking.golden_places import NONE_RECORDED
from npu_serving.builds.current import dist_lock, find_build, make_current, packages_directory, read_builds
from npu_serving.builds.listing import list_builds
from npu_serving.builds.manifest import MANIFEST, Build, FileNeeds, ReleaseFit
from npu_serving.builds.pruning import prune_builds
from npu_serving.builds.rollback import roll_back
from npu_serving.cann.install import cann_of
from npu_serving.console import Silent
from npu_serving.errors import (
    BuildFailedError,
    KitError,
    MissingToolError,
    NpuServingError,
    OutOfMemoryError,
    ProgramError,
    SourceError,
    StateLockedError,
    SwitchedMeanwhileError,
    VerificationError,
)
from npu_serving.relink_kit import relink as relink_module
from npu_serving.relink_kit.kit_file import KIT_JSON
from npu_serving.settings import Settings
from npu_serving.upgrade import rebuild, rebuild_plan
from npu_serving.upgrade.kit_way import KITS, usable_kit
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import FULL, KIT, SWAP, plan_rebuild

OF_THE_BUILD = "npu-serving-kit-1.2.3-0b0b0b0b0b0b-x86_64.pyz"


def write_copy(build: Build) -> str:
    """The same build under another name, which it returns."""
    name = "serving-copy"
    shutil.copytree(build.directory, build.directory.with_name(name), symlinks=True)
    path = build.directory.with_name(name) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "build_id": name}))
    return name


@dataclass
class Place:
    """A server that was made from a kit, whose kit lies in dist/packages, after CANN was upgraded."""

    settings: Settings
    members: dict[str, Path]
    kit: Path

    def altered(self, marker: bytes, *, behind: int = 0) -> None:
        """The kit with one bit changed, so far behind the marker."""
        data = bytearray(self.kit.read_bytes())
        data[data.index(marker) + len(marker) + behind] ^= 1
        self.kit.write_bytes(data)

    def starts(self) -> str:
        """The name of the current build, whose server starts with every symbol found."""
        build = find_build(self.settings.dist_root)
        subprocess.run([build.server], check=True, env={"LD_BIND_NOW": "1"})
        return build.manifest.build_id


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_members(tmp_path_factory.mktemp("members"))


@pytest.fixture
def place(members: dict[str, Path], tmp_path: Path) -> Place:
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "first", ANSWER))
    packages = packages_directory(tmp_path / "dist")
    packages.mkdir(parents=True)
    kit = write_small_kit(packages / OF_THE_BUILD, members, program=False)
    relinked(kit, tmp_path, cann)
    install_adapter(cann, small_adapter(tmp_path / "next", ANSWER, OTHER))
    settings = Settings(cann_root=str(cann), build_root=tmp_path / "build", dist_root=tmp_path / "dist")
    return Place(settings, members, kit)


def test_where_the_source_is_gone_the_builds_own_kit_makes_the_server_for_the_new_cann(place: Place) -> None:
    former = place.starts()
    planned = plan_rebuild(place.settings, costs=True)
    assert (planned.action, planned.exit_code) == (KIT, 3)
    assert "Unknown source 'small'" in planned.why
    told: dict[str, Any] = planned.to_json()
    assert (told["action"], told["kit"], told["expected_seconds"]) == (KIT, str(place.kit), None)
    assert f"Kit: {place.kit}, " in planned.text() and "are unpacked first, with l" in planned.text()
    hearing = Listening()
    result = rebuild_after_cann(place.settings, hearing)
    assert (result.way, result.record.linked, result.kit_failed) == (KIT, 1, "")
    assert result.to_json()["way"] == KIT
    assert f"It was linked from the relink kit {place.kit}." in result.text()
    assert any("no golden request is recorded" in line for line in hearing.said), "rebuild's own proof was asked"
    assert place.starts() == result.build.manifest.build_id != former
    assert find_build(place.settings.dist_root, former).previous
    assert find_build(place.settings.dist_root).manifest.adapter["sha256"] == planned.installed.sha256


def test_the_second_time_its_time_is_known_and_nothing_more_is_to_be_unpacked(place: Place) -> None:
    former = find_build(place.settings.dist_root)
    whole = plan_rebuild(place.settings, costs=True).cost
    rebuild_after_cann(place.settings, Silent())
    make_current(former)
    planned = plan_rebuild(place.settings, costs=True)
    assert planned.cost is not None and whole is not None
    assert planned.cost.expected_seconds is not None
    assert planned.cost.needed_bytes < whole.needed_bytes
    assert "which is unpacked already" in planned.text()


def test_a_kit_altered_by_one_byte_is_refused_with_words_and_the_former_server_stays(place: Place) -> None:
    former = place.starts()
    place.altered(b"blobs/", behind=64 + 6)
    with pytest.raises(SourceError) as refused:
        rebuild_after_cann(place.settings, Silent())
    assert f"The relink kit {place.kit} can't be used" in refused.value.what
    assert "is not a whole relink kit" in refused.value.what
    assert "Unknown source 'small'" in refused.value.what
    assert refused.value.cure.startswith("copy the kit from where it was made once more")
    assert place.starts() == former
    assert len(read_builds(place.settings.dist_root).sound) == 1


def test_a_kit_that_can_not_be_read_is_named_in_the_plan_where_it_is_the_builds_and_passed_over_else(
    place: Place,
) -> None:
    place.altered(KIT_JSON.encode(), behind=10)
    with pytest.raises(SourceError, match=r"can't be used: .* is not a whole relink kit"):
        plan_rebuild(place.settings)
    place.kit.rename(place.kit.with_name("another.pyz"))
    with pytest.raises(SourceError) as refused:
        plan_rebuild(place.settings)
    assert refused.value.what.startswith("Unknown source")


def test_only_a_kit_of_the_same_objects_counts_and_of_two_the_newer_one(place: Place) -> None:
    build, cann = find_build(place.settings.dist_root), cann_of(place.settings)
    newer = write_small_kit(place.kit.with_name("newer.pyz"), place.members, program=False)
    os.utime(place.kit, ns=(1, 1))
    other = write_small_kit(place.kit.with_name("other.pyz"), place.members, program=False, objects="1c" * 32)
    planned = usable_kit(build, cann, place.settings).planned
    assert planned is not None and planned.kit.path == newer
    assert planned.request.cache == place.settings.build_root / KITS
    place.kit.unlink()
    newer.unlink()
    found = usable_kit(build, cann, place.settings)
    assert (found.planned, found.trouble, other.is_file()) == (None, None, True)


def test_a_kit_that_was_packed_to_fit_other_releases_than_the_build_is_passed_over_and_said(place: Place) -> None:
    build, cann = find_build(place.settings.dist_root), cann_of(place.settings)
    for asked, fits in ((("none",), {"6.3.RC2": (ANSWER,)}), ((), {})):
        manifest = replace(build.manifest, also_fits=("known",), releases=(ReleaseFit("6.3.RC2"),))
        of_kit = replace(described(place.members).manifest, also_fits=asked or ("known",))
        write_small_kit(place.kit, place.members, program=False, fits=fits, manifest=of_kit)
        found = usable_kit(replace(build, manifest=manifest), cann, place.settings)
        assert found.planned is None and found.trouble is not None
        assert f"{place.kit} can't be used: it was packed to fit other releases" in found.trouble.what
        assert (", without 6.3.RC2" in found.trouble.what) == (not fits)
        assert found.trouble.cure.endswith("./inv package --format kit")
        whole = write_small_kit(
            place.kit.with_name("whole.pyz"),
            place.members,
            program=False,
            manifest=replace(of_kit, also_fits=("known",)),
        )
        os.utime(whole, ns=(1, 1))
        planned = usable_kit(replace(build, manifest=manifest), cann, place.settings).planned
        assert planned is not None and planned.kit.path == whole
        whole.unlink()


def test_a_file_that_the_build_was_to_fit_has_to_be_in_its_kit_with_all_that_it_needed(place: Place) -> None:
    build, cann = find_build(place.settings.dist_root), cann_of(place.settings)
    file = "/opt/other/_tf_adapter.so"
    manifest = replace(build.manifest, also_fits=(file,), also_fits_files={file: FileNeeds("aa", (ANSWER, OTHER))})
    of_kit = replace(described(place.members).manifest, also_fits=(file,))
    for symbols, is_usable in (((ANSWER,), False), ((ANSWER, OTHER), True)):
        write_small_kit(place.kit, place.members, program=False, fits={"_tf_adapter.so": symbols}, manifest=of_kit)
        found = usable_kit(replace(build, manifest=manifest), cann, place.settings)
        assert (found.planned is not None, found.trouble is None) == (is_usable, is_usable)


def test_what_a_plan_says_of_a_kit_names_its_file_once_and_the_cheap_cure_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, cann = find_build(place.settings.dist_root), cann_of(place.settings)
    place.altered(KIT_JSON.encode(), behind=10)
    trouble = usable_kit(build, cann, place.settings).trouble
    assert trouble is not None and trouble.what.count(str(place.kit)) == 1
    assert "can't be used: it is not a whole relink kit" in trouble.what
    gone = rebuild_plan._Hindrance("Bazel's output was removed", is_gone=True)
    monkeypatch.setattr(rebuild_plan, "_more_than_the_link", lambda *_others: (gone, None))
    plan = plan_rebuild(place.settings)
    assert (plan.action, plan.to_json()["kit_cure"]) == (FULL, trouble.cure)
    last = plan.text().splitlines()[-1]
    assert last.startswith("Next: copy the kit from where it was made once more")
    assert last.endswith("then ./inv rebuild-after-cann --check; or ./inv rebuild-after-cann builds all of it")
    place.kit.write_bytes(b"")
    with zipfile.ZipFile(place.kit, "w") as packed:
        packed.writestr(KIT_JSON, "{}")
    trouble = usable_kit(build, cann, place.settings).trouble
    assert trouble is not None and trouble.what.count("can't be used") == 1


def test_a_kit_for_another_machine_and_a_linker_that_is_too_old_are_said(place: Place, tmp_path: Path) -> None:
    build, cann = find_build(place.settings.dist_root), cann_of(place.settings)
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\necho "LLD 9.0.0"\n')
    old.chmod(0o755)
    trouble = usable_kit(build, cann, replace(place.settings, linker=str(old))).trouble
    assert trouble is not None and "13 is the least" in trouble.what
    write_small_kit(place.kit, place.members, program=False, machine="riscv64")
    trouble = usable_kit(build, cann, place.settings).trouble
    assert trouble is not None and "is for riscv64" in trouble.what


def test_a_kit_serves_the_current_build_alone_and_not_where_bazel_is_asked_for(place: Place) -> None:
    former = find_build(place.settings.dist_root).manifest.build_id
    with pytest.raises(SourceError):
        plan_rebuild(place.settings, with_bazel=True)
    rebuild_after_cann(place.settings, Silent())
    with pytest.raises(SourceError):
        plan_rebuild(place.settings, former)


def test_a_rebuild_by_kit_or_by_swap_and_a_relink_of_the_kit_exclude_each_other(place: Place, tmp_path: Path) -> None:
    with dist_lock(place.settings.dist_root, doing="relink from a kit"):
        with pytest.raises(StateLockedError, match=r"\(relink from a kit\)") as refused:
            rebuild_after_cann(place.settings, Silent())
        assert refused.value.cure == "wait until it has finished, then run the same command again"
    rebuild_after_cann(place.settings, Silent())
    install_adapter(Path(place.settings.cann_root), small_adapter(tmp_path / "back", ANSWER))
    with dist_lock(place.settings.dist_root, doing="relink from a kit"):
        with pytest.raises(StateLockedError, match=r"\(relink from a kit\)"):
            rebuild_after_cann(place.settings, Silent())
        with pytest.raises(StateLockedError, match=r"\(relink from a kit\)"):
            roll_back(place.settings)
        listed = [item.build.directory.name for item in list_builds(place.settings).builds]
        assert len(listed) == len(prune_builds(place.settings, 0).kept) == 2


def test_a_link_of_a_kit_that_memory_does_not_suffice_for_ends_the_upgrade_and_no_other_way_is_tried(
    place: Place, tmp_path: Path
) -> None:
    former = place.starts()
    killed = tmp_path / "killed"
    killed.write_text('#!/bin/sh\ncase "$1" in --version) echo "LLD 14.0.6"; exit 0;; esac\nkill -9 $$\n')
    killed.chmod(0o755)
    hearing = Listening()
    with pytest.raises(OutOfMemoryError, match="was killed") as failed:
        rebuild_after_cann(replace(place.settings, linker=str(killed)), hearing)
    assert failed.value.cure.startswith("free memory")
    assert hearing.said and all(f": {KIT}" in line for line in hearing.said), "the plan, and no other"
    assert place.starts() == former


@pytest.mark.parametrize(
    ("error", "follows"),
    [
        (KitError("cut short", cure="copy it"), False),
        (MissingToolError("no linker"), False),
        (ProgramError("it failed"), False),
        (VerificationError("it would not start"), True),
    ],
)
def test_only_where_verification_asks_for_it_a_link_of_a_kit_becomes_hours_of_compiling(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: NpuServingError, follows: bool
) -> None:
    planned = plan_rebuild(place.settings)
    full = replace(planned, action=FULL, kit=None)

    def fails(*_: object) -> None:
        raise error

    def compiles(*_: object) -> None:
        raise BuildFailedError("compiled for hours")

    monkeypatch.setattr(rebuild, "plan_rebuild", lambda *_, kits=True, **__: planned if kits else full)
    monkeypatch.setattr(relink_module, "relink", fails)
    monkeypatch.setattr(rebuild, "_linked", compiles)
    with pytest.raises(BuildFailedError if follows else type(error)) as failed:
        rebuild_after_cann(place.settings, Silent())
    assert failed.value.what.startswith(f"The relink kit {place.kit} can't be used: {error.args[0]}")
    if not follows:
        assert failed.value.cure.endswith("build everything again: ./inv rebuild-after-cann --with-bazel")
        assert failed.value.cure.startswith("copy it; or " if isinstance(error, KitError) else "build")


def test_whoever_goes_back_while_a_new_server_is_proven_need_not_wait_and_that_stays_so(
    place: Place, tmp_path: Path
) -> None:
    class GoingBack(Listening):
        def note(self, text: str) -> None:
            if text == NONE_RECORDED:
                roll_back(place.settings, oldest, force=True)

    first = find_build(place.settings.dist_root)
    oldest = write_copy(first)
    with pytest.raises(SwitchedMeanwhileError, match=f"^{oldest} was made current while "):
        rebuild_after_cann(place.settings, GoingBack())
    assert place.starts() == oldest
    rebuild_after_cann(place.settings, Silent())
    install_adapter(Path(place.settings.cann_root), small_adapter(tmp_path / "third", OTHER))
    assert plan_rebuild(place.settings).action == SWAP
    with pytest.raises(SwitchedMeanwhileError, match=f"^{oldest} was made current while "):
        rebuild_after_cann(place.settings, GoingBack())
    assert place.starts() == oldest


def test_an_adapter_that_fits_is_swapped_in_and_the_kit_left_alone(place: Place, tmp_path: Path) -> None:
    rebuild_after_cann(place.settings, Silent())
    install_adapter(Path(place.settings.cann_root), small_adapter(tmp_path / "back", ANSWER))
    assert plan_rebuild(place.settings).action == SWAP
