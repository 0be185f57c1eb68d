from __future__ import annotations

import os
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from elf_samples import big_endian, for_aarch64, library, needs_gcc, program, without_sections
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_D_TAG
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving import process
from npu_serving.elf.symbols import ElfFile, Symbol, read_elf
from npu_serving.errors import ElfError, FileAccessError

REAL = [
    path
    for pattern in ("libc.so.6", "libstdc++.so.6", "libm.so.6", "libcrypto.so*", "ld-linux-*.so.*")
    for path in sorted(Path("/usr/lib").glob(f"*-linux-gnu/{pattern}"))[:1]
] + [path for path in (Path("/bin/bash"), Path("/bin/ls")) if path.exists()]
HUGE = sorted(Path("/usr/lib").glob("*-linux-gnu/libLLVM-*.so.1"))[:1]
REAL_AND_HUGE = [*REAL, *(pytest.param(path, marks=pytest.mark.long) for path in HUGE)]

ENUM_D_TAG_NAMES = {value: name for name, value in ENUM_D_TAG.items()}
SOURCE = """
__attribute__((weak)) int weak_one(void) { return 1; }
__thread int per_thread = 3;
__attribute__((visibility("hidden"))) int hidden_one(void) { return 2; }
__attribute__((visibility("protected"))) int protected_one(void) { return 2; }
static int local_one(void) { return 4; }
int data = 7;
extern int needed_function(void);
extern int needed_data;
__attribute__((weak)) extern int needed_weakly(void);
int plain(void) { return hidden_one() + local_one() + needed_function() + needed_data + (needed_weakly ? 1 : 0); }
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("elf"), "libsample.so.1", SOURCE, "-Wl,-rpath,$ORIGIN/x", "-Wl,--build-id")


def names_by_nm(path: Path, which: str) -> set[str]:
    """What nm lists; it writes the symbol that stands for a version, V_1@@V_1, as V_1."""
    lines = process.run(["nm", "-D", which, path]).stdout.splitlines()
    return {line.split()[-1] for line in lines}


def as_nm_writes(symbol: Symbol) -> str:
    return symbol.name if symbol.name == symbol.version else symbol.versioned_name


@pytest.mark.parametrize("path", REAL_AND_HUGE, ids=lambda path: path.name)
def test_the_symbols_of_real_libraries_are_those_that_nm_lists(path: Path) -> None:
    elf = read_elf(path)
    assert {as_nm_writes(symbol) for symbol in elf.defined} == names_by_nm(path, "--defined-only")
    assert {symbol.versioned_name for symbol in elf.undefined} == names_by_nm(path, "--undefined-only")
    assert elf.defined_names == {symbol.name for symbol in elf.defined}


@pytest.mark.parametrize("path", REAL_AND_HUGE, ids=lambda path: path.name)
def test_names_versions_and_build_id_are_those_that_pyelftools_reads(path: Path) -> None:
    elf = read_elf(path)
    with path.open("rb") as file:
        oracle: Any = ELFFile(file)
        dynamic = list(oracle.get_section_by_name(".dynamic").iter_tags())
        assert list(elf.needed) == [tag.needed for tag in dynamic if tag.entry.d_tag == "DT_NEEDED"]
        assert elf.soname == next((tag.soname for tag in dynamic if tag.entry.d_tag == "DT_SONAME"), None)
        assert elf.runpath == next((tag.runpath for tag in dynamic if tag.entry.d_tag == "DT_RUNPATH"), None)
        notes = [note for section in oracle.iter_sections("SHT_NOTE") for note in section.iter_notes()]
        assert elf.build_id == next((note.n_desc for note in notes if note.n_type == "NT_GNU_BUILD_ID"), None)
        section = oracle.get_section_by_name(".gnu.version_r")
        needs = (
            [(need.name, [entry.name for entry in entries]) for need, entries in section.iter_versions()]
            if section
            else []
        )
        assert [(need.library, [item.name for item in need.versions]) for need in elf.version_needs] == needs
        section = oracle.get_section_by_name(".gnu.version_d")
        defined = {next(names).name for _, names in section.iter_versions()} if section else set()
        assert {item.name for item in elf.version_definitions} == defined
        assert elf.machine == {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}[oracle.header.e_machine]
        interpreter = next((s.get_interp_name() for s in oracle.iter_segments("PT_INTERP")), None)
        assert elf.interpreter == interpreter


@pytest.mark.parametrize("path", REAL_AND_HUGE, ids=lambda path: path.name)
def test_a_file_without_section_headers_reads_the_same(path: Path, tmp_path: Path) -> None:
    whole, bare = read_elf(path), read_elf(without_sections(path, tmp_path / "bare"))
    assert bare.defined == whole.defined
    assert bare.undefined == whole.undefined
    assert (bare.soname, bare.needed, bare.build_id) == (whole.soname, whole.needed, whole.build_id)


@needs_gcc
def test_binding_type_and_visibility_decide_what_others_can_bind_to(sample: Path) -> None:
    elf = read_elf(sample)
    defined = {symbol.name: symbol for symbol in elf.defined}
    assert set(defined) >= {"weak_one", "per_thread", "protected_one", "data", "plain"}
    assert not {"hidden_one", "local_one"} & set(defined)
    assert defined["weak_one"].binding == "WEAK"
    assert defined["per_thread"].type == "TLS"
    assert (defined["data"].type, defined["data"].size) == ("OBJECT", 4)
    undefined = {symbol.name: symbol for symbol in elf.undefined}
    assert undefined["needed_weakly"].is_weak
    assert not undefined["needed_function"].is_weak
    assert not undefined["needed_data"].is_weak


@needs_gcc
def test_soname_runpath_and_build_id_are_read(sample: Path) -> None:
    elf = read_elf(sample)
    assert (elf.soname, elf.type) == ("libsample.so.1", "DYN")
    assert "$ORIGIN/x" in (elf.runpath, elf.rpath)
    assert elf.build_id
    assert elf.build_id in process.run(["readelf", "-n", sample]).stdout


@needs_gcc
@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_the_number_of_symbols_is_found_with_every_kind_of_hash_table(style: str, tmp_path: Path) -> None:
    path = library(tmp_path, "libx.so", SOURCE, f"-Wl,--hash-style={style}")
    assert {symbol.name for symbol in read_elf(path).defined} >= {"plain", "data"}
    source = 'int puts(const char*); int main(void) { return puts("x"); }'
    # Without PIE nothing of the program is exported, and GNU ld leaves the table of DT_GNU_HASH empty.
    nothing_exported = program(tmp_path, "main", source, f"-Wl,--hash-style={style}", "-no-pie")
    assert "puts" in {symbol.name for symbol in read_elf(nothing_exported).undefined}


@needs_gcc
def test_versions_of_definitions_and_needs_are_told_apart(tmp_path: Path) -> None:
    source = """
    __asm__(".symver old_f,f@V_1"); int old_f(void) { return 1; }
    __asm__(".symver new_f,f@@V_2"); int new_f(void) { return 2; }
    int g(void) { return 3; }
    __asm__(".symver older,only@V_1"); int older(void) { return 4; }
    __asm__(".symver newer,late@V_2"); int newer(void) { return 5; }
    """
    provider = library(
        tmp_path, "libv.so.1", source, versions="V_1 { global: f; g; only; local: *; }; V_2 { global: f; late; } V_1;"
    )
    elf = read_elf(provider)
    assert {symbol.versioned_name for symbol in elf.defined} >= {"f@V_1", "f@@V_2", "g@@V_1"}
    assert elf.provided_versions == {"V_1", "V_2"}
    user = read_elf(library(tmp_path, "libu.so", "int f(void); int h(void) { return f(); }", against=[provider]))
    wanted = next(symbol for symbol in user.undefined if symbol.name == "f")
    assert (wanted.version, wanted.library) == ("V_2", "libv.so.1")
    assert elf.defines("f", "V_2")
    assert elf.defines("f", "V_1")
    assert not elf.defines("f", "V_3")
    assert not elf.defines("g", "V_2")
    assert elf.defines("f")
    assert elf.defines("only"), "the oldest version serves a reference without one, default or not"
    assert not elf.defines("late")
    assert not elf.defines("h")
    assert read_elf(tmp_path / "libu.so").defines("h", "V_9"), "a library without versions satisfies any reference"


@needs_gcc
def test_a_name_that_is_not_ascii_is_read_as_written(tmp_path: Path) -> None:
    path = library(tmp_path, "libü.so", '__asm__(".globl größe; größe: .byte 0; .type größe,@object; .size größe,1");')
    elf = read_elf(path)
    assert elf.soname == "libü.so"
    assert elf.defines("größe")


@needs_gcc
def test_the_machine_is_named(sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.so"
    copy.write_bytes(sample.read_bytes())
    assert read_elf(for_aarch64(copy)).machine == "aarch64"
    data = bytearray(sample.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    copy.write_bytes(data)
    assert read_elf(copy).machine == "unknown-243"


@needs_gcc
def test_a_static_program_has_no_needs_and_no_symbols(tmp_path: Path) -> None:
    path = program(tmp_path, "alone", "void _start(void) { for (;;); }", "-static", "-nostdlib")
    elf = read_elf(path)
    assert (elf.type, elf.needed, elf.defined, elf.undefined) == ("EXEC", (), (), ())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"\x7fELF", "damaged"),
        (b"\x7fELF\x01\x01" + bytes(80), "not a 64-bit"),
        (b"\x7fELF\x02\x03" + bytes(80), "unknown byte order"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(content)
    with pytest.raises(ElfError, match=said) as caught:
        read_elf(path)
    assert str(path) in caught.value.what


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="not a regular file"):
        read_elf(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ElfError, match="not a regular file"):
        read_elf(tmp_path / "pipe")
    with pytest.raises(FileAccessError):
        read_elf(tmp_path / "missing")


def everything(elf: ElfFile) -> None:
    assert len(elf.defined) >= len(elf.defined_names)
    for symbol in elf.undefined:
        elf.defines(symbol.name, symbol.version)
    for symbol in elf.defined[:50]:
        elf.definitions(symbol.name)
    assert len(tuple(elf.copied_symbols())) == len(elf.references.copied)


@needs_gcc
def test_a_file_that_was_cut_short_anywhere_is_an_error_not_a_crash(sample: Path, tmp_path: Path) -> None:
    data = sample.read_bytes()
    copy = tmp_path / "cut.so"
    for size in range(4, len(data), 97):
        copy.write_bytes(data[:size])
        try:
            everything(read_elf(copy))
        except ElfError as error:
            assert str(copy) in error.what


@needs_gcc
@settings(max_examples=examples(60, 100_000))
@given(data=st.data())
def test_no_damage_to_a_library_gives_anything_but_an_elf_error(data: st.DataObject, sample: Path) -> None:
    content = bytearray(sample.read_bytes())
    tables = ELFFile(sample.open("rb"))
    interesting = [(0, 64 + 56 * tables.header.e_phnum)] + [
        (section["sh_offset"], section["sh_size"])
        for section in tables.iter_sections()
        if section.name.startswith((".dyn", ".gnu", ".note", ".hash", ".rela"))
    ]
    tables.close()
    for _ in range(data.draw(st.integers(1, 6))):
        start, size = data.draw(st.sampled_from([item for item in interesting if item[1]]))
        at = start + data.draw(st.integers(0, size - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    copy = sample.with_name("damaged.so")
    copy.write_bytes(content)
    try:
        everything(read_elf(copy))
    except ElfError as error:
        assert str(copy) in error.what


@settings(max_examples=examples(15, 10_000))
@given(data=st.data())
@pytest.mark.parametrize("path", [path for path in REAL if path.stat().st_size < 1 << 20], ids=lambda path: path.name)
def test_no_damage_to_a_real_file_gives_anything_but_an_elf_error(
    path: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        limit = data.draw(st.sampled_from([64, 0x400, 0x4000, len(content)]))  # headers and tables stand in front
        at = data.draw(st.integers(0, min(limit, len(content)) - 1))
        wild = data.draw(
            st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 3]) | st.binary(min_size=1, max_size=8)
        )
        content[at : at + len(wild)] = wild
    cut = data.draw(st.sampled_from([len(content)] * 9 + [data.draw(st.integers(0, len(content)))]))
    copy = tmp_path_factory.getbasetemp() / "damaged-real.so"
    copy.write_bytes(content[:cut])
    try:
        everything(read_elf(copy))
    except ElfError as error:
        assert str(copy) in error.what


def test_looking_up_the_same_symbol_for_ever_does_not_use_up_its_name() -> None:
    elf = read_elf(next(path for path in REAL if path.name == "libm.so.6"))
    for _ in range(5_000):
        assert elf.definition("sincos") is not None


@needs_gcc
def test_symbols_that_all_share_one_huge_name_do_not_fill_the_memory(tmp_path: Path) -> None:
    functions = "".join(f"int f{number}(void) {{ return 0; }}" for number in range(3000))
    path = library(tmp_path, "libmany.so", functions)
    with path.open("rb") as file:
        oracle: Any = ELFFile(file)
        section = oracle.get_section_by_name(".dynstr")
        strings = (section["sh_offset"], section["sh_size"])
        table = oracle.get_section_by_name(".dynsym")
        symbols = (table["sh_offset"], table.num_symbols())
    data = bytearray(path.read_bytes())
    data[strings[0] : strings[0] + strings[1] - 1] = b"x" * (strings[1] - 1)
    for number in range(symbols[1]):
        struct.pack_into("<I", data, symbols[0] + 24 * number, number)
    path.write_bytes(data)
    with pytest.raises(ElfError, match="overlap"):
        len(read_elf(path).defined_names)


@needs_gcc
def test_a_definition_that_is_marked_hidden_in_the_table_binds_nothing(sample: Path, tmp_path: Path) -> None:
    data = bytearray(sample.read_bytes())
    with sample.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".dynsym")
        number = next(number for number, symbol in enumerate(table.iter_symbols()) if symbol.name == "plain")
        data[table["sh_offset"] + 24 * number + 5] = 2  # STV_HIDDEN
    (tmp_path / "hidden.so").write_bytes(data)
    assert read_elf(sample).defines("plain")
    assert not read_elf(tmp_path / "hidden.so").defines("plain")


@needs_gcc
def test_a_table_of_versions_whose_records_overlap_is_damaged(tmp_path: Path) -> None:
    path = library(tmp_path, "libx.so", 'int puts(const char *); void f(void) { puts(""); }')
    with path.open("rb") as file:
        section: Any = ELFFile(file).get_section_by_name(".gnu.version_r")
        at = section["sh_offset"]
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, at + 12, 1)  # vn_next
    path.write_bytes(data)
    with pytest.raises(ElfError, match="overlaps itself"):
        read_elf(path)


VERSIONED = """
__asm__(".symver old_f,f@V_1"); int old_f(void) { return 1; }
__asm__(".symver new_f,f@@V_2"); int new_f(void) { return 2; }
extern int needed; int puts(const char *); int g(void) { return puts("") + needed; }
"""


@needs_gcc
@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_a_file_in_the_other_byte_order_reads_the_same(style: str, tmp_path: Path) -> None:
    versions = "V_1 { global: f; g; local: *; }; V_2 { global: f; } V_1;"
    path = library(tmp_path, "libv.so", VERSIONED, f"-Wl,--hash-style={style}", versions=versions)
    little, big = read_elf(path), read_elf(big_endian(path, tmp_path / "big.so"))
    assert (little.is_little_endian, big.is_little_endian) == (True, False)
    for name in ("machine", "soname", "needed", "build_id", "version_needs", "version_definitions", "defined"):
        assert getattr(big, name) == getattr(little, name)
    assert (big.undefined, big.references) == (little.undefined, little.references)
    for name, version in (("f", "V_1"), ("f", "V_2"), ("f", "V_3"), ("g", None), ("h", None)):
        assert big.defines(name, version) == little.defines(name, version)
    shown = process.run(["readelf", "--dyn-syms", "-W", tmp_path / "big.so"]).stdout
    assert {"f@V_1", "f@@V_2", "g@@V_1"} <= set(shown.split())


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs a cross compiler for aarch64")
@pytest.mark.parametrize("order", ["-mlittle-endian", "-mbig-endian"])
def test_what_is_compiled_for_aarch64_reads_as_readelf_shows_it(order: str, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("extern int needed; int f(void) { return needed; } __thread int t; int d = 1;")
    path = tmp_path / "libx.so"
    process.run(["aarch64-linux-gnu-gcc", order, "-nostdlib", "-shared", "-fPIC", "-o", path, tmp_path / "x.c"])
    elf = read_elf(path)
    assert (elf.machine, elf.is_little_endian) == ("aarch64", order == "-mlittle-endian")
    lines = [line.split() for line in process.run(["readelf", "--dyn-syms", "-W", path]).stdout.splitlines()]
    shown = [line for line in lines if len(line) == 8 and line[4] in ("GLOBAL", "WEAK")]
    assert {symbol.name for symbol in elf.undefined} == {line[7] for line in shown if line[6] == "UND"}
    assert {(symbol.name, symbol.size) for symbol in elf.defined} == {
        (line[7], int(line[2])) for line in shown if line[6] != "UND"
    }
    assert all(elf.defines(symbol.name) for symbol in elf.defined)


@pytest.mark.parametrize("path", REAL_AND_HUGE, ids=lambda path: path.name)
def test_the_hash_table_leads_to_every_symbol_that_the_table_holds_and_to_no_other(path: Path) -> None:
    elf = read_elf(path)
    assert all(elf.definition(symbol.name, symbol.version) is not None for symbol in elf.defined)
    assert all({item.name for item in elf.definitions(symbol.name)} == {symbol.name} for symbol in elf.defined[:500])
    assert not any(
        elf.defines(f"{symbol.name}_") and f"{symbol.name}_" not in elf.defined_names for symbol in elf.defined
    )


@pytest.mark.parametrize("path", REAL_AND_HUGE, ids=lambda path: path.name)
def test_the_symbols_that_relocations_name_are_those_that_pyelftools_reads(path: Path) -> None:
    references = read_elf(path).references
    with path.open("rb") as file:
        sections: dict[str, Any] = {section.name: section for section in ELFFile(file).iter_sections("SHT_RELA")}
        found = {
            name: {item["r_info_sym"] for item in sections[name].iter_relocations() if item["r_info_sym"]}
            for name in (".rela.dyn", ".rela.plt")
            if name in sections
        }
    everything = found.get(".rela.dyn", set()) | found.get(".rela.plt", set())
    assert (references.at_start | references.when_called) - {0} == everything
    assert references.at_start >= found.get(".rela.dyn", set())


@needs_gcc
def test_a_file_that_lacks_its_end_is_damaged_even_where_its_tables_are_whole(sample: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.so"
    with sample.open("rb") as file:
        end = max(item["p_offset"] + item["p_filesz"] for item in ELFFile(file).iter_segments("PT_LOAD"))
    cut.write_bytes(sample.read_bytes()[:end])
    assert read_elf(cut).soname == "libsample.so.1"
    cut.write_bytes(sample.read_bytes()[: end - 1])
    with pytest.raises(ElfError, match="its headers describe"):
        read_elf(cut)


@needs_gcc
@pytest.mark.parametrize("how", ["cut short", "overwritten", "made longer"])
def test_a_file_that_is_changed_while_it_is_read_is_an_error_at_any_moment(
    how: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample.read_bytes()
    changes = {"cut short": content[:100], "overwritten": bytes(len(content)), "made longer": content * 2}
    path = tmp_path / "libx.so"
    read = os.pread
    reads = 0
    moment = 0

    def interrupted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == moment:
            path.write_bytes(changes[how])
            os.utime(path, (1, 1))
        return read(descriptor, size, offset)

    monkeypatch.setattr("npu_serving.elf.elf_file.os.pread", interrupted)
    path.write_bytes(content)
    read_elf(path)
    for moment in range(1, reads + 1):  # noqa: B007 - interrupted() looks at it
        path.write_bytes(content)
        reads = 0
        with pytest.raises(ElfError, match="changed while it was being read"):
            read_elf(path)


@needs_gcc
def test_a_file_that_is_replaced_by_renaming_is_read_as_the_one_it_was(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libx.so"
    path.write_bytes(sample.read_bytes())
    (tmp_path / "new").write_text("something else")
    read = os.pread

    def interrupted(descriptor: int, size: int, offset: int) -> bytes:
        if (tmp_path / "new").exists():
            (tmp_path / "new").replace(path)
        return read(descriptor, size, offset)

    monkeypatch.setattr("npu_serving.elf.elf_file.os.pread", interrupted)
    assert read_elf(path).soname == "libsample.so.1"
    with pytest.raises(ElfError, match="not an ELF file"):
        read_elf(path)


@needs_gcc
@pytest.mark.parametrize("lie", [1 << 20, 1 << 31, (1 << 64) - 1])
@pytest.mark.parametrize("tag", [2, 8, 10, 0x6FFFFFF9])  # PLTRELSZ, RELASZ, STRSZ, RELACOUNT
def test_a_length_that_lies_costs_no_memory(tag: int, lie: int, sample: Path, tmp_path: Path) -> None:
    data = bytearray(sample.read_bytes())
    with sample.open("rb") as file:
        section: Any = ELFFile(file).get_section_by_name(".dynamic")
        for number, entry in enumerate(section.iter_tags()):
            if entry.entry.d_tag == ENUM_D_TAG_NAMES.get(tag) or entry.entry.d_tag == tag:
                struct.pack_into("<Q", data, section["sh_offset"] + 16 * number + 8, lie)
    data += bytes(16 << 20)  # room for what the lie promises, if only the segment's end is looked at
    (tmp_path / "lie.so").write_bytes(data)
    tracemalloc.start()
    try:
        everything(read_elf(tmp_path / "lie.so"))
    except ElfError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20
