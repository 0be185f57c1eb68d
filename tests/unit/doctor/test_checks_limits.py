"""doctor --for serving: files, memory, disk and ports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from doctor_world import World, healthy_world
from npu_machine import make_npus, ports

from npu_serving.doctor.checks import RequirementFinding
from npu_serving.doctor.checks_limits import outgoing_ports, ports_at_risk
from npu_serving.doctor.examination import begin_serving, check
from npu_serving.findings import NOT_NEEDED, OK, WARNING


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = healthy_world(tmp_path / "machine")
    make_npus(made)
    return made


def found(world: World, name: str) -> RequirementFinding:
    examination = begin_serving(world.settings, world.machine)
    return check(examination.requirements[name], examination)


@pytest.mark.parametrize(
    ("limits", "verdict", "wanted"),
    [
        ((4095, 1048576), WARNING, "ulimit -n 65536 "),
        ((1024, 8192), WARNING, "ulimit -n 8192 "),
        ((1024, 1024), WARNING, "(above 1024"),
        ((4096, 4096), OK, ""),
        ((-1, -1), OK, ""),
    ],
)
def test_a_low_limit_of_open_files_is_raised_as_far_as_this_user_may(
    world: World, limits: tuple[int, int], verdict: str, wanted: str
) -> None:
    world.on(open_files=limits)
    finding = found(world, "open-files")
    assert finding.severity == verdict
    assert wanted in finding.cure


@pytest.mark.parametrize(("memory", "verdict"), [(3999, WARNING), (4000, OK)])
def test_little_memory_is_a_warning(world: World, memory: int, verdict: str) -> None:
    world.on(memory_mb=memory)
    finding = found(world, "serving-memory")
    assert finding.severity == verdict
    assert ("TE_PARALLEL_COMPILER" in finding.cure) == (verdict == WARNING)


@pytest.mark.parametrize(("free", "verdict"), [(1.9e9, WARNING), (2e9, OK)])
def test_the_fullest_of_the_places_that_are_written_to_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str
) -> None:
    monkeypatch.setenv("HOME", "/home/server")
    monkeypatch.setattr(
        "npu_serving.doctor.checks_limits.fsutil.free_bytes",
        lambda path: int(free) if path == Path("/home/server") else 10**12,
    )
    finding = found(world, "serving-disk")
    assert finding.severity == verdict
    assert "/home/server" in finding.found


@pytest.mark.parametrize(("free_mb", "verdict"), [(64, WARNING), (128, OK)])
def test_the_shared_memory_of_a_container_by_default_is_too_little(
    world: World, monkeypatch: pytest.MonkeyPatch, free_mb: int, verdict: str
) -> None:
    status = SimpleNamespace(f_bavail=free_mb, f_blocks=free_mb, f_frsize=10**6)
    monkeypatch.setattr("npu_serving.doctor.checks_limits.os.statvfs", lambda _path: status)
    finding = found(world, "shared-memory")
    assert finding.severity == verdict
    assert ("--shm-size" in finding.cure) == (verdict == WARNING)


def test_without_shared_memory_it_is_said(world: World) -> None:
    (world.root / "dev/shm").rmdir()
    assert found(world, "shared-memory").found == "there is no /dev/shm"


@pytest.mark.parametrize(
    ("given", "reserved", "taken"),
    [
        ("32768\t60999", "", ()),
        ("1024\t65535", "", (8500, 8501)),
        ("1024\t65535", "8500-8510", ()),
        ("1024\t65535", "80,8501", (8500,)),
        ("8501\t9000", "", (8501,)),
        ("rubbish", "", ()),
        ("1024\t65535", "rubbish", (8500, 8501)),
    ],
)
def test_a_port_that_outgoing_connections_may_take_is_named(
    world: World, given: str, reserved: str, taken: tuple[int, ...]
) -> None:
    ports(world, given, reserved)
    assert ports_at_risk((8500, 8501), world.root) == taken
    finding = found(world, "local-ports")
    if taken:
        assert finding.severity == WARNING
        assert finding.cure.endswith(f"ip_local_reserved_ports={','.join(map(str, taken))}")
    else:
        assert finding.severity == (NOT_NEEDED if given == "rubbish" else OK)


def test_a_kernel_that_does_not_say_is_no_finding(tmp_path: Path) -> None:
    assert outgoing_ports(tmp_path) is None
    assert ports_at_risk((8500,), tmp_path) == ()
