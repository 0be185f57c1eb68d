"""The overlay of a build without an adapter: the link command has its usual form, and the link itself is not run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from npu_serving.elf.symbols import read_elf
from npu_serving.overlay.adapter import apply_overlay, plan_overlay, plan_removal
from npu_serving.overlay.content import ADAPTER_FILE, NO_LINK_FILE, OverlayInputs

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")

SERVER_BUILD = """\
cc_binary(
    name = "tensorflow_model_server",
    deps = [":tensorflow_model_server_main_lib"],
)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "tensorflow_serving/model_servers").mkdir(parents=True)
    (root / "WORKSPACE").write_text('workspace(name = "tf_serving")\n')
    (root / "tensorflow_serving/model_servers/BUILD").write_text(SERVER_BUILD)
    return root


@pytest.fixture
def libpython(tmp_path: Path) -> Path:
    return library(tmp_path / "libpython.so", "int Py_Initialize(void) { return 0; }", "libpython3.7m.so.1.0")


def library(path: Path, source: str, soname: str) -> Path:
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", path, code], check=True)
    return path


def test_an_empty_library_has_the_adapters_name_and_soname(tree: Path, libpython: Path) -> None:
    apply_overlay(plan_overlay(tree, OverlayInputs(None, libpython)))

    stub = read_elf(tree / "third_party/tf_adapter" / ADAPTER_FILE)
    assert stub.soname == "_tf_adapter.so"
    assert not [symbol for symbol in stub.undefined if not symbol.is_weak]
    assert not plan_overlay(tree, OverlayInputs(None, libpython)).changes


def test_gcc_starts_the_script_in_place_of_the_linker_which_makes_an_empty_file(
    tree: Path, libpython: Path, tmp_path: Path
) -> None:
    apply_overlay(plan_overlay(tree, OverlayInputs(None, libpython)))
    script = tree / "third_party/tf_adapter" / NO_LINK_FILE
    main = tmp_path / "main.c"
    main.write_text("int main(void) { return missing(); }")
    subprocess.run(["gcc", "-c", "-w", "main.c"], cwd=tmp_path, check=True)
    words = ["-o", "a server", "main.o", "-wrapper", f"/bin/sh,{script}", "-fuse-ld=gold", "-lnowhere"]
    at_file = tmp_path / "words"
    at_file.write_text("\n".join(word.replace(" ", "\\ ") for word in words))

    for given in (words, [f"@{at_file}"]):
        subprocess.run(["gcc", *given], cwd=tmp_path, check=True)
        made = tmp_path / "a server"
        assert made.read_bytes() == b""
        made.unlink()


def test_a_real_adapter_takes_its_place_and_leaves_nothing_of_it(tree: Path, libpython: Path, tmp_path: Path) -> None:
    adapter = library(tmp_path / "_tf_adapter.so", "int f(void) { return 0; }", "_tf_adapter.so")
    apply_overlay(plan_overlay(tree, OverlayInputs(adapter, libpython)))
    directory = tree / "third_party/tf_adapter"
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    apply_overlay(plan_overlay(tree, OverlayInputs(None, libpython)))
    assert (directory / ADAPTER_FILE).read_bytes() != adapter.read_bytes()
    apply_overlay(plan_overlay(tree, OverlayInputs(adapter, libpython)))

    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    apply_overlay(plan_overlay(tree, OverlayInputs(None, libpython)))
    apply_overlay(plan_removal(tree))
    assert not directory.exists()
