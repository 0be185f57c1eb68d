"""A CANN upgrade where the sample's tree and Bazel's output are gone: the build's own relink kit makes the server."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from listening import Listening
from states import MODEL, PLATFORM_CONFIG, copy_of

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.golden_places import golden_directory
from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.building import pipeline
from npu_serving.building.context import find_context
from npu_serving.building.pipeline import BuildResult
from npu_serving.builds.current import CURRENT, find_build, packages_directory
from npu_serving.builds.manifest import MANIFEST
from npu_serving.builds.verify import verify_build
from npu_serving.console import Silent
from npu_serving.errors import BuildFailedError, KitError, VerificationError
from npu_serving.packaging.relink_kit_file import make_kit
from npu_serving.relink_kit import relink as relink_module
from npu_serving.relink_kit.kit_file import KIT_BLOBS, KIT_JSON, read_kit
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import Settings
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import FULL, KIT, NOTHING, plan_rebuild

pytestmark = pytest.mark.bazel
ASKED = GoldenRequest(
    "half_plus_two",
    "half_plus_two",
    PredictRequest(ROW, [1.0, 2.0, 5.0]),
    [3.5, 4.0, 5.5],
    model_base_path=str(MODEL),
    platform_config_file=PLATFORM_CONFIG,
)


@pytest.fixture(scope="module")
def kit(sample_settings: Settings, built: BuildResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = built.build.manifest.build_id
    return make_kit(sample_settings, Silent(), build=name, output=tmp_path_factory.mktemp("kit")).plan.target


@pytest.fixture(scope="module")
def upgraded(
    sample_settings: Settings, built: BuildResult, kit: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The build with its kit in dist/packages and the next CANN; the tree is there, what Bazel made of it is not.

    Each test puts back what it changes.
    """
    return _upgraded(sample_settings, built, kit, tmp_path_factory.mktemp("upgraded"))


def _upgraded(sample_settings: Settings, built: BuildResult, kit: Path, root: Path) -> Settings:
    settings = copy_of(sample_settings, root)
    fsutil.point_link(settings.dist_root / CURRENT, built.build.manifest.build_id)
    fsutil.copy_file(kit, packages_directory(settings.dist_root) / kit.name)
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    return settings


def _alter(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _place_in(path: Path, entry: str) -> int:
    """A byte in the middle of what the zip has of that entry."""
    with zipfile.ZipFile(path) as packed:
        found = packed.getinfo(entry)
    return found.header_offset + 30 + len(entry) + found.compress_size // 2


def test_a_kit_stands_in_for_a_link_that_was_not_kept_and_for_objects_that_are_elsewhere(upgraded: Settings) -> None:
    root = find_context(upgraded, Silent()).output_base / "execroot"
    root.mkdir(parents=True)
    planned = plan_rebuild(upgraded)
    assert planned.action == KIT
    assert "the link was saved for" in planned.why
    fsutil.remove(upgraded.build_root / "links")
    planned = plan_rebuild(upgraded)
    root.rmdir()
    assert planned.action == KIT
    assert "no link was kept" in planned.why


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"compilation": ["-c", "dbg"]}, "other flags"),
        ({"lock_digest": "0"}, "the lock has changed"),
        ({"source": {"name": "sample", "digest": "0"}}, "comes from a different archive"),
        ({"toolchain": {"runner": "host", "compiler": "gcc 1.0"}}, "compiler gcc 1.0 became gcc"),
    ],
)
def test_where_what_decides_the_objects_has_changed_no_kit_is_taken(
    upgraded: Settings, changed: dict[str, object], reason: str
) -> None:
    path = find_build(upgraded.dist_root).directory / MANIFEST
    text = path.read_text()
    manifest: dict[str, Any] = json.loads(text)
    merged = {
        name: {**manifest[name], **value} if isinstance(value, dict) else value for name, value in changed.items()
    }
    path.write_text(json.dumps({**manifest, **merged}))
    planned = plan_rebuild(upgraded)
    path.write_text(text)
    assert planned.action == FULL
    assert reason in planned.why
    assert ".pyz" not in planned.why


def _does_not_start(*_: object) -> None:
    raise VerificationError("it would not start")


def test_a_kit_altered_by_one_byte_is_refused_in_words_and_all_is_built_again_only_on_request(
    upgraded: Settings, built: BuildResult, kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.readlink(upgraded.dist_root / CURRENT)
    copied = packages_directory(upgraded.dist_root) / kit.name
    at = _place_in(copied, KIT_BLOBS + next(iter(read_kit(kit).file.members.values())).sha256)
    _alter(copied, at)
    assert plan_rebuild(upgraded).action == KIT, "its blobs are read when they are unpacked"
    runs: list[dict[str, object]] = []

    def refused(*_: object, **how: object) -> None:
        runs.append(how)
        raise BuildFailedError("no build in this test", cause="", cure="", returncode=1, output="")

    monkeypatch.setattr(pipeline, "build_serving", refused)
    with pytest.raises(KitError) as failed:
        rebuild_after_cann(upgraded, Silent())
    told = f"The relink kit {copied} can't be used: it is not a whole relink kit"
    assert told in failed.value.what
    assert failed.value.cure.startswith("copy the kit from where it was made once more")
    assert failed.value.cure.endswith("./inv rebuild-after-cann --with-bazel")
    assert runs == []
    with pytest.raises(BuildFailedError, match="no build in this test"):
        rebuild_after_cann(upgraded, Silent(), with_bazel=True)
    assert [run["by_saved_link"] for run in runs] == [False]
    assert os.readlink(upgraded.dist_root / CURRENT) == before
    monkeypatch.setattr(pipeline, "build_serving", lambda *_, **__: built)
    with monkeypatch.context() as unfit:
        unfit.setattr(relink_module, "relink", _does_not_start)
        result = rebuild_after_cann(upgraded, Silent())
    assert (result.way, result.kit_failed) == (FULL, f"The relink kit {copied} can't be used: it would not start")
    assert result.kit_failed in result.text()
    _alter(copied, at)
    _alter(copied, _place_in(copied, KIT_JSON))
    planned = plan_rebuild(upgraded)
    fsutil.copy_file(kit, copied)
    assert planned.action == FULL
    assert told in planned.why


def test_bazel_is_not_replaced_by_a_kit_where_it_is_asked_for(upgraded: Settings) -> None:
    assert plan_rebuild(upgraded).action == KIT
    assert plan_rebuild(upgraded, with_bazel=True).action == FULL
    assert plan_rebuild(upgraded, clean=True).action == FULL


def test_without_the_tree_and_bazels_output_the_builds_kit_makes_a_server_that_verifies_and_answers(
    sample_settings: Settings, built: BuildResult, kit: Path, tmp_path: Path
) -> None:
    upgraded = _upgraded(sample_settings, built, kit, tmp_path)
    fsutil.remove(upgraded.build_root / "src")
    write_golden(golden_directory(upgraded.dist_root), ASKED)
    former = find_build(upgraded.dist_root)
    planned = plan_rebuild(upgraded, costs=True)
    assert planned.action == KIT
    assert f"src/sample is missing, but {kit.name} holds what it was linked from" in planned.why
    assert "NpuTrace" in planned.why
    assert planned.cost is not None
    assert planned.cost.needed_bytes > read_kit(kit).file.size_bytes
    hearing = Listening()
    result = rebuild_after_cann(upgraded, hearing)
    assert (result.way, result.record.compiled, result.record.linked) == (KIT, 0, 1)
    assert any("answers the golden request" in line for line in hearing.said)
    assert result.build.current
    assert result.build.manifest.kit == read_kit(kit).digest
    assert result.build.manifest.adapter["cann_version"] == NEXT_RELEASE
    assert result.build.manifest.objects == former.manifest.objects
    assert verify_build(upgraded).exit_code == 0
    assert plan_rebuild(upgraded).action == NOTHING
    assert plan_rebuild(upgraded, former.manifest.build_id).action == FULL, "it is not the current one"
