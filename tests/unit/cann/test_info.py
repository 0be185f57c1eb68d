"""cann-info: every state that an installation gets into is told in one sentence with its cure."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
from pathlib import Path

import pytest
from cann_trees import (
    MACHINE,
    OPERATOR_LIST,
    OTHER_MACHINE,
    SITE,
    make_cann,
    make_driver,
    make_plugin,
    make_runtime,
    point,
    put,
)
from elf_samples import for_aarch64, library, needs_gcc
from other_user import as_nobody, open_directory  # noqa: F401 - a fixture

from npu_serving.cann import places
from npu_serving.cann.info import CannInfo, cann_info
from npu_serving.cann.install import find_installation
from npu_serving.cann.layout import packages, table
from npu_serving.errors import RequestError
from npu_serving.settings import Settings


def table_with(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Has other values stand in components.yaml."""
    changed = dataclasses.replace(places.table(), **changes)  # type: ignore[arg-type, attr-defined]
    monkeypatch.setattr(places, "table", lambda: changed)


def info(root: Path) -> CannInfo:
    return cann_info(Settings(cann_root=str(root)))


def told(root: Path) -> list[str]:
    """The problems of an installation; each one has a cure."""
    result = info(root)
    assert result.exit_code == (3 if any(finding.needs_action for finding in result.findings) else 0)
    json.dumps(result.to_json())
    problems = [finding for finding in result.findings if finding.needs_action]
    assert all(finding.cure and finding.cure in result.text() for finding in problems)
    return [finding.what for finding in problems]


def noted(root: Path) -> list[str]:
    return [finding.what for finding in info(root).findings if not finding.needs_action]


@pytest.fixture
def cann(tmp_path: Path) -> Path:
    """A good installation, whose adapter is a library where there is a compiler."""
    root = make_cann(tmp_path / "Ascend with ' and ü")
    if shutil.which("gcc"):
        library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", "int x;")
    return make_driver(root)


@needs_gcc
def test_a_good_installation_is_shown_with_its_versions_and_nothing_to_do(cann: Path) -> None:
    assert told(cann) == noted(cann) == []
    result = info(cann)
    assert result.exit_code == 0
    assert result.adapter is not None
    assert "toolkit 6.3.RC2" in result.text()
    assert "driver 23.0.rc2" in result.text()
    path = cann / "ascend-toolkit/latest" / OPERATOR_LIST
    assert f"operators that the adapter may give to the NPU: 1, in {path}" in result.text()
    document = json.loads(json.dumps(result.to_json()))
    assert document["operator_list"] == {"path": str(path), "operators": 1}
    shown = [(item["name"], item["version"], item["architectures"]) for item in document["installation"]["components"]]
    assert shown == [
        ("toolkit", "6.3.RC2", [MACHINE]),
        ("tfplugin", "6.3.RC2", [MACHINE]),
        ("driver", "23.0.rc2", []),
    ]


@needs_gcc
def test_releases_side_by_side_are_listed_and_are_no_problem(cann: Path) -> None:
    make_cann(cann, "7.0.RC1")
    point(cann / "ascend-toolkit/latest", "6.3.RC2")
    point(cann / "tfplugin/latest", "6.3.RC2")
    assert told(cann) == []
    assert "toolkit 6.3.RC2" in info(cann).text()
    assert "(also there: 7.0.RC1)" in info(cann).text()


@needs_gcc
@pytest.mark.parametrize("family", ["nnae", "nnrt"])
def test_a_runtime_of_another_release_is_reported(family: str, cann: Path) -> None:
    make_runtime(cann, family, "7.0.RC1")
    assert told(cann) == [
        f"toolkit is of CANN 6.3.RC2 and {family} is of CANN 7.0.RC1 and tfplugin is of CANN 6.3.RC2."
    ]
    assert f"./Ascend-cann-{family}_6.3.RC2_linux-{MACHINE}.run --install" in info(cann).text()


def test_without_a_tfplugin_the_others_still_have_to_be_of_one_release(tmp_path: Path) -> None:
    make_runtime(tmp_path, "ascend-toolkit", "6.3.RC2")
    make_runtime(tmp_path, "nnae", "7.0.RC1")
    mixed = [finding for finding in info(tmp_path).findings if "is of CANN" in finding.what]
    assert [finding.cure for finding in mixed] == [f"./Ascend-cann-nnae_6.3.RC2_linux-{MACHINE}.run --install"]


@needs_gcc
def test_toolkit_and_nnae_beside_each_other_are_worth_a_note(cann: Path) -> None:
    make_runtime(cann, "nnae", "6.3.RC2")
    assert told(cann) == []
    assert "both installed; toolkit is used" in noted(cann)[0]


def test_nnrt_alone_does_not_serve(tmp_path: Path) -> None:
    make_plugin(tmp_path, "6.3.RC2")
    make_runtime(tmp_path, "nnrt", "6.3.RC2")
    assert "Neither the CANN toolkit nor nnae is installed: nnrt lacks the graph engine" in told(tmp_path)[0]


def test_a_toolkit_whose_parts_are_of_two_releases_was_upgraded_half_way(cann: Path) -> None:
    cfg = cann / "ascend-toolkit/6.3.RC2/version.cfg"
    cfg.write_text(cfg.read_text() + "hccl_running_version=[1.84:7.0.RC1]\n")
    assert any("mixes CANN 6.3.RC2 and 7.0.RC1" in problem for problem in told(cann))


@needs_gcc
def test_a_driver_that_knows_nothing_of_the_toolkit_nor_it_of_the_driver_is_noted(cann: Path) -> None:
    make_driver(cann, "21.0.4", "V100R001C08", "[V100R001C07,V100R001C08]")
    assert told(cann) == []
    assert "Neither the driver 21.0.4 (V100R001C08) nor the toolkit 6.3.RC2 (V100R001C11)" in noted(cann)[0]
    make_driver(cann, "23.0.0", "V100R001C15", "[V100R001C11],[V100R001C15]")
    assert noted(cann) == [], "the driver names the toolkit's family"


@needs_gcc
def test_without_a_driver_the_machine_can_build_and_not_run(cann: Path) -> None:
    shutil.rmtree(cann / "driver")
    assert told(cann) == []
    assert "No NPU driver" in noted(cann)[0]


@pytest.mark.parametrize("family", ["ascend-toolkit", "tfplugin"])
def test_what_an_interrupted_removal_leaves_is_recognised(family: str, cann: Path) -> None:
    """At every stage: without its files, without its release's directory, without `latest`."""
    release = cann / family / "6.3.RC2"
    shutil.rmtree(release / ("python" if family == "tfplugin" else f"{MACHINE}-linux"))
    assert any("was interrupted" in problem for problem in told(cann))
    shutil.rmtree(release)
    assert any("points to 6.3.RC2, which does not exist" in problem for problem in told(cann))
    (cann / family / "latest").unlink()
    assert any(f"{family} is incomplete" in note for note in noted(cann))
    assert any("installed" in problem for problem in told(cann))


@needs_gcc
def test_dead_links_in_a_latest_directory_are_reported(cann: Path) -> None:
    """Newer toolkits have a directory `latest`, whose entries are links into the release."""
    latest = cann / "ascend-toolkit/latest"
    latest.unlink()
    latest.mkdir()
    for name in ("lib64", f"{MACHINE}-linux", "opp", "version.cfg"):
        (latest / name).symlink_to(f"../6.3.RC2/{name}")
    assert told(cann) == []
    for name in ("compiler", "hccl", "opp", "runtime"):
        point(latest / name, f"../5.1.RC2/{name}")
    problem, without_operators = told(cann)
    assert "4 of the links" in problem
    assert "(compiler, hccl, opp, …)" in problem
    assert "silently served by the CPU" in without_operators


@needs_gcc
def test_a_latest_that_leads_outside_is_used_and_noted(cann: Path, tmp_path: Path) -> None:
    shutil.move(str(cann / "tfplugin/6.3.RC2"), tmp_path / "6.3.RC2")
    point(cann / "tfplugin/latest", str(tmp_path / "6.3.RC2"))
    assert told(cann) == []
    assert f"points outside {cann}, to {tmp_path / '6.3.RC2'}" in noted(cann)[0]


@needs_gcc
def test_a_package_for_the_other_machine_is_reported(cann: Path) -> None:
    shutil.rmtree(cann / "ascend-toolkit")
    make_runtime(cann, "ascend-toolkit", "6.3.RC2", OTHER_MACHINE)
    assert any(f"is for {OTHER_MACHINE}, but this machine is {MACHINE}" in problem for problem in told(cann))


@needs_gcc
@pytest.mark.skipif(MACHINE == "aarch64", reason="the file is made to say that it is for aarch64")
def test_an_adapter_for_the_other_machine_is_reported(cann: Path) -> None:
    for_aarch64(cann / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so")
    assert any("is built for aarch64" in problem for problem in told(cann))


@needs_gcc
def test_a_truncated_adapter_is_reported_with_the_package_to_install(cann: Path) -> None:
    adapter = cann / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"
    adapter.write_bytes(adapter.read_bytes()[:700])
    assert any("is damaged" in problem for problem in told(cann))
    assert f"Ascend-cann-tfplugin_6.3.RC2_linux-{MACHINE}.run" in info(cann).text()


def test_a_dangling_adapter_is_reported_once(cann: Path) -> None:
    point(cann / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so", "gone.so")
    (problem,) = told(cann)
    assert "has no _tf_adapter.so" in problem


def test_the_layout_of_cann_8_5_is_understood(tmp_path: Path) -> None:
    """/usr/local/Ascend/cann -> cann-8.5.0, without a directory for the family."""
    make_runtime(tmp_path / "other", "ascend-toolkit", "8.5.0")
    shutil.move(str(tmp_path / "other/ascend-toolkit/8.5.0"), tmp_path / "cann-8.5.0")
    point(tmp_path / "cann", "cann-8.5.0")
    make_plugin(tmp_path, "8.5.0", "")
    toolkit = find_installation(str(tmp_path))
    assert toolkit is not None
    assert toolkit.runtime is not None
    assert (toolkit.runtime.path, toolkit.runtime.version) == (tmp_path / "cann", "8.5.0")
    for path in (tmp_path / "cann-8.5.0/lib64", tmp_path / "cann/opp"):
        found = find_installation("", {"ASCEND_OPP_PATH": str(path)})
        assert found is not None
        assert found.root == tmp_path
    (tmp_path / "cann").unlink()
    assert any("newest installed release is cann-8.5.0" in problem for problem in told(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ASCEND_AICPU_PATH", "ascend-toolkit/latest"),
        ("TOOLCHAIN_HOME", "ascend-toolkit/latest/toolkit"),
        ("LD_LIBRARY_PATH", "ascend-toolkit/latest/lib64/plugin/nnengine"),
        ("LD_LIBRARY_PATH", f"tfplugin/latest/{SITE}/npu_bridge"),
        ("PYTHONPATH", f"tfplugin/latest/tfplugin/{SITE}"),
        ("TFPLUGIN_INSTALL_PATH", "tfplugin/6.3.RC2"),
    ],
)
def test_every_variable_of_set_env_leads_to_the_installation(variable: str, value: str, tmp_path: Path) -> None:
    root = make_cann(tmp_path / "opt", site=f"tfplugin/{SITE}" if "tfplugin/latest/tfplugin" in value else SITE)
    found = find_installation("", {variable: f"/nowhere/lib:{root / value}" if ":" not in value else value})
    assert found is not None
    assert found.root == root
    assert found.adapter is not None


def test_a_directory_that_is_merely_called_cann_is_none(tmp_path: Path) -> None:
    (tmp_path / "cann/src").mkdir(parents=True)
    found = find_installation("", {"PYTHONPATH": f"{tmp_path}/cann:{tmp_path}/cann/src", "HOME": str(tmp_path)})
    assert found is None or tmp_path not in found.root.parents
    with pytest.raises(RequestError, match="There is no CANN in"):
        info(tmp_path)


@needs_gcc
def test_a_shell_from_before_the_upgrade_is_recognised_by_its_variables(cann: Path) -> None:
    gone = cann / "ascend-toolkit/5.1.RC2"
    found = find_installation("", {"ASCEND_HOME_PATH": str(gone)})
    assert found is not None
    assert found.root == cann
    assert found.findings[0].what == f"ASCEND_HOME_PATH points to {gone}, which does not exist."
    assert "set_env.sh" in found.findings[0].cure
    shell = {"ASCEND_HOME_PATH": f"{cann}/ascend-toolkit/latest", "TFPLUGIN_INSTALL_PATH": str(gone)}
    found = find_installation("", shell)
    assert found is not None
    (finding,) = [finding for finding in found.findings if "TFPLUGIN_INSTALL_PATH" in finding.what]
    assert finding.cure.startswith("unset TFPLUGIN_INSTALL_PATH"), "which is in no set_env.sh"


def test_what_the_installers_recorded_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_cann(tmp_path / "opt/npu")
    record = put(tmp_path / "home/Ascend/ascend_cann_install.info", f"Install_Path_Param={root}\r\n")
    found = find_installation("", {"HOME": str(tmp_path / "home")})
    assert found is not None
    assert found.root == root
    put(tmp_path / "etc", f"Driver_Install_Path_Param={make_driver(tmp_path / 'elsewhere')}\nUserName=HwHiAiUser\n")
    table_with(monkeypatch, records=(str(tmp_path / "etc"),))
    found = find_installation("", {"HOME": str(record.parents[1])})
    assert found is not None
    assert found.component("driver") is not None


def test_the_home_of_another_user_is_looked_at_last_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {"zoe": make_cann(tmp_path / "zoe/Ascend"), "HwHiAiUser": make_cann(tmp_path / "hw/Ascend", "7.0.RC1")}
    users = [pwd.struct_passwd((name, "x", 1, 1, "", str(root.parent), "")) for name, root in homes.items()]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    table_with(monkeypatch, system_root=str(tmp_path / "nowhere"))
    found = find_installation("", {"HOME": str(tmp_path)})
    assert found is not None
    assert found.version == "7.0.RC1", "the guide's user comes first"
    assert any("is the home of HwHiAiUser" in finding.what for finding in found.findings)
    make_runtime(tmp_path / "Ascend", "nnae", "6.3.RC2")
    found = find_installation("", {"HOME": str(tmp_path)})
    assert found is not None
    assert found.adapter is None, "parts of two people's installations are not put together"


@pytest.mark.parametrize(("user", "first"), [(0, "system"), (1000, "home")])
def test_root_looks_into_the_systems_directory_first_and_others_into_their_own(
    user: int, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("system", "home"):
        make_cann(tmp_path / name / "Ascend")
    table_with(monkeypatch, system_root=str(tmp_path / "system/Ascend"))
    table_with(monkeypatch, records=())
    monkeypatch.setattr(os, "geteuid", lambda: user)
    found = find_installation("", {"HOME": str(tmp_path / "home")})
    assert found is not None
    assert found.root == tmp_path / first / "Ascend"


def test_an_explicit_directory_counts_before_the_environment(tmp_path: Path) -> None:
    one, other = make_cann(tmp_path / "one"), make_cann(tmp_path / "other")
    found = find_installation(str(one), {"ASCEND_HOME_PATH": str(other / "ascend-toolkit/latest")})
    assert found is not None
    assert found.root == one


def test_no_cann_at_all_is_told_with_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwall", list)
    table_with(monkeypatch, system_root=str(tmp_path / "nowhere"))
    for name in (*table().variables, *table().search_paths):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    result = cann_info(Settings())
    assert (result.exit_code, result.installation) == (3, None)
    assert str(tmp_path / "nowhere") in result.text()
    assert "--install" in result.text()


def test_every_row_of_the_table_is_whole() -> None:
    for package in packages().values():
        assert package.package.startswith("Ascend-"), package
        assert package.directories, package
        assert package.essential, package
    assert [name for name, package in packages().items() if package.serves] == ["toolkit", "nnae"]


CLOSED = ["ascend-toolkit", "tfplugin/6.3.RC2", f"tfplugin/6.3.RC2/{SITE}", "adapter", "info"]


@needs_gcc
@pytest.mark.parametrize("closed", CLOSED)
def test_what_is_closed_to_this_user_is_named_with_whose_it_is(closed: str, open_directory: Path) -> None:  # noqa: F811
    root = make_driver(make_cann(open_directory / "Ascend"))
    adapter = library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", "int x;")
    fine = as_nobody("cann-info", "--json", "--cann-root", root)
    assert fine.returncode == 0, fine.output
    toolkit_info = root / f"ascend-toolkit/6.3.RC2/{MACHINE}-linux/ascend_toolkit_install.info"
    target = {"adapter": adapter, "info": toolkit_info}.get(closed, root / closed)
    target.chmod(0)
    try:
        answer = as_nobody("cann-info", "--json", "--cann-root", root)
    finally:
        target.chmod(0o755)
    findings = json.loads(answer.stdout)["findings"]
    about = [finding for finding in findings if target.name in finding["what"] and "can't" in finding["what"]]
    assert about, answer.stdout
    assert all(finding["cure"] for finding in about)
    assert all("mode 0000" in finding["what"] for finding in about)
    assert answer.returncode == (0 if closed == "info" else 3)
