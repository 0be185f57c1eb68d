"""Driver, firmware and CANN fit each other where one of them declares it; the records are in the form of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from cann_trees import make_cann, make_driver, put
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.cann.driver_fit import driver_misfits, firmware_beside
from npu_serving.cann.install import find_driver, find_installation
from npu_serving.cann.layout import Component
from npu_serving.errors import RequestError
from npu_serving.findings import NOTE

DRIVER = """\
Version={version}
ascendhal_version=7.35.23
Innerversion=V100R001C19SPC001B124
compatible_version=[V100R001C13],[V100R001C15],[V100R001C17],[V100R001C18],[V100R001C19]
compatible_version_fw={fits}
package_version={version}
"""
FIRMWARE = "Version={version}\nfirmware_version=1.0\npackage_version=24.1.rc3\ncompatible_version_drv={fits}\n"


def driver(root: Path, version: str = "24.1.rc3", fits: str = "[7.0.0,7.5.99]") -> Component:
    make_driver(root)
    put(root / "driver/version.info", DRIVER.format(version=version, fits=fits))
    found = find_driver(str(root), {})
    assert found is not None
    return found


def firmware(
    root: Path, version: str = "7.5.0.1.129", fits: str = "[23.0.0,23.0.0.],[24.0,24.0.],[24.1,24.1.]"
) -> None:
    put(root / "firmware/version.info", FIRMWARE.format(version=version, fits=fits))


@pytest.mark.parametrize(
    ("version", "of_driver", "of_firmware", "fits"),
    [
        ("7.5.0.1.129", "[7.0.0,7.5.99]", "[24.1,24.1.]", True),
        ("7.5.0.1.129", "[6.4.0,6.4.99],[7.0.0,8.9.9]", "[23.0.0,23.0.0.]", True),  # the driver knows the firmware
        ("7.7.0.1.231", "[7.0.0,7.5.99]", "[24.1,24.1.]", True),  # the firmware knows the driver
        ("7.7.0.1.231", "[7.0.0,7.5.99]", "[25.0,25.0.]", False),
        ("6.4.12.1.241", "[7.0.0,7.5.99]", "[22.0.4,22.0.4.]", False),
        ("7.10.0.1.1", "[7.0.0,7.9.99]", "[24.10,24.10.]", False),  # 7.10 comes after 7.9, and 24.1 is not 24.10
        ("7.7.0.1.231", "", "", True),  # nothing is declared
    ],
)
def test_one_of_the_two_has_to_know_the_other(
    tmp_path: Path, version: str, of_driver: str, of_firmware: str, fits: bool
) -> None:
    firmware(tmp_path, version, of_firmware)
    found = driver_misfits(driver(tmp_path, fits=of_driver), None)
    assert [finding.severity for finding in found] == ([] if fits else [NOTE])
    if found:
        assert "24.1.rc3" in found[0].what
        assert version in found[0].what
        assert "npu-firmware" in found[0].cure


def test_without_a_record_of_the_firmware_nothing_is_said(tmp_path: Path) -> None:
    found = driver(tmp_path)
    assert firmware_beside(found) is None
    assert driver_misfits(found, None) == ()
    put(tmp_path / "firmware/version.info", "\0\0\0")
    assert firmware_beside(found) is None


@pytest.mark.parametrize(("needed", "fits"), [("7.35.23", True), (">=4.0.0", True), ("7.36.0", False), ("x", True)])
def test_an_older_part_of_cann_names_the_layer_of_the_driver_that_it_needs(
    tmp_path: Path, needed: str, fits: bool
) -> None:
    root = make_cann(tmp_path / "Ascend")
    put(
        root / "ascend-toolkit/latest/acllib/version.info", f'Version=1\nrequired_driver_ascendhal_version="{needed}"\n'
    )
    installation = find_installation(str(root), {})
    assert installation is not None
    found = driver_misfits(driver(root), installation.runtime)
    assert [finding for finding in found if f"needs ascendhal_version {needed} of the driver" in finding.what] == (
        [] if fits else [found[-1]]
    )


def test_cann_info_says_it_as_well(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    driver(root)
    firmware(root, "9.0.0.1.1", "[26.0,26.0.]")
    installation = find_installation(str(root), {})
    assert installation is not None
    assert [finding for finding in installation.findings if "the firmware 9.0.0.1.1" in finding.what]


def test_a_driver_is_found_without_any_cann_and_from_the_path_of_a_component(tmp_path: Path) -> None:
    make_driver(tmp_path / "Ascend")
    with pytest.raises(RequestError):
        find_installation(str(tmp_path / "nowhere"), {})
    for named in ("Ascend", "Ascend/driver"):
        found = find_driver(str(tmp_path / named), {})
        assert found is not None
        assert found.version == "23.0.rc2"


@given(st.text(), st.text())
def test_any_record_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "driver/lib64").mkdir(parents=True)
    for name, text in (("driver", one), ("firmware", other)):
        (root / name).mkdir(exist_ok=True)
        (root / name / "version.info").write_bytes(text.encode("utf-8", errors="replace"))
    driver_misfits(Component("driver", root / "driver", ""), None)
