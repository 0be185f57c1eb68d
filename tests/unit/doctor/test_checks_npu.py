"""doctor --for serving: what it finds of the NPU, each rule at its boundary and each cure followed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cann_trees import make_driver, put
from doctor_world import World, healthy_world
from npu_machine import CARDS_310P, CARDS_910B, IN_USE, NO_DRIVER, as_user, in_container, make_npus, npu_smi

from npu_serving.building.patching import patch_findings
from npu_serving.console import Silent
from npu_serving.doctor.checks import RequirementFinding
from npu_serving.doctor.examination import DoctorReport, begin_serving, check, examine, purpose_of
from npu_serving.doctor.fixes import plan_fixes
from npu_serving.doctor.requirements import load_requirements, load_serving_requirements
from npu_serving.errors import RequestError
from npu_serving.findings import NOT_NEEDED, NOTE, OK, PROBLEM, WARNING


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("checks_system", "checks_limits"):
        monkeypatch.setattr(f"npu_serving.doctor.{name}.fsutil.free_bytes", lambda _path: 100 * 10**9)
    for name in ("ASCEND_OPP_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    # Where there is neither a CANN nor a driver, whatever the machine that this runs on has.
    monkeypatch.setattr("npu_serving.cann.install.places", lambda _environ: [])
    made = healthy_world(tmp_path / "a machine, it's ours é")
    make_npus(made)
    made.set(adapter="auto")
    return made


def found(world: World, name: str) -> RequirementFinding:
    examination = begin_serving(world.settings, world.machine)
    return check(examination.requirements[name], examination)


def report(world: World, purpose: str = "serving") -> DoctorReport:
    return examine(world.settings, "host", Silent(), patches=patch_findings, machine=world.machine, purpose=purpose)


def test_a_machine_with_devices_driver_and_cann_is_ready(world: World) -> None:
    whole = report(world)
    assert [finding.to_json() for finding in whole.with_verdict(PROBLEM)] == []
    assert whole.exit_code == 0
    assert whole.text().startswith("For serving, on x86_64:")
    assert "This machine is ready for serving." in whole.text()
    assert whole.to_json()["for"] == "serving"


def test_without_devices_the_cure_is_the_drivers_installer(world: World) -> None:
    for path in (world.root / "dev").glob("davinci*"):
        path.unlink()
    loaded = found(world, "npu-devices")
    assert loaded.severity == PROBLEM
    assert "not loaded" in loaded.found
    assert loaded.cure.startswith("restart the machine")
    world.set(cann_root=str(world.root / "elsewhere"))
    none = found(world, "npu-devices")
    assert none.found == "none"
    assert none.cure.startswith("./Ascend-hdk-CHIP-npu-driver_VERSION_linux-")


def test_a_container_without_devices_is_told_how_it_is_given_them(world: World) -> None:
    in_container(world)
    for path in (world.root / "dev").iterdir():
        if path.is_file():
            path.unlink()
    finding = found(world, "npu-devices")
    assert finding.severity == PROBLEM
    assert "--device=/dev/davinci0 --device=/dev/davinci_manager" in finding.cure
    assert "ASCEND_VISIBLE_DEVICES" in finding.cure
    assert found(world, "npu-management").severity == NOT_NEEDED
    assert found(world, "npu-access").severity == NOT_NEEDED


@pytest.mark.parametrize("name", ["davinci_manager", "devmm_svm", "hisi_hdc"])
def test_each_management_device_is_missed_by_its_name(world: World, name: str) -> None:
    (world.root / "dev" / name).unlink()
    finding = found(world, "npu-management")
    assert finding.severity == PROBLEM
    assert finding.found == f"{name} not in /dev"
    in_container(world)
    assert found(world, "npu-management").cure == f"docker run --device=/dev/{name} …"


def test_a_user_outside_of_the_devices_group_may_not_serve(world: World) -> None:
    status = (world.root / "dev/davinci0").stat()
    as_user(world, 4711, 4711)
    finding = found(world, "npu-access")
    assert finding.severity == PROBLEM
    assert f"4711 may not read and write {world.root}/dev/davinci0" in finding.found.replace("\\xe9", "é")
    assert ", nor 4 more" in finding.found
    as_user(world, 4711, status.st_gid)
    assert found(world, "npu-access").severity == OK


def test_no_driver_is_a_problem_and_in_a_container_a_mount(world: World) -> None:
    shutil.rmtree(world.root / "Ascend/driver")
    assert found(world, "npu-driver").cure.endswith("then restart the machine")
    in_container(world)
    finding = found(world, "npu-driver")
    assert finding.severity == PROBLEM
    assert "-v /usr/local/Ascend/driver" in finding.cure


def test_a_driver_that_does_not_fit_cann_is_a_warning_with_both_versions(world: World) -> None:
    make_driver(world.root / "Ascend", "21.0.1", "V100R001C05", "[V100R001C05]")
    finding = found(world, "npu-driver")
    assert finding.severity == WARNING
    assert "21.0.1 (V100R001C05)" in finding.found
    assert "declares that it works with the other" in finding.found


@pytest.mark.parametrize(("version", "verdict"), [("7.2.0.1.129", OK), ("6.0.0.1.129", WARNING)])
def test_a_firmware_out_of_the_drivers_range_is_a_warning(world: World, version: str, verdict: str) -> None:
    assert found(world, "npu-firmware").severity == NOT_NEEDED
    record = world.root / "Ascend/driver/version.info"
    record.write_text(f"{record.read_text()}compatible_version_fw=[7.0.0,7.5.99]\npackage_version=23.0.rc2\n")
    put(
        world.root / "Ascend/firmware/version.info",
        f"Version={version}\npackage_version=1\ncompatible_version_drv=[22.0,22.0.]\n",
    )
    assert found(world, "npu-firmware").severity == verdict
    assert found(world, "npu-driver").severity == OK


def test_npu_smi_that_is_missing_is_a_warning(world: World) -> None:
    world.without("npu-smi")
    assert found(world, "npu-smi").severity == WARNING
    assert found(world, "npu-health").severity == NOT_NEEDED
    assert found(world, "npu-memory").severity == NOT_NEEDED


def test_npu_smi_is_found_beside_path_where_its_installer_puts_it(world: World) -> None:
    here = world.root / "usr/local/sbin/npu-smi"
    here.parent.mkdir(parents=True, exist_ok=True)
    (world.bin / "npu-smi").rename(here)
    assert found(world, "npu-smi").severity == OK


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (NO_DRIVER, "restart the machine"),
        (IN_USE, "end that container"),
        (
            "npu-smi: error while loading shared libraries: libdcmi.so: cannot open shared object file: No such file",
            "-v /usr/local/dcmi:/usr/local/dcmi",
        ),
        ("something new", "run npu-smi info yourself"),
        ("", "run npu-smi info yourself"),
    ],
)
def test_npu_smi_that_fails_is_a_problem_with_the_cure_of_what_it_says(world: World, output: str, said: str) -> None:
    npu_smi(world, output, status=1)
    finding = found(world, "npu-smi")
    assert finding.severity == PROBLEM
    assert said in finding.cure
    assert (output.splitlines() or ["it prints nothing"])[-1] in finding.found
    assert found(world, "npu-memory").severity == NOT_NEEDED


def test_npu_smi_that_never_stops_printing_is_a_problem_and_no_hanging_doctor(world: World) -> None:
    world.script(world.bin / "npu-smi", "while :; do echo '| 1 | OK |'; done")
    finding = found(world, "npu-smi")
    assert finding.severity == PROBLEM
    assert "never stops printing" in finding.found


def test_a_chip_with_a_fault_is_a_problem_only_where_no_other_is_left(world: World) -> None:
    npu_smi(world, CARDS_910B)
    finding = found(world, "npu-health")
    assert finding.severity == WARNING
    assert finding.found == "NPU 1 chip 0: Alarm"
    assert "npu-smi info -t health -i 1" in finding.cure
    npu_smi(world, CARDS_910B.replace("| OK  ", "| Critical  "))
    assert found(world, "npu-health").severity == PROBLEM


def test_a_full_chip_is_named_with_who_holds_it_and_another_one_is_offered(world: World) -> None:
    finding = found(world, "npu-memory")
    assert finding.severity == NOTE
    assert finding.found == "NPU 4 chip 0: 464.0 MB of 21.5 GB free (tensorflow_mode 692318: 19960 MB)"
    assert finding.cure == "choose another device: export ASCEND_DEVICE_ID=0; or end what holds it: kill 692318"
    npu_smi(world, CARDS_310P.replace("1074 / 21534", "21074/ 21534"))
    both = found(world, "npu-memory")
    assert both.severity == WARNING
    assert both.cure == "end what holds it: kill 692318"


def test_the_samples_adapter_needs_no_npu(world: World) -> None:
    for path in (world.root / "dev").glob("davinci*"):
        path.unlink()
    world.set(adapter="sample", cann_root="")
    whole = report(world)
    assert whole.exit_code == 0
    assert {finding.kind for finding in whole.with_verdict(NOT_NEEDED)} >= {"npu-devices", "npu-driver", "npu-smi"}


def test_all_is_both_tables_and_each_name_stands_in_one_of_them(world: World) -> None:
    both = report(world, "all")
    names = [finding.kind for finding in both.findings]
    assert names == [*load_requirements(), *load_serving_requirements()]
    assert len(set(names)) == len(names)
    assert both.text().startswith("For the host runner, source 1.15.0, and for serving, on x86_64:")


def test_what_serving_lacks_is_left_to_a_person(world: World) -> None:
    world.without("npu-smi")
    plan = plan_fixes(report(world), machine=world.machine)
    assert plan.actions == ()
    assert "npu-smi" in {finding.kind for finding in plan.left}


def test_another_purpose_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RequestError) as error:
        purpose_of("training")
    assert error.value.cure == "--for takes build, serving, all"
