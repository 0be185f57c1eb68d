"""The linker's own words of a link that the compiler driver does, and the same link from the files of a kit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving import process
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import BuildFailedError, SourceError
from npu_serving.packaging.bare_link import (
    LinkFile,
    ScriptFile,
    linker_words,
    needed_libraries,
    read_script,
    resolved,
)
from npu_serving.packaging.kit_members import KitLink, kit_link
from npu_serving.relink_kit.kit_file import LINKER, OUTPUT

LINKERS = [name for name in ("bfd", "gold", "lld") if shutil.which(f"ld.{name}")]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

MAIN = "#include <stdio.h>\n#include <math.h>\nint odd(void); int adapter(void); int main(int c, char **v) {\n"
MAIN += 'printf("%d %d %.3f\\n", odd(), adapter(), sqrt(c + 1.0)); return 0; }\n'


def find(names: Sequence[str]) -> dict[str, Path]:
    return {name: Path(name) for name in names if Path(name).is_file()}


# ---- what gcc shows


def test_the_plugin_of_the_compiler_is_left_out_and_the_parameter_file_replaced() -> None:
    shown = ' /usr/lib/collect2 -plugin /usr/lib/lto.so "-plugin-opt=-pass-through=-lc" -o out '
    shown += '"-rpath" "\\$ORIGIN" @a.params\n'
    words = linker_words(f"gcc version 12\n{shown}COLLECT_GCC_OPTIONS='-o'\n", "a.params", ["x.o", "-lm"])
    assert words == ("-plugin-opt=-pass-through=-lc", "-o", "out", "-rpath", "$ORIGIN", "x.o", "-lm")


def test_a_compiler_that_shows_no_link_is_an_error_with_what_it_said() -> None:
    with pytest.raises(BuildFailedError, match="no such option"):
        linker_words("clang: no such option\n", "", [])


# ---- linker scripts


def test_a_linker_script_is_read_as_libc_so_is_written() -> None:
    text = """/* GNU ld script
    Use the shared library. */
    OUTPUT_FORMAT(elf64-x86-64)
    GROUP ( /lib/libc.so.6 libc_nonshared.a AS_NEEDED ( "/lib64/ld.so", =/lib/other.so ) -lgcc )
    INPUT(libtinfo.so.6 AS_NEEDED(-lx))"""
    group, given_input = read_script(text, "libc.so")
    assert group.group
    assert group.files == (
        ScriptFile("/lib/libc.so.6"),
        ScriptFile("libc_nonshared.a"),
        ScriptFile("/lib64/ld.so", as_needed=True),
        ScriptFile("/lib/other.so", as_needed=True),
        ScriptFile("-lgcc"),
    )
    assert not given_input.group
    assert given_input.files == (ScriptFile("libtinfo.so.6"), ScriptFile("-lx", as_needed=True))


@pytest.mark.parametrize("text", ["SECTIONS { }", "GROUP libc.so.6", "GROUP ( libc.so.6", "\x00\x01", "EXTERN(a)"])
def test_a_script_that_says_more_than_a_list_of_libraries_is_refused_by_name(text: str) -> None:
    with pytest.raises(BuildFailedError, match=r"libodd\.so"):
        read_script(text, "/usr/lib/libodd.so")


@given(text=st.text(st.sampled_from('GROUPINTA_SED()"=-l/ .so\n*'), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_script(text, "libx.so")
    except BuildFailedError as error:
        assert "libx.so" in error.what


def test_a_library_that_is_not_there_any_more_is_named() -> None:
    with pytest.raises(BuildFailedError, match="-lgone"):
        resolved(["-L/nowhere", "-lgone"], find)


def test_a_library_is_taken_where_the_linker_takes_it(tmp_path: Path) -> None:
    for name in ("first/libone.a", "second/libone.so", "second/libtwo.a", "second/libtwo.so", "first/exact.so.3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"!<arch>\n")
    first, second = f"-L{tmp_path}/first", f"-L{tmp_path}/second"
    words = resolved(
        [first, "-lone", "-Bstatic", "-ltwo", "-Bdynamic", "-ltwo", "-l:exact.so.3", second, "-z", "now"], find
    )
    names = [os.path.relpath(word.name, tmp_path) if isinstance(word, LinkFile) else word for word in words]
    assert names == [
        LINKER, "first/libone.a", "-Bstatic", "second/libtwo.a", "-Bdynamic", "second/libtwo.so", "first/exact.so.3",
        "-z", "now",
    ]  # fmt: skip


def test_what_the_linker_would_write_on_the_machine_of_the_build_is_left_out() -> None:
    words = ["-Map", "/home/me/a.map", "-Map=/home/me/b.map", "--dependency-file=/home/me/c.d", "-z", "now"]
    assert resolved(words, find) == (LINKER, "-z", "now")


def test_a_script_that_names_a_script_is_followed_and_one_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "libouter.so").write_text("INPUT(inner.so)")
    (tmp_path / "inner.so").write_text("INPUT(real.so -lreal)")
    for name in ("real.so", "libreal.a"):
        (tmp_path / name).write_bytes(b"!<arch>\n")
    words = resolved([f"-L{tmp_path}", "-louter"], find)
    named = [Path(word.name).name for word in words if isinstance(word, LinkFile)]
    assert named == ["real.so", "libreal.a"]
    for text in ("INPUT(inner.so)", "INPUT(-louter)"):
        (tmp_path / "inner.so").write_text(text)
        with pytest.raises(BuildFailedError, match="leads to itself"):
            resolved([f"-L{tmp_path}", "-louter"], find)


# ---- real links


class Link:
    """A small server with an adapter, linked by gcc: its directory, and the driver's words."""

    def __init__(self, directory: Path, compiler: str = "gcc") -> None:
        self.directory = directory
        for name, text in {
            "main.c": MAIN,
            "odd.c": "int even(int); int odd(void) { return even(3); }",
            "even.c": "int even(int x) { return x + 1; }",
            "unused.c": "int unused(void) { return no_such(); }",
            "kept.c": "int kept = 7; __attribute__((constructor)) static void here(void) { kept++; }",
            "adapter.c": "int adapter(void) { return 5; }",
        }.items():
            (directory / name).write_text(text)
            process.run([compiler, "-w", "-fPIC", "-c", name], cwd=directory)
        (directory / "third_party").mkdir()
        library = "third_party/lib_tf_adapter.so"
        process.run([compiler, "-shared", "-Wl,-soname,_tf_adapter.so", "-o", library, "adapter.o"], cwd=directory)
        (directory / "third_party/needed_symbols.lds").write_text("EXTERN(even)\n")
        groups = ["--start-lib", "odd.o", "unused.o", "--end-lib", "--start-lib", "even.o", "--end-lib"]
        rest = ["-whole-archive", "kept.o", "-no-whole-archive", "-lm", "-lpthread"]
        self.parameters = ["main.o", *groups, "-l_tf_adapter", *rest]
        (directory / "a.params").write_text("\n".join(self.parameters) + "\n")
        self.command = [
            compiler, "-o", "out", "-Lthird_party", "-Wl,-rpath,$ORIGIN/third_party",
            "-Wl,third_party/needed_symbols.lds", "-Wl,-z,relro,-z,now", "-Wl,@a.params",
        ]  # fmt: skip

    def find(self, names: Sequence[str]) -> dict[str, Path]:
        return {name: self.directory / name for name in names if (self.directory / name).is_file()}

    def words(self, linker: str) -> tuple[str, ...]:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        shown = process.run([*self.command, f"-fuse-ld={linker}", "-###"], cwd=self.directory, env=environment).stderr
        return linker_words(shown, "a.params", self.parameters)

    def of_kit(self, linker: str) -> KitLink:
        words = self.words(linker)
        replaced = ("third_party/lib_tf_adapter.so", "third_party/needed_symbols.lds")
        needed = needed_libraries(["libc.so.6"], words, self.find)
        return kit_link(resolved(words, self.find), replaced=replaced, digests={}, needed=needed)

    def unpacked(self, link: KitLink, directory: Path) -> Path:
        for member in link.members:
            target = directory / member.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(member.pieces()))
        (directory / "adapter").mkdir()
        for name in link.adapter_files.values():
            shutil.copy(self.directory / "third_party" / Path(name).name, directory / name)
        return directory


@pytest.fixture
def link(tmp_path: Path) -> Link:
    directory = tmp_path / "build"
    directory.mkdir()
    return Link(directory)


def linked(command: Sequence[str], linker: str, output: Path, directory: Path) -> Path:
    named = {LINKER: f"ld.{linker}", OUTPUT: str(output)}
    process.run([named.get(word, word) for word in command], cwd=directory)
    return output


@needs_gcc
@pytest.mark.parametrize("linker", [name for name in LINKERS if name != "bfd"])
def test_the_words_alone_make_the_bytes_that_the_driver_makes(link: Link, linker: str, tmp_path: Path) -> None:
    process.run([*link.command, f"-fuse-ld={linker}"], cwd=link.directory)
    words = [
        word if isinstance(word, str) else word.option + word.name for word in resolved(link.words(linker), link.find)
    ]
    again = linked(words, linker, tmp_path / "again", link.directory)
    assert again.read_bytes() == (link.directory / "out").read_bytes()


@needs_gcc
@pytest.mark.parametrize("linker", LINKERS)
def test_each_linker_makes_a_program_from_the_kit_once_the_build_is_gone(
    link: Link, linker: str, tmp_path: Path
) -> None:
    kit = link.of_kit("gold")
    directory = link.unpacked(kit, tmp_path / "kit")
    shutil.rmtree(link.directory)
    (tmp_path / "bin").mkdir()
    program = linked(kit.command, linker, tmp_path / "bin" / "program", directory)
    shutil.copytree(directory / "adapter", tmp_path / "bin" / "third_party")
    adapter = tmp_path / "bin" / "third_party"
    (adapter / "lib_tf_adapter.so").rename(adapter / "_tf_adapter.so")
    assert process.run([program]).stdout == "4 5 1.414\n"


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs aarch64-linux-gnu-gcc")
@pytest.mark.parametrize("linker", ["aarch64-linux-gnu-ld.bfd", "aarch64-linux-gnu-ld.gold", "ld.lld"])
def test_a_program_for_aarch64_is_linked_from_its_kit_by_cross_linkers(tmp_path: Path, linker: str) -> None:
    if shutil.which(linker) is None:
        pytest.skip(f"needs {linker}")
    (tmp_path / "build").mkdir()
    link = Link(tmp_path / "build", "aarch64-linux-gnu-gcc")
    kit = link.of_kit("bfd")
    directory = link.unpacked(kit, tmp_path / "kit")
    shutil.rmtree(link.directory)
    named = {LINKER: linker, OUTPUT: str(tmp_path / "program")}
    process.run([named.get(word, word) for word in kit.command], cwd=directory)
    program = read_elf(tmp_path / "program")
    assert program.machine == "aarch64"
    assert {"_tf_adapter.so", "libc.so.6", "libm.so.6"} <= set(program.needed)
    if shutil.which("qemu-aarch64-static") is not None:
        adapter = directory / "adapter" / "lib_tf_adapter.so"
        (tmp_path / "third_party").mkdir()
        shutil.copy(adapter, tmp_path / "third_party" / "_tf_adapter.so")
        started = process.run(["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", tmp_path / "program"])
        assert started.stdout == "4 5 1.414\n"


@needs_gcc
def test_no_word_of_the_kit_names_a_path_of_the_machine_or_asks_it_for_a_library(link: Link) -> None:
    kit = link.of_kit("gold")
    loader = kit.command.index("-dynamic-linker") + 1
    paths = [word for at, word in enumerate(kit.command) if word.startswith("/") and at != loader]
    assert not paths
    assert [word for word in kit.command if word.startswith(("-l", "-L"))] == ["-Ladapter", "-l_tf_adapter"]
    assert str(link.directory) not in repr(kit.command)
    assert kit.adapter_files == {"adapter": "adapter/lib_tf_adapter.so", "needed_symbols": "adapter/needed_symbols.lds"}
    assert {"system/libc.so.6", "system/libm.so.6"} <= {member.path for member in kit.members}


@needs_gcc
def test_an_object_that_changed_since_the_link_is_refused_by_name(link: Link) -> None:
    words = resolved(link.words("gold"), link.find)
    kit = kit_link(words, replaced=(), digests={"odd.o": "0" * 64}, needed={})
    changed = [member for member in kit.members if "0" * 64 in member.digests]
    assert len(changed) == 1
    with pytest.raises(SourceError, match=r"odd\.o"):
        list(changed[0].pieces())


@needs_gcc
def test_groups_of_one_directory_get_names_of_their_own(link: Link) -> None:
    archives = [member for member in link.of_kit("gold").members if member.is_archive]
    assert [len(member.sources) for member in archives] == [2, 1]
    assert len({member.path for member in archives}) == 2
