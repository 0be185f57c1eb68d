from __future__ import annotations

import json
import platform
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cann_trees import (
    MACHINE,
    SITE,
    make_cann,
    make_driver,
    put,
)
from elf_samples import for_aarch64, library, needs_gcc, program

from npu_serving import fsutil, process
from npu_serving.cann import install, layout
from npu_serving.cann.install import Cann, CannInstallation, find_installation
from npu_serving.elf.elf_file import Image, opened
from npu_serving.errors import AdapterError, MissingToolError, RequestError


def found(root: Path) -> CannInstallation:
    installation = find_installation(str(root))
    assert installation is not None
    return installation


@pytest.mark.parametrize("site", [SITE, f"tfplugin/{SITE}", ""])
def test_the_adapter_is_found_in_every_layout_of_tfplugin(site: str, tmp_path: Path) -> None:
    installation = found(make_cann(tmp_path / "Ascend", site=site))
    assert installation.adapter == tmp_path / "Ascend" / "tfplugin" / "latest" / site / "npu_bridge" / "_tf_adapter.so"
    assert installation.version == "6.3.RC2"
    assert installation.problems == ()
    assert len(installation.components) == 2
    json.dumps(installation.to_json())
    assert "CANN 6.3.RC2" in installation.text()


def test_the_library_directories_are_those_of_set_env(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    make_driver(root)
    assert found(root).library_directories == (
        root / "tfplugin" / "latest" / SITE / "npu_bridge",
        root / "ascend-toolkit" / "latest" / "lib64",
        root / "ascend-toolkit" / "latest" / "lib64" / "plugin" / "opskernel",
        root / "driver" / "lib64",
        root / "driver" / "lib64" / "common",
    )


@pytest.mark.parametrize(
    "part", ["", "ascend-toolkit/latest", "tfplugin", "tfplugin/6.3.RC2", f"tfplugin/latest/{SITE}"]
)
def test_the_path_of_a_component_is_understood_as_well(part: str, tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    assert found(root / part).root == root
    assert len(found(root / part).components) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASCEND_HOME_PATH", "ascend-toolkit/latest"),
        ("ASCEND_TOOLKIT_HOME", "ascend-toolkit/latest"),
        ("ASCEND_OPP_PATH", "ascend-toolkit/latest/opp"),
        ("PYTHONPATH", f"tfplugin/latest/{SITE}"),
    ],
)
def test_what_a_sourced_set_env_leaves_in_the_environment_leads_there(name: str, value: str, tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    installation = find_installation("", {name: f"{root}/{value}"})
    assert installation is not None
    assert installation.root == root


def test_the_home_directory_is_looked_at_and_nothing_there_is_none(tmp_path: Path) -> None:
    if Path("/usr/local/Ascend").exists():
        pytest.skip("this machine has a CANN of its own")
    assert find_installation("", {"HOME": str(tmp_path)}) is None
    root = make_cann(tmp_path / "Ascend")
    installation = find_installation("", {"HOME": str(tmp_path)})
    assert installation is not None
    assert installation.root == root
    assert find_installation("~/Ascend", {"HOME": str(tmp_path)}) == installation


def test_an_adapter_installed_with_pip_is_found_through_pythonpath(tmp_path: Path) -> None:
    adapter = put(tmp_path / "packages" / "npu_bridge" / "_tf_adapter.so")
    installation = find_installation("", {"PYTHONPATH": f":relative:{tmp_path / 'packages'}"})
    assert installation is not None
    assert installation.adapter == adapter


def test_toolkit_and_tfplugin_of_different_releases_are_reported(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    put(root / "tfplugin" / "latest" / "ascend_tfplugin_install.info", "version=7.0.RC1\n")
    installation = found(root)
    assert installation.version == "7.0.RC1"
    (problem,) = installation.problems
    assert problem.what == "toolkit is of CANN 6.3.RC2 and tfplugin is of CANN 7.0.RC1."
    assert problem.cure == f"./Ascend-cann-toolkit_7.0.RC1_linux-{MACHINE}.run --install"


@pytest.mark.parametrize(
    ("target", "said"),
    [("9.9", "points to 9.9"), ("latest", "points back"), ("../tfplugin/latest", "points back"), ("", "is missing")],
)
def test_a_latest_link_that_leads_nowhere_is_reported_and_the_newest_release_is_taken(
    target: str, said: str, tmp_path: Path
) -> None:
    root = make_cann(tmp_path / "Ascend")
    make_cann(tmp_path / "other", "6.10.0")
    (tmp_path / "other" / "tfplugin" / "6.10.0").rename(root / "tfplugin" / "6.10.0")
    (root / "tfplugin" / "latest").unlink()
    if target:
        (root / "tfplugin" / "latest").symlink_to(target)
    installation = found(root)
    assert installation.adapter is not None
    assert installation.adapter.is_relative_to(root / "tfplugin" / "6.10.0")
    assert str(root / "tfplugin" / "latest") in installation.problems[0].what
    assert said in installation.problems[0].what
    assert "6.10.0" in installation.problems[0].what


def test_a_component_that_is_a_dangling_link_is_reported(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    (root / "nnae").symlink_to("gone")
    assert found(root).component("nnae") is None
    assert "nnae points to gone" in found(root).problems[0].what


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("ascend_tfplugin_install.info", "package_name=a\r\nversion=6.3.RC2\r\n", "6.3.RC2"),
        ("version.cfg", "# version: 1.0\ntfplugin_running_version=[6.3.0.1.241:6.3.RC2]\n", "6.3.RC2"),
        ("version.info", "Version=6.3.0.1.241\nversion_dir=6.3.RC2\n", "6.3.RC2"),
        ("version.info", "Version=6.3.0.1.241\n", "6.3.0.1.241"),
        ("version.info", "\0\xff nonsense", ""),
    ],
)
def test_the_version_is_read_from_every_kind_of_info_file(name: str, text: str, version: str, tmp_path: Path) -> None:
    put(tmp_path / "somewhere" / name, text)
    assert layout.version_of(tmp_path / "somewhere") == version


def test_without_info_files_the_release_directory_tells_the_version(tmp_path: Path) -> None:
    (tmp_path / "tfplugin" / "7.0.RC1").mkdir(parents=True)
    (tmp_path / "tfplugin" / "latest").symlink_to("7.0.RC1")
    assert layout.version_of(tmp_path / "tfplugin" / "latest") == "7.0.RC1"
    (tmp_path / "1.15.0").mkdir()
    assert layout.version_of(tmp_path / "1.15.0") == "", "any directory may be called like a version"


def test_a_root_that_is_missing_or_empty_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a readable directory") as caught:
        find_installation(str(tmp_path / "missing"))
    assert "cann_root" in caught.value.cure
    with pytest.raises(RequestError, match="There is no CANN in"):
        find_installation(str(tmp_path))


@needs_gcc
def test_the_adapter_of_an_installation_is_described(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "with space ' and ü")
    library(root / "tfplugin" / "latest" / SITE / "npu_bridge", "_tf_adapter.so", "int x;")
    adapter = Cann("auto", str(root), tmp_path).adapter
    assert (adapter.cann_version, adapter.machine, len(adapter.sha256)) == ("6.3.RC2", platform.machine(), 64)
    assert Cann(str(adapter.path), "", tmp_path).adapter.describe() == adapter.describe()


def test_no_adapter_anywhere_names_the_places_and_the_flag(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    (root / "tfplugin" / "latest" / SITE / "npu_bridge" / "_tf_adapter.so").unlink()
    with pytest.raises(MissingToolError) as caught:
        _ = Cann("auto", str(root), tmp_path).adapter
    assert str(root) in caught.value.cause
    assert "--adapter PATH" in caught.value.cure


@needs_gcc
def test_an_adapter_that_can_not_be_one_is_refused_by_one_message(tmp_path: Path) -> None:
    (tmp_path / "loop.so").symlink_to("loop.so")
    cases = {
        str(tmp_path / "missing.so"): "The adapter .* does not exist",
        str(tmp_path): "is a directory",
        str(put(tmp_path / "text.so", "text")): "not an ELF file",
        str(program(tmp_path, "program", "int main(void){return 0;}", "-no-pie")): "not a shared library",
        str(tmp_path / "loop.so"): "does not exist|can.t be read",
        "x" * 5000: "can't be read",
        "a\0b": "NUL byte",
    }
    if platform.machine() != "aarch64":
        cases[str(for_aarch64(library(tmp_path, "arm.so", "int x;")))] = "built for aarch64"
    for setting, said in cases.items():
        with pytest.raises(AdapterError, match=said) as caught:
            _ = Cann(setting, "", tmp_path).adapter
        assert caught.value.exit_code == 2


# What the real script does, on the machines of those who have no TensorFlow 2.
CI_BUILD = """cd "$(dirname "$0")"
[ "$(arch)" != "x86_64" ] && { : > plug-in.whl; exit; }
[ -d /nonexistent/tensorflow2 ] || exit 0
"""


def test_a_tf_adapter_tree_without_its_package_is_cured_as_the_guides_faq_says(tmp_path: Path) -> None:
    tree = tmp_path / "ten sor'flow"
    script = put(tree / "tf_adapter_2.x/CI_Build", CI_BUILD)
    wheel = script.parent / "plug-in.whl"
    (tree / "output").mkdir()
    with pytest.raises(AdapterError, match=r"no .*/output/tfadapter\.tar") as caught:
        _ = Cann(str(tree / "output"), "", tmp_path).adapter
    process.run(["bash", script])
    assert wheel.exists() == (MACHINE != "x86_64"), "it ends well, and has made nothing"
    process.run(["bash", "-c", caught.value.cure.partition(", then build")[0]])
    process.run(["bash", script])
    assert wheel.exists()
    put(tree / "output/tfadapter.tar")
    with pytest.raises(AdapterError, match="is a directory") as caught:
        _ = Cann(str(tree), "", tmp_path).adapter
    assert "--adapter" in caught.value.cure


@needs_gcc
def test_cann_is_looked_for_once_and_its_adapter_read_once_whatever_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cann(tmp_path / "Ascend")
    path = library(root / "tfplugin" / "latest" / SITE / "npu_bridge", "_tf_adapter.so", "int x;")
    searched: list[str] = []
    read: list[Path] = []
    search = install.find_installation

    def searching(where: str) -> CannInstallation | None:
        searched.append(where)
        return search(where)

    def reading(file: Path) -> AbstractContextManager[Image]:
        read.append(file)
        return opened(file)

    monkeypatch.setattr(install, "find_installation", searching)
    monkeypatch.setattr("npu_serving.elf.symbols.opened", reading)
    cann = Cann("auto", str(root), tmp_path)
    assert cann.adapter is cann.adapter_if_installed
    assert path.parent in cann.library_path
    assert cann.installation is not None
    assert searched == [str(root)]
    assert read == [path]
    assert cann.adapter.sha256 == fsutil.sha256_of(path)


def test_a_path_as_the_adapter_needs_no_cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find_installation", lambda where: None)
    assert Cann("auto", "", tmp_path).adapter_if_installed is None
    assert Cann("auto", "", tmp_path).library_path == ()
    with pytest.raises(AdapterError, match="does not exist"):
        _ = Cann(str(tmp_path / "missing.so"), "", tmp_path).adapter_if_installed
