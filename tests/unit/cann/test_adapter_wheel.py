"""The adapter since CANN 8.0.0, a wheel: where it is found, what is said of two, and that the cures help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cann_trees import (
    MACHINE,
    SITE,
    install_wheel,
    make_cann,
    make_cann_of_today,
    make_plugin,
    make_runtime,
    make_wheel,
    put,
    wheel_name,
)

from npu_serving.cann.install import Cann, CannInstallation, find_installation
from npu_serving.cann.layout import is_from_release_wheel, packages
from npu_serving.errors import FileAccessError, MissingToolError


def found(environ: dict[str, str], root: Path | None = None) -> CannInstallation:
    installation = find_installation(str(root or ""), environ)
    assert installation is not None
    return installation


def follow(cure: str, downloads: Path) -> None:
    """Types a cure into a shell, in the directory of the downloaded wheel; the note behind it is for a person."""
    tools = downloads / "tools"
    put(tools / "pip3", f'#!/bin/sh\nexec "{sys.executable}" -m pip --no-cache-dir "$@" --no-index -q\n').chmod(0o755)
    subprocess.run(
        ["bash", "-euc", cure.partition(" (a wheel of")[0]],
        cwd=downloads,
        env={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(downloads)},
        check=True,
    )


@pytest.fixture
def today(tmp_path: Path) -> Path:
    """CANN 9.0.0, without an adapter."""
    return make_cann_of_today(tmp_path / "Ascend")


@pytest.mark.parametrize(
    ("variable", "place", "inside"),
    [
        ("TFPLUGIN_INSTALL_PATH", "my adapter", ""),
        ("PYTHONPATH", "elsewhere", ""),
        ("VIRTUAL_ENV", "venv", "lib/python3.7/site-packages"),
        ("VIRTUAL_ENV", "venv", "lib/python3.10/site-packages"),
        ("CONDA_PREFIX", "conda/envs/tf", "lib/python3.7/site-packages"),
    ],
)
def test_a_wheel_is_found_wherever_pip_was_told_to_put_it(
    variable: str, place: str, inside: str, today: Path, tmp_path: Path
) -> None:
    adapter = install_wheel(tmp_path / place / inside)
    environ = {"ASCEND_HOME_PATH": f"{today}/cann", variable: str(tmp_path / place)}
    for installation in (found(environ), found(environ, today)):
        assert installation.adapter == adapter
        assert installation.problems == ()
        assert installation.version == "9.0.0", "a wheel doesn't tell its release"
        assert adapter.parent in installation.library_directories


def test_a_place_where_a_wheel_can_not_be_unpacked_is_what_is_named_and_not_the_wheel(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="/dev/null/adapters could not be made") as caught:
        _ = Cann(str(make_wheel(tmp_path)), "", Path("/dev/null/adapters")).adapter
    assert "--adapter" not in caught.value.cure


def test_a_wheel_in_tfplugin_itself_takes_no_version_from_what_lies_beside_it(today: Path) -> None:
    put(today / "driver/version.info", "Version=23.0.0\n")
    put(today / "tfplugin/7.0.RC1/version.info", "Version=1\nversion_dir=7.0.RC1\n")
    adapter = install_wheel(today / "tfplugin")
    installation = found({}, today)
    assert installation.adapter == adapter
    plugin = installation.component("tfplugin")
    assert plugin is not None
    assert plugin.version == ""
    assert installation.problems == ()


@pytest.mark.parametrize("place", ["tfplugin", "elsewhere"])
def test_of_a_left_over_tfplugin_and_a_wheel_the_wheel_is_used_both_are_named_and_the_cure_helps(
    place: str, today: Path, tmp_path: Path
) -> None:
    make_plugin(today, "7.0.RC1")
    wheel = install_wheel(today / place)
    environ = {"TFPLUGIN_INSTALL_PATH": str(today / place)}
    if place == "tfplugin":
        environ = {"PYTHONPATH": f"{today}/tfplugin/latest/{SITE}"}  # what the former shell has sourced
    environ["ASCEND_HOME_PATH"] = f"{today}/cann"
    installation = found(environ)
    assert installation.adapter == wheel
    (problem,) = installation.problems
    assert str(wheel) in problem.what
    assert str(today / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so") in problem.what
    assert problem.cure == str(today / "tfplugin/latest/script/uninstall.sh")
    follow(problem.cure, tmp_path)
    assert found(environ).problems == ()
    assert found(environ).adapter == wheel


def test_what_an_uninstaller_has_left_without_itself_is_removed_by_the_cure(today: Path, tmp_path: Path) -> None:
    make_plugin(today, "7.0.RC1")
    (today / "tfplugin/latest/script/uninstall.sh").unlink()
    install_wheel(today / "tfplugin")
    (problem,) = found({}, today).problems
    follow(problem.cure, tmp_path)
    assert found({}, today).problems == ()


@pytest.mark.parametrize("toolkit", ["8.0.0", "9.0.0"])
def test_an_older_tfplugin_is_replaced_by_the_wheel_and_the_toolkit_stays(toolkit: str, tmp_path: Path) -> None:
    root = make_plugin(tmp_path / "Ascend", "6.3.RC2")
    if toolkit == "9.0.0":
        make_cann_of_today(root)
    else:
        make_runtime(root, "ascend-toolkit", toolkit)
    make_wheel(tmp_path / "downloads")
    (problem,) = found({}, root).problems
    assert f"toolkit is of CANN {toolkit}" in problem.what
    assert "Ascend-cann" not in problem.cure, "nothing is downgraded"
    follow(problem.cure, tmp_path / "downloads")
    assert found({}, root).adapter == root / "tfplugin/npu_bridge/_tf_adapter.so"
    assert found({}, root).problems == ()


def test_a_wheel_with_a_toolkit_of_the_time_before_wheels_is_a_problem_and_the_cure_is_that_times_installer(
    tmp_path: Path,
) -> None:
    root = make_runtime(tmp_path / "Ascend", "ascend-toolkit", "6.3.RC2")
    wheel = install_wheel(tmp_path / "wheel")
    environ = {"ASCEND_HOME_PATH": f"{root}/ascend-toolkit/latest", "TFPLUGIN_INSTALL_PATH": str(tmp_path / "wheel")}
    (problem,) = found(environ).problems
    assert "toolkit is of CANN 6.3.RC2" in problem.what
    assert str(wheel) in problem.what
    assert problem.cure == f"./Ascend-cann-tfplugin_6.3.RC2_linux-{MACHINE}.run --install"
    make_plugin(root, "6.3.RC2")  # which is what that installer does
    after = found(environ)
    assert after.problems == ()
    assert after.adapter == root / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"
    assert any(str(wheel) in finding.what for finding in after.findings), "the other one is not passed over in silence"


def test_a_package_of_ones_own_is_no_release_wheel_and_is_named_beside_the_tfplugin(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    own = install_wheel(tmp_path / "own", tag="any")
    assert not is_from_release_wheel(own)
    installation = found({"ASCEND_HOME_PATH": f"{root}/ascend-toolkit/latest", "PYTHONPATH": str(tmp_path / "own")})
    assert installation.adapter != own
    assert installation.problems == ()
    assert any(str(own) in finding.what for finding in installation.findings)


def test_the_pip_line_replaces_a_wheel_that_is_there(today: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "downloads", b"new")
    adapter = install_wheel(today / "tfplugin", adapter=b"old")
    command = packages()["tfplugin"].install_command("9.0.0", today)
    assert wheel_name() in command
    follow(command, tmp_path / "downloads")
    assert adapter.read_bytes() == b"new"


def test_without_an_adapter_the_cure_is_what_exists_for_the_cann_that_is_found(today: Path, tmp_path: Path) -> None:
    older = make_runtime(tmp_path / "older", "ascend-toolkit", "7.0.RC1")
    with pytest.raises(MissingToolError) as caught:
        _ = Cann("auto", str(older), tmp_path).adapter
    assert f"./Ascend-cann-tfplugin_7.0.RC1_linux-{MACHINE}.run --install" in caught.value.cure
    with pytest.raises(MissingToolError) as caught:
        _ = Cann("auto", str(today), tmp_path).adapter
    assert ".run" not in caught.value.cure
    (problem,) = found({}, today).problems
    assert "wheel" in problem.what
    make_wheel(tmp_path / "downloads")
    follow(problem.cure, tmp_path / "downloads")
    assert found({}, today).problems == ()


def test_a_left_over_ascend_toolkit_beside_cann_is_noted_and_the_one_that_was_sourced_is_used(today: Path) -> None:
    make_runtime(today, "ascend-toolkit", "7.0.RC1")
    installation = found({}, today)
    assert installation.runtime is not None
    assert installation.runtime.path == today / "cann"
    assert any(str(today / "ascend-toolkit/latest") in finding.what for finding in installation.findings)
    sourced = found({"ASCEND_HOME_PATH": str(today / "ascend-toolkit/latest")})
    assert sourced.runtime is not None
    assert sourced.runtime.path == today / "ascend-toolkit/latest"
    (today / "ascend-toolkit/latest").unlink()
    (today / "ascend-toolkit/latest").symlink_to("gone")
    assert not any("gone" in problem.what for problem in found({}, today).problems)
