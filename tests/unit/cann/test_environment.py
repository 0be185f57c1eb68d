"""What a server gets of the environment that CANN's set_env.sh sets, in each layout and beside what the caller has."""

from __future__ import annotations

from pathlib import Path

import pytest
from cann_trees import MACHINE, OPERATOR_LIST, SITE, make_cann, make_plugin, make_runtime, point, put

from npu_serving import process
from npu_serving.cann.environment import CannEnvironment, cann_environment
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.cann.operator_list import operator_lists
from npu_serving.sample.cann import install_sample_cann


def installed(root: Path) -> CannInstallation:
    installation = find_installation(str(root))
    assert installation is not None
    return installation


def of(root: Path, **caller: object) -> CannEnvironment:
    return cann_environment(installed(root), {name: str(value) for name, value in caller.items()})


def toolkit(root: Path) -> Path:
    return make_cann(root) / "ascend-toolkit/latest"


def nnae(root: Path) -> Path:
    make_plugin(root, "6.3.RC2")
    return make_runtime(root, "nnae", "6.3.RC2") / "nnae/latest"


def cann_of_8_5(root: Path) -> Path:
    """cann -> cann-8.5.0, and the adapter beside it."""
    make_plugin(root, "8.5.0")
    home = root / "cann-8.5.0"
    (home / f"{MACHINE}-linux/lib64").mkdir(parents=True)
    put(home / OPERATOR_LIST, '{"Add": {}}')
    point(root / "cann", "cann-8.5.0")
    return root / "cann"


@pytest.mark.parametrize("layout", [toolkit, nnae, cann_of_8_5])
def test_the_variables_of_set_env_lead_into_the_component_in_each_layout(layout: object, tmp_path: Path) -> None:
    home = layout(tmp_path / "Ascend")  # type: ignore[operator]
    (home / "toolkit").mkdir()
    (home / "python/site-packages").mkdir(parents=True)
    made = of(tmp_path / "Ascend")
    assert made.variables == {
        "ASCEND_TOOLKIT_HOME": str(home),
        "ASCEND_HOME_PATH": str(home),
        "ASCEND_AICPU_PATH": str(home),
        "ASCEND_OPP_PATH": str(home / "opp"),
        "TOOLCHAIN_HOME": str(home / "toolkit"),
    }
    assert made.warnings == ()
    assert not operator_lists(made.added_to({})).are_empty
    site = installed(tmp_path / "Ascend").components[-1].path / SITE
    assert made.added_to({"PYTHONPATH": "/mine"})["PYTHONPATH"] == f"{site}:{home}/python/site-packages:/mine"


def test_what_is_set_is_what_the_script_of_the_samples_cann_sets(tmp_path: Path) -> None:
    ascend = install_sample_cann(tmp_path)
    script = f". '{ascend}/ascend-toolkit/set_env.sh'; . '{ascend}/tfplugin/set_env.sh'; env"
    told = dict(
        line.split("=", 1)
        for line in process.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}).stdout.splitlines()
    )
    made = of(ascend).added_to({})
    names = [name for name in told if name.startswith("ASCEND_") or name == "TOOLCHAIN_HOME"]
    assert {name: made[name] for name in names} == {name: told[name] for name in names}
    assert made["PYTHONPATH"] == told["PYTHONPATH"].rstrip(":")


def test_a_variable_whose_directory_is_missing_is_not_set(tmp_path: Path) -> None:
    toolkit(tmp_path)
    assert "TOOLCHAIN_HOME" not in of(tmp_path).variables


def test_the_callers_own_value_stays_however_it_is_written(tmp_path: Path) -> None:
    home = toolkit(tmp_path)
    mine = tmp_path / "my operators"
    mine.mkdir()
    for value in (home / "opp", tmp_path / "ascend-toolkit/6.3.RC2/opp", mine):
        made = of(tmp_path, ASCEND_OPP_PATH=value)
        assert "ASCEND_OPP_PATH" not in made.variables
        assert made.added_to({"ASCEND_OPP_PATH": str(value)})["ASCEND_OPP_PATH"] == str(value)
        assert made.warnings == ()


@pytest.mark.parametrize("which", ["gone", "another release", "another installation", "relative"])
def test_a_stale_value_loses_and_is_named_with_what_is_used_in_its_place(which: str, tmp_path: Path) -> None:
    home = toolkit(tmp_path / "Ascend")
    make_runtime(tmp_path / "Ascend", "ascend-toolkit", "5.1.RC2")
    point(tmp_path / "Ascend/ascend-toolkit/latest", "6.3.RC2")
    other = make_cann(tmp_path / "other")
    value = {
        "gone": tmp_path / "Ascend/ascend-toolkit/5.0/opp",
        "another release": tmp_path / "Ascend/ascend-toolkit/5.1.RC2/opp",
        "another installation": other / "ascend-toolkit/latest/opp",
        "relative": "opp",
    }[which]
    made = of(tmp_path / "Ascend", ASCEND_OPP_PATH=value)
    assert made.variables["ASCEND_OPP_PATH"] == str(home / "opp")
    (warning,) = made.warnings
    assert f"ASCEND_OPP_PATH is '{value}'" in warning
    assert f"{home}/opp is used" in warning


def test_a_stale_value_that_nothing_takes_the_place_of_is_left_out(tmp_path: Path) -> None:
    toolkit(tmp_path)
    made = of(tmp_path, TOOLCHAIN_HOME="/nonexistent")
    assert "TOOLCHAIN_HOME" not in made.added_to({"TOOLCHAIN_HOME": "/nonexistent", "A": "1"})
    assert "it is left out" in made.warnings[0]


def test_without_cann_the_caller_has_the_last_word() -> None:
    assert cann_environment(None, {"ASCEND_OPP_PATH": "/nonexistent"}).added_to({"A": "b"}) == {"A": "b"}


def test_directories_of_modules_that_are_gone_or_of_another_cann_lose_and_are_named(tmp_path: Path) -> None:
    home = toolkit(tmp_path / "Ascend")
    other = make_cann(tmp_path / "other") / "ascend-toolkit/latest/python/site-packages"
    mine = tmp_path / "mine"
    for directory in (home / "python/site-packages", other, mine):
        directory.mkdir(parents=True, exist_ok=True)
    stale = [str(tmp_path / "gone"), str(other), "relative"]
    value = ":".join([*stale, str(mine), "", str(home / "python/site-packages")])
    made = of(tmp_path / "Ascend", PYTHONPATH=value)
    left = made.added_to({"PYTHONPATH": value})["PYTHONPATH"].split(":")
    assert str(mine) in left
    assert left.count(str(home / "python/site-packages")) == 1
    assert not {*stale, ""} & set(left)
    assert [warning for warning in made.warnings if "PYTHONPATH" in warning] == list(made.warnings)
    for entry in stale:
        assert [warning for warning in made.warnings if f"names {entry!r}" in warning]


@pytest.mark.parametrize(
    ("place", "is_warned_of"),
    [
        ("conda/lib/python3.11/site-packages", True),
        ("usr/lib/python2.7/dist-packages", True),
        ("usr/lib/python3.7/site-packages", False),  # the adapter's
        ("usr/lib/python3.9/site-packages", False),  # that of python3
        ("my/modules", False),
    ],
)
def test_packages_of_another_python_are_kept_and_warned_of(place: str, is_warned_of: bool, tmp_path: Path) -> None:
    toolkit(tmp_path / "Ascend")
    directory = tmp_path / place
    directory.mkdir(parents=True)
    program = tmp_path / "bin/python3.9"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    program.with_name("python3").symlink_to(program.name)
    made = of(tmp_path / "Ascend", PYTHONPATH=directory, PATH=program.parent)
    assert made.added_to({"PYTHONPATH": str(directory)})["PYTHONPATH"].split(":")[-1] == str(directory)
    assert [f"names '{directory}', packages of Python" in warning for warning in made.warnings] == (
        [True] if is_warned_of else []
    )
    if is_warned_of:
        assert "Python 3.7 and 3.9" in made.warnings[0]


@pytest.mark.parametrize("whose", ["root's", "a user's"])
@pytest.mark.parametrize("families", [("ascend-toolkit",), ("nnae",), ("ascend-toolkit", "nnae")])
def test_one_of_toolkit_and_nnae_and_then_the_adapter_are_set_wherever_they_were_installed(
    whose: str, families: tuple[str, ...], tmp_path: Path
) -> None:
    root = tmp_path / ("usr/local/Ascend" if whose == "root's" else "home/me/Ascend")
    for family in families:
        make_runtime(root, family, "6.3.RC2")
        (root / family / "latest/python/site-packages").mkdir(parents=True)
    make_plugin(root, "6.3.RC2")
    asked = (str(root), {}) if whose == "root's" else ("", {"HOME": str(root.parent)})
    made = cann_environment(find_installation(*asked), {})
    used, unused = root / families[0] / "latest", root / "nnae/latest"
    assert made.variables["ASCEND_OPP_PATH"] == str(used / "opp")
    assert made.variables["ASCEND_HOME_PATH"] == str(used)
    adapter, site = root / "tfplugin/latest" / SITE, used / "python/site-packages"
    assert made.added_to({})["PYTHONPATH"] == f"{adapter}:{site}"
    assert made.library_path[:2] == (adapter / "npu_bridge", used / "lib64")
    if len(families) == 2:
        everything = [*made.library_path, *made.variables.values(), *made.added_to({}).values()]
        assert [value for value in everything if str(unused) in str(value)] == []
