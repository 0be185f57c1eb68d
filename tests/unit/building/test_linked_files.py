"""What a final link reads, asked of the real gcc."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from elf_samples import needs_gcc

from npu_serving.building.linked_files import linked_files
from npu_serving.linking.link_command import LinkWords, with_linker
from npu_serving.linking.saved_link import FoundLibrary

pytestmark = needs_gcc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with an object, and libraries in directories that are named by their whole paths and by relative."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "rel").mkdir()
    (tmp_path / "x.c").write_text("int x(void) { return 1; } int main(void) { return 0; }")
    (tmp_path / "two.c").write_text("int two(void) { return 2; }")
    subprocess.run(["gcc", "-c", "x.c", "two.c"], cwd=tmp_path, check=True)
    for name in ("a b/libone.so", "rel/libone.so", "rel/libtwo.so"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", name, "x.c"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rcs", "rel/libtwo.a", "two.o"], cwd=tmp_path, check=True)
    return tmp_path


def words(root: Path) -> LinkWords:
    command = ["/usr/bin/gcc", "-o", "out", f"-L{root}/a b", "-Lrel", "-Wl,-Bstatic,-ltwo,-Bdynamic", "-Wl,@p"]
    command.append(f"-Wl,-Map,{root}/written.map")
    return LinkWords(with_linker(command, "bfd"), ("x.o", "-lone", "-lnone", "-lm"))


def test_libraries_are_found_where_the_linker_finds_them_and_with_what_they_name(root: Path) -> None:
    (root / "p").write_text("x.o\n-lone\n-lm\n")
    (root / "written.map").write_text("by an earlier link")
    files = linked_files(words(root), root, (), {"PATH": os.environ["PATH"]}, of_this_machine=True)
    found = {(library.name, library.static): library.path for library in files.libraries}
    assert found["one", False] == f"{root}/a b/libone.so"
    assert found["two", True] == "rel/libtwo.a"
    assert found["none", False] == ""
    assert {"p", "x.o", "rel/libtwo.a", f"{root}/a b/libone.so", "/usr/bin/gcc"} <= set(files.names)
    names = {Path(name).name for name in files.names}
    assert "liblto_plugin.so" in names
    assert "written.map" not in names, "each link would change it"
    assert {"crti.o", "libgcc.a", "libm.so", "libm.so.6", "libc.so", "libc.so.6", "collect2"} <= names
    trace = subprocess.run([*words(root).command, "-Wl,--trace"], cwd=root, capture_output=True, text=True, check=True)
    read = {os.path.realpath(root / line.split("(")[0]) for line in trace.stdout.splitlines()}
    assert read <= {os.path.realpath(root / name) for name in files.names}, "bfd says itself what it reads"


def test_nothing_of_the_system_is_noted_of_a_link_in_an_image(root: Path) -> None:
    files = linked_files(words(root), root, (), {"PATH": os.environ["PATH"]}, of_this_machine=False)
    assert files.names == ("p", "x.o", "rel/libtwo.a", "rel/libone.so")
    assert files.searched == ("rel",)
    assert FoundLibrary("m", "") in files.libraries
