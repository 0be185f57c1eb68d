"""A relink kit of the sample: what is in it, the same bytes from anywhere, and a link from it with nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import states
from kit_links import linked

from npu_serving.building.pipeline import BuildResult
from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import SERVER
from npu_serving.builds.verify import check_directory
from npu_serving.console import Silent
from npu_serving.errors import RequestError
from npu_serving.packaging.relink_kit_file import KitResult, make_kit, plan_kit
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.settings import Settings

LINKERS = [name for name in ("bfd", "gold", "lld") if shutil.which(f"ld.{name}")]


@pytest.fixture(scope="module")
def kit(sample_settings: Settings, built: BuildResult, tmp_path_factory: pytest.TempPathFactory) -> KitResult:
    return make_kit(sample_settings, Silent(), output=tmp_path_factory.mktemp("kit"))


@pytest.mark.parametrize("linker", LINKERS)
def test_the_kit_alone_links_a_server_that_verifies_with_every_linker(
    kit: KitResult, built: BuildResult, sample_settings: Settings, tmp_path: Path, linker: str
) -> None:
    server = linked(kit.plan.target, sample_settings, tmp_path, f"ld.{linker}")
    shutil.copytree(built.build.directory, tmp_path / "build")
    shutil.copy(server, tmp_path / "build" / SERVER)
    report = check_directory(tmp_path / "build", states.library_path(sample_settings))
    assert report.fits_where_a_driver_is


def test_the_kit_is_the_same_bytes_made_again_beside_other_builds(
    kit: KitResult, sample_settings: Settings, tmp_path: Path
) -> None:
    elsewhere = states.copy_of(sample_settings, tmp_path)
    again = make_kit(elsewhere, Silent(), output=tmp_path / "again.pyz")
    assert again.plan.target.read_bytes() == kit.plan.target.read_bytes()
    assert again.digest == kit.digest
    subprocess.run(["sha256sum", "-c", "again.pyz.sha256"], cwd=tmp_path, check=True)
    (tmp_path / "other.pyz.sha256").mkdir()
    for work in (plan_kit, make_kit):
        with pytest.raises(RequestError, match=r"other\.pyz\.sha256 is a directory"):
            work(elsewhere, Silent(), output=tmp_path / "other.pyz")
    assert not (tmp_path / "other.pyz").exists()
    described = read_kit(kit.plan.target).file.content_text
    assert described == f"{kit.plan.files} files that the link reads, in {kit.plan.members} members"
    for words in (described, f"Relink kit {kit.digest}", f"sha256 of the file {kit.sha256}"):
        assert words in kit.text()
    assert again.plan.golden == ()
    (name,) = [kit.plan.target.name]
    assert name == f"npu-serving-kit-1.15.0-{kit.plan.objects[:12]}-{kit.plan.machine}.pyz"


def test_nothing_in_the_kits_description_is_of_this_machine(kit: KitResult, sample_settings: Settings) -> None:
    with zipfile.ZipFile(kit.plan.target) as packed:
        for name in ("kit.json", "bom.cdx.json"):
            text = packed.read(name).decode()
            assert str(sample_settings.build_root) not in text
            assert str(Path.home()) not in text
        bill = json.loads(packed.read("bom.cdx.json"))
    names = {part["name"] for part in bill["components"]}
    assert {"lib/_tf_adapter.so", "archive/com_google_absl"} <= names
    manifest = read_kit(kit.plan.target).file.manifest
    assert manifest.objects == kit.plan.objects
    assert not manifest.adapter


def test_an_object_that_is_gone_or_changed_is_refused_by_name_and_a_dry_run_says_so_too(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    settings = states.copy_of(sample_settings, tmp_path)
    link = settings.build_root / "links" / f"{built.build.manifest.objects}.json"
    saved = json.loads(link.read_text())
    named = next(item for item in saved["inputs"] if item["name"].endswith("/server.o"))
    named["sha256"], named["mtime_ns"] = "0" * 64, 0
    link.write_text(json.dumps(saved))
    for work in (plan_kit, make_kit):
        with pytest.raises(RequestError, match=r"/server\.o") as raised:
            work(settings, Silent())
        assert "./inv build-serving" in raised.value.cure
    link.unlink()
    for work in (plan_kit, make_kit):
        with pytest.raises(RequestError, match="links") as raised:
            work(settings, Silent())
        assert "./inv build-serving" in raised.value.cure
    assert not (settings.dist_root / "packages").exists()


def test_the_golden_requests_go_with_the_kit_each_with_its_platform_config(
    sample_settings: Settings, built: BuildResult, tmp_path: Path
) -> None:
    settings = states.copy_of(sample_settings, tmp_path)
    golden = settings.dist_root / "golden"
    golden.mkdir()
    request = {
        "format": 2,
        "model": "half_plus_two",
        "instances": [1.0],
        "expected": [2.5],
        "model_base_path": "/models/half_plus_two",
        "platform_config_file": str(states.PLATFORM_CONFIG),
    }
    (golden / "half.json").write_text(json.dumps(request))
    (golden / "lost.json").write_text(json.dumps({**request, "platform_config_file": "/no/such.cfg"}))
    (golden / "broken.json").write_text("{")
    result = make_kit(settings, Silent(), output=tmp_path / "kit.pyz")
    with zipfile.ZipFile(result.plan.target) as packed:
        held = {name: packed.read(name) for name in packed.namelist() if name.startswith("golden/")}
    assert set(held) == {"golden/half.json", "golden/half.config"}
    assert held["golden/half.config"] == states.PLATFORM_CONFIG.read_bytes()
    assert json.loads(held["golden/half.json"]) == {**request, "platform_config_file": "half.config"}
    assert result.plan.golden == ("half",)
    assert find_build(settings.dist_root).manifest.build_id in result.plan.made_of
