"""Which chip an om is compiled for: said, of this machine, or the only one that CANN has a configuration for."""

from __future__ import annotations

from pathlib import Path

import pytest
from npu_machine import CARDS_310P, CARDS_910B, CARDS_OF_TWO_CHIPS
from om_compilers import make_cann_with_compilers

from npu_serving import process
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.conversion.soc_version import SocVersion, chosen_soc_version, known_soc_versions
from npu_serving.errors import RequestError


def cann(place: Path, *chips: str) -> CannInstallation:
    found = find_installation(str(make_cann_with_compilers(place, soc_versions=chips)))
    assert found is not None
    return found


def npu_smi(place: Path, table: str, board: str = "", *, status: int = 0) -> Path:
    """A root with an npu-smi that prints that table, and that board for `-t board`."""
    program = place / "usr/local/sbin/npu-smi"
    program.parent.mkdir(parents=True)
    (place / "table").write_text(table)
    (place / "board").write_text(board)
    program.write_text(f'#!/bin/sh\n[ "$2" = -t ] && exec cat {place}/board\ncat {place}/table\nexit {status}\n')
    program.chmod(0o755)
    return place


@pytest.fixture(autouse=True)
def _without_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_program", lambda _name: None)


@pytest.mark.parametrize(("table", "chip"), [(CARDS_310P, "Ascend310P3"), (CARDS_910B, "Ascend910B4")])
def test_the_chip_is_the_one_that_npu_smi_shows(tmp_path: Path, table: str, chip: str) -> None:
    assert chosen_soc_version("", None, npu_smi(tmp_path, table)) == SocVersion(chip, "as npu-smi shows")


def test_a_chip_that_npu_smi_calls_ascend910_has_the_name_of_its_board_behind_it(tmp_path: Path) -> None:
    board = (
        "\tChip Type : Ascend\n\tChip Name                      : Ascend910\n\tNPU Name                       : 9392\n"
    )
    assert chosen_soc_version("", None, npu_smi(tmp_path, CARDS_OF_TWO_CHIPS, board)).name == "Ascend910_9392"


def test_without_an_npu_the_only_chip_of_cann_is_taken_and_said(tmp_path: Path) -> None:
    found = chosen_soc_version("", cann(tmp_path / "cann", "Ascend310P3"), tmp_path)
    assert found.name == "Ascend310P3"
    assert "only chip" in found.found


@pytest.mark.parametrize("chips", [(), ("Ascend310P3", "Ascend910B4")])
def test_without_an_npu_and_with_several_chips_one_has_to_be_said(tmp_path: Path, chips: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        chosen_soc_version("", cann(tmp_path / "cann", *chips), tmp_path)
    assert caught.value.cure.startswith("--soc-version CHIP: ")
    assert all(chip in caught.value.cure for chip in chips)


@pytest.mark.parametrize(
    ("asked", "cure"), [("Ascend910B", "--soc-version Ascend910B4"), ("910b4", "--soc-version Ascend910B4"), ("", "")]
)
def test_a_chip_that_cann_does_not_know_is_answered_with_the_nearest(tmp_path: Path, asked: str, cure: str) -> None:
    installation = cann(tmp_path / "cann", "Ascend310P3", "Ascend910B4")
    with pytest.raises(RequestError) as caught:
        chosen_soc_version(asked, installation, tmp_path)
    assert caught.value.cure.startswith(cure)


def test_a_chip_is_taken_as_said_where_cann_has_no_list(tmp_path: Path) -> None:
    assert known_soc_versions(None) == ()
    assert chosen_soc_version("Ascend999", None, tmp_path) == SocVersion("Ascend999")


@pytest.mark.parametrize("table", ["dcmi module initialize failed. ret is -8005", "", "\0"])
def test_an_npu_smi_that_says_nothing_of_use_is_no_failure(tmp_path: Path, table: str) -> None:
    with pytest.raises(RequestError, match="not known"):
        chosen_soc_version("", None, npu_smi(tmp_path, table, status=1))
