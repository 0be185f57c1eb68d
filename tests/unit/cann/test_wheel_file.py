"""--adapter FILE.whl: accepted where an adapter is named, and refused by what is wrong with the file."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from cann_trees import MACHINE, OTHER_MACHINE, make_cann_of_today, make_runtime, make_wheel, put, wheel_name
from elf_samples import for_aarch64, library, needs_gcc, program

from npu_serving import process
from npu_serving.builds.verify import verify_files
from npu_serving.cann.info import cann_info
from npu_serving.cann.install import WHEELS, cann_of
from npu_serving.clean import clean_state
from npu_serving.errors import AdapterError
from npu_serving.settings import PROJECT_ROOT, Settings

pytestmark = needs_gcc


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return library(tmp_path, "_tf_adapter.so", "int x;")


@pytest.fixture
def wheel(built: Path, tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "down loads", built.read_bytes())


def settings_for(adapter: Path, tmp_path: Path, cann_root: Path | str = "") -> Settings:
    return Settings(adapter=str(adapter), cann_root=str(cann_root), build_root=tmp_path / "state")


def refusal(adapter: Path, tmp_path: Path) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        _ = cann_of(settings_for(adapter, tmp_path)).adapter
    assert str(adapter) in caught.value.what
    return caught.value


def test_a_wheel_is_unpacked_once_below_the_state_directory_by_its_content(
    wheel: Path, built: Path, tmp_path: Path
) -> None:
    settings = settings_for(wheel, tmp_path)
    adapter = cann_of(settings).adapter
    assert adapter.path.read_bytes() == built.read_bytes()
    assert adapter.path.is_relative_to(tmp_path / "state" / WHEELS)
    assert adapter.describe()["wheel"] == str(wheel)
    before = adapter.path.stat()
    elsewhere = wheel.rename(tmp_path / "renamed by a browser.zip")
    again = cann_of(settings_for(elsewhere, tmp_path)).adapter
    assert (again.path, again.path.stat().st_ino) == (adapter.path, before.st_ino)
    other = make_wheel(tmp_path / "other", library(tmp_path / "new", "_tf_adapter.so", "int y;").read_bytes())
    assert cann_of(settings_for(other, tmp_path)).adapter.path != adapter.path
    assert tmp_path / "state" / WHEELS in clean_state(settings, everything=False, dry_run=False).removed
    assert cann_of(settings_for(other, tmp_path)).adapter.path.is_file()


def test_a_wheel_is_taken_by_cann_info_doctor_and_verify_serving(wheel: Path, built: Path, tmp_path: Path) -> None:
    cann = make_cann_of_today(tmp_path / "Ascend")
    settings = settings_for(wheel, tmp_path, cann)
    shown = cann_info(settings)
    assert f"named: {wheel} ({MACHINE})" in shown.text()
    server = program(tmp_path, "server", "int main(void) { return 0; }", against=[built])
    assert verify_files(settings, server).report.adapter == cann_of(settings).adapter.path
    put(tmp_path / "invoke.yaml", f"npu_serving:\n  build_root: {tmp_path / 'state'}\n")
    answer = process.run(
        [sys.executable, "-m", "npu_serving", "--search-root", PROJECT_ROOT, "doctor", "--json", "--adapter", wheel],
        env={**process.base_environment("/usr/bin:/bin"), "NPU_SERVING_SETTINGS": str(tmp_path / "invoke.yaml")},
        cwd=PROJECT_ROOT,
        check=False,
    )
    (row,) = [row for row in json.loads(answer.stdout)["findings"] if row["id"] == "tfplugin"]
    assert (row["verdict"], row["found"]) == ("ok", f"{wheel} ({MACHINE})")


def test_a_named_wheel_with_a_toolkit_of_the_time_before_wheels_is_a_finding(wheel: Path, tmp_path: Path) -> None:
    shown = cann_info(settings_for(wheel, tmp_path, make_runtime(tmp_path / "Ascend", "ascend-toolkit", "6.3.RC2")))
    (problem,) = [finding for finding in shown.findings if finding.needs_action]
    assert f"{wheel} is from a wheel" in problem.what
    assert f"./Ascend-cann-tfplugin_6.3.RC2_linux-{MACHINE}.run" in problem.cure
    assert shown.exit_code == 3


@pytest.mark.skipif(MACHINE == "aarch64", reason="the file is made to say that it is for aarch64")
def test_a_wheel_for_the_other_machine_is_named_with_the_one_to_take(built: Path, tmp_path: Path) -> None:
    other = make_wheel(tmp_path / "down loads", for_aarch64(built).read_bytes(), machine=OTHER_MACHINE)
    error = refusal(other, tmp_path)
    assert "is built for aarch64, but this machine is" in error.what
    assert wheel_name() in error.cure


def test_what_is_not_a_complete_wheel_is_refused_with_the_reason_and_leaves_nothing(
    wheel: Path, tmp_path: Path
) -> None:
    whole = wheel.read_bytes()
    damaged = tmp_path / wheel.name
    damaged.write_bytes(whole[: len(whole) // 2])
    assert "Could not read" in refusal(damaged, tmp_path).what
    damaged.write_bytes(whole.replace(whole[200:260], bytes(60), 1))
    refusal(damaged, tmp_path)
    damaged.write_text("<!DOCTYPE html><title>Not found</title>")
    assert "download" in refusal(damaged, tmp_path).cure
    with zipfile.ZipFile(damaged, "w") as packed:
        packed.writestr("npu_device/_npu_device_backends.so", "")
    assert "npu_device is the plug-in for TensorFlow 2" in refusal(damaged, tmp_path).cause
    with zipfile.ZipFile(damaged, "w") as packed:
        packed.writestr("../npu_bridge/_tf_adapter.so", "")
    assert "outside" in refusal(damaged, tmp_path).cause + refusal(damaged, tmp_path).what
    damaged.write_bytes(b"")
    refusal(damaged, tmp_path)
    assert not (tmp_path / "npu_bridge").exists()
    assert list((tmp_path / "state" / WHEELS).glob("*/npu_bridge")) == []
