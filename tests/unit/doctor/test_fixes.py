"""doctor --fix: what it does, and above all what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doctor_world import World, healthy_world

from npu_serving.console import Silent
from npu_serving.doctor.fixes import FixPlan, FixReport, apply_fixes, plan_fixes

BROKEN = "Package: ascend-cann-toolkit\nStatus: deinstall reinstreq half-configured\n\n"
GOOD = "Package: zip\nStatus: install ok installed\n\n"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("npu_serving.doctor.checks_system.fsutil.free_bytes", lambda _path: 100 * 10**9)
    world = healthy_world(tmp_path / "a machine")
    manager(world)
    return world


def manager(world: World, *, name: str = "apt-get", body: str = "") -> Path:
    """A package manager that writes down how it was called, and 'installs' what it is asked for."""
    calls = world.root / "calls"
    install = (
        'for word in "$@"; do case $word in -*|install) ;; '
        f"*) printf '#!/bin/sh\\n' > '{world.bin}'/$word; /bin/chmod 755 '{world.bin}'/$word ;; esac; done"
    )
    world.script(world.bin / name, f"printf '%s\\n' \"$*\" >> '{calls}'\n{body}\n{install}")
    return calls


def plan(world: World) -> FixPlan:
    return plan_fixes(world.examine(), machine=world.machine)


def apply(world: World) -> FixReport:
    return apply_fixes(plan(world), Silent(), machine=world.machine)


def test_what_is_missing_is_installed_in_one_call_and_found_afterwards(world: World) -> None:
    calls = manager(world)
    world.without("zip")
    world.without("unzip")
    report = apply(world)
    assert calls.read_text() == "install -y --no-remove --no-install-recommends zip unzip\n"
    assert report.exit_code == 0
    assert world.examine().exit_code == 0


def test_a_healthy_machine_gets_nothing_done(world: World) -> None:
    assert plan(world).actions == ()
    report = apply(world)
    assert report.exit_code == 0
    assert "nothing" in report.text()


def test_the_plan_alone_changes_nothing(world: World) -> None:
    calls = manager(world)
    world.without("zip")
    status = world.root / "var/lib/dpkg/status"
    status.write_text(BROKEN)
    shown = plan(world)
    assert "install -y" in shown.text()
    assert shown.exit_code == 3
    assert not calls.exists()
    assert status.read_text() == BROKEN


def test_the_broken_record_is_repaired_before_anything_is_installed(world: World) -> None:
    manager(world, body=f"! /bin/grep -q reinstreq '{world.root}/var/lib/dpkg/status' || exit 100")
    status = world.root / "var/lib/dpkg/status"
    status.write_text(GOOD + BROKEN)
    world.without("zip")
    report = apply(world)
    assert [outcome.error for outcome in report.outcomes] == ["", ""]
    assert status.read_text() == GOOD
    assert "status.backup-1" in report.text()


def test_past_a_broken_record_that_stays_nothing_is_installed(world: World) -> None:
    (world.root / "var/lib/dpkg/status").write_text("Package: libc6\nStatus: install reinstreq half-installed\n\n")
    world.without("zip")
    shown = plan(world)
    assert shown.actions == ()
    assert {finding.kind for finding in shown.left} >= {"zip", "dpkg-record"}
    assert "apt-get install -y --reinstall libc6" in shown.text()


def test_who_is_not_root_gets_every_cure_as_a_command(world: World) -> None:
    world.on(user_id=12345)
    world.without("zip")
    (world.root / "var/lib/dpkg/status").write_text(BROKEN)
    shown = plan(world)
    assert shown.actions == ()
    assert "sudo apt-get install -y zip" in shown.text()
    assert "sudo ./inv doctor --fix" in shown.text()


def test_links_pythons_and_compilers_are_left_to_the_person(world: World) -> None:
    (world.root / "usr/bin/python").unlink()
    (world.prefix / "lib/libpython3.7m.so.1.0").unlink()
    world.tool("gcc", "7.5.0")
    shown = plan(world)
    assert shown.actions == ()
    assert {finding.kind for finding in shown.left} >= {"python-link", "libpython", "gcc"}
    report = apply(world)
    assert report.exit_code == 3
    assert "ln -s" in report.text()


def test_a_failing_install_is_tried_once_more_with_fresh_lists_then_reported(world: World) -> None:
    calls = manager(world, body="case $1 in install) echo 'E: Unable to locate package' >&2; exit 100 ;; esac; exit 0")
    world.without("zip")
    report = apply(world)
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["install", "update", "install"]
    assert report.exit_code == 1
    assert "E: Unable to locate package" in report.text()
    assert json.loads(json.dumps(report.to_json()))["exit_code"] == 1


def test_a_locked_dpkg_is_reported_and_the_file_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    status = world.root / "var/lib/dpkg/status"
    status.write_text(BROKEN)
    (status.parent / "updates").mkdir()
    (status.parent / "updates/0000").touch()
    report = apply(world)
    assert report.exit_code == 1
    assert "dpkg --configure -a" in report.text()
    assert status.read_text() == BROKEN


@pytest.mark.parametrize("name", ["dnf", "yum"])
def test_dnf_and_yum_install_as_well(world: World, name: str) -> None:
    world.without("apt-get")
    calls = manager(world, name=name)
    world.without("zip")
    assert apply(world).exit_code == 0
    assert calls.read_text() == "install -y zip\n"


def test_the_plan_and_the_report_are_json(world: World) -> None:
    world.without("zip")
    document = json.loads(json.dumps(plan(world).to_json()))
    assert document["actions"] == ["apt-get install -y --no-remove --no-install-recommends zip"]
    assert json.loads(json.dumps(apply(world).to_json()))["done"][0]["error"] == ""
