"""What ends the loader whatever the symbols are, held against the real one; and what only looks as if it would."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving.elf.compat import check_server
from npu_serving.elf.loader import Host, plan_loading
from npu_serving.elf.loader_rules import LoaderRules, rules_of
from npu_serving.elf.processor import Processor, processor_of, this_processor
from npu_serving.elf.refusals import library_refusal, page_refusal
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf
from npu_serving.known_failures import SERVING, diagnose

pytestmark = needs_gcc

ADAPTER = "_tf_adapter.so"
NO_PIE = ("-no-pie", "-fno-pic")
only_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="it is this machine's processor that counts")


@dataclass
class Run:
    """How a server starts, and what is said of it before."""

    status: int
    said: str
    report: CompatReport

    def agrees(self, *kinds: str) -> str:
        """The text of a report that finds these errors, which the loader confirms."""
        assert self.report.kinds() == kinds, self.report.text()
        assert (self.status == 0) == (not kinds), self.said
        return self.report.text()


def start(server: Path, *path: Path, host: Host | None = None, **environ: str) -> Run:
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, path)), "LD_BIND_NOW": "1", **environ}
    run = subprocess.run([server], env=environment, check=False, capture_output=True, text=True)
    return Run(run.returncode, run.stderr, check_server(ServerCase(server, library_path=path, host=host or Host())))


def server(directory: Path, *flags: str, source: str = "int main(void) { return 0; }", adapter: str = "") -> Path:
    """A server beside its adapter, which it finds by LD_LIBRARY_PATH."""
    made = library(directory / "lib", ADAPTER, adapter or "int adapter;")
    return program(directory, "server", source, *flags, against=[made])


# ---- pages


def test_a_library_laid_out_for_smaller_pages_is_refused_and_linking_it_for_this_machines_helps(tmp_path: Path) -> None:
    main = server(tmp_path)
    small = ("-Wl,-z,max-page-size=0x400", "-Wl,-z,common-page-size=0x400")
    library(tmp_path / "lib", ADAPTER, "int adapter = 1; const int other = 2;", *small)
    run = start(main, tmp_path / "lib")
    text = run.agrees("library-unusable")
    assert "ELF load command address/offset not page-aligned" in text
    assert "laid out for pages of 1 KiB" in text
    page = os.sysconf("SC_PAGE_SIZE")
    assert f"-Wl,-z,max-page-size={page}" in text
    said_of_the_server = diagnose(SERVING, run.said)
    assert said_of_the_server is not None
    assert f"{ADAPTER} is laid out for smaller memory pages" in said_of_the_server.cause, "the same by what serve says"
    library(tmp_path / "lib", ADAPTER, "int adapter = 1; const int other = 2;", f"-Wl,-z,max-page-size={page}")
    start(main, tmp_path / "lib").agrees()


def test_a_library_whose_first_and_last_segment_share_a_page_is_refused(tmp_path: Path) -> None:
    main = server(tmp_path)
    small = ("-nostdlib", "-Wl,-z,max-page-size=0x400", "-Wl,-z,common-page-size=0x400", "-Wl,--hash-style=gnu")
    library(tmp_path / "lib", ADAPTER, "int adapter = 1;", *small)
    segments = read_elf(tmp_path / "lib" / ADAPTER).segments
    assert all(item.address == item.offset for item in segments), "where each lies in the file is not the reason"
    text = start(main, tmp_path / "lib").agrees("library-unusable")
    assert f"its first and its last segment within one page of {os.sysconf('SC_PAGE_SIZE') >> 10} KiB" in text
    page = os.sysconf("SC_PAGE_SIZE")
    assert f"-Wl,-z,max-page-size={page}" in text
    library(tmp_path / "lib", ADAPTER, "int adapter = 1;", "-nostdlib", f"-Wl,-z,max-page-size={page}")
    start(main, tmp_path / "lib").agrees()


def test_a_machine_with_larger_pages_refuses_what_this_one_takes(tmp_path: Path) -> None:
    main = server(tmp_path, "-Wl,-z,max-page-size=0x10000")
    library(tmp_path / "lib", ADAPTER, "int adapter = 1;", "-Wl,-z,max-page-size=0x1000", "-Wl,-z,noseparate-code")
    large = Host(processor=replace(this_processor(), page_bytes=64 << 10))
    report = check_server(ServerCase(main, library_path=[tmp_path / "lib"], host=large))
    found = [item for item in report.findings if item.where == ADAPTER]
    assert [item.kind for item in found] == ["library-unusable"]
    assert "memory has pages of 64 KiB" in report.text()
    assert "max-page-size=65536" in report.text()


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs aarch64-linux-gnu-gcc")
def test_a_server_for_aarch64_that_only_fits_small_pages_is_warned_of_wherever_it_is_checked(tmp_path: Path) -> None:
    if platform.machine() == "aarch64":
        pytest.skip("it is this machine")
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    for page, warned in (("0x1000", ("page-size",)), ("0x10000", ())):
        flags = [f"-Wl,-z,max-page-size={page}", f"-Wl,-z,common-page-size={page}"]
        command: list[str | Path] = ["aarch64-linux-gnu-gcc", "-o", tmp_path / "server", tmp_path / "main.c", *flags]
        subprocess.run(command, check=True)
        report = check_server(ServerCase(tmp_path / "server"))
        assert report.kinds() == ("other-machine",)
        assert report.kinds("warning") == warned, report.text()
        assert "KiB here" not in report.text(), "it is not this machine that has them"
        assert (page_refusal(read_elf(tmp_path / "server"), 64 << 10) is None) == (not warned)
        assert page_refusal(read_elf(tmp_path / "server"), 4 << 10) is None


def with_alignment(path: Path, alignment: int) -> Path:
    """The same file, whose segments ask for another alignment and lie where they lay."""
    data = bytearray(path.read_bytes())
    table, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    for at in range(table, table + 56 * count, 56):
        if struct.unpack_from("<I", data, at)[0] == 1:
            struct.pack_into("<Q", data, at + 48, alignment)
    path.write_bytes(data)
    return path


def test_an_alignment_below_a_page_is_refused_by_the_loaders_that_look_at_it_and_by_no_other(tmp_path: Path) -> None:
    main = server(tmp_path)
    elf = read_elf(with_alignment(tmp_path / "lib" / ADAPTER, 0x200))
    for rules in (LoaderRules(checks_alignment=True), LoaderRules(checks_alignment=False)):
        refusal = library_refusal(elf, this_processor(), rules)
        assert (refusal is not None) == rules.checks_alignment
    own = rules_of(read_elf(main).interpreter)
    start(main, tmp_path / "lib").agrees(*(["library-unusable"] if own.checks_alignment else []))


# ---- headers


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (6, 0, "ELF file version ident does not match"),
        (7, 9, "ELF file OS ABI invalid"),
        (7, 3, ""),
        (8, 1, "ELF file ABI version invalid"),
        (9, 1, "nonzero padding in e_ident"),
        (15, 255, "nonzero padding in e_ident"),
        (20, 2, "ELF file version does not match"),
    ],
)
def test_a_header_that_the_loader_refuses_is_refused_with_its_words(
    at: int, value: int, said: str, tmp_path: Path
) -> None:
    main = server(tmp_path)
    path = tmp_path / "lib" / ADAPTER
    good = path.read_bytes()
    path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
    run = start(main, tmp_path / "lib")
    text = run.agrees(*(["library-unusable"] if said else []))
    assert said in text
    assert said in run.said
    assert not said or ("put the original file" in text and str(path) in text)
    path.write_bytes(good)
    start(main, tmp_path / "lib").agrees()


def test_an_abi_version_of_gnu_is_taken_up_to_the_newest_that_the_loader_knows(tmp_path: Path) -> None:
    main = server(tmp_path)
    path = tmp_path / "lib" / ADAPTER
    good = path.read_bytes()
    for version in range(6):
        path.write_bytes(good[:7] + bytes([3, version]) + good[9:])
        run = start(main, tmp_path / "lib")
        assert run.report.ok == (run.status == 0), version


def test_the_kernel_asks_the_program_itself_for_less(tmp_path: Path) -> None:
    main = server(tmp_path)
    good = main.read_bytes()
    for at, value in ((6, 2), (7, 9), (8, 1), (9, 1), (20, 2)):
        main.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
        start(main, tmp_path / "lib").agrees()


# ---- the loader


def test_a_program_without_a_loader_is_refused(tmp_path: Path) -> None:
    main = server(tmp_path, "-Wl,--no-dynamic-linker")
    text = start(main, tmp_path / "lib").agrees("no-interpreter")
    assert "PT_INTERP" in text
    assert "build-serving" in text


def test_a_program_whose_loader_is_missing_is_refused_and_starts_once_it_is_there(tmp_path: Path) -> None:
    loader = tmp_path / "elsewhere" / "ld.so"
    main = server(tmp_path, f"-Wl,-dynamic-linker,{loader}")
    report = check_server(ServerCase(main, library_path=[tmp_path / "lib"]))
    assert report.kinds() == ("no-interpreter",)
    assert f"install the C library that has {loader}" in report.text()
    with pytest.raises(FileNotFoundError):
        start(main, tmp_path / "lib")
    loader.parent.mkdir()
    real = read_elf(Path(shutil.which("true") or "/bin/true")).interpreter
    assert real is not None
    shutil.copy(real, loader)
    loader.chmod(0o644)
    assert "may not be run" in check_server(ServerCase(main, library_path=[tmp_path / "lib"])).text()
    loader.chmod(0o755)
    start(main, tmp_path / "lib").agrees()


# ---- copied variables


@pytest.mark.parametrize("version", [None, "V_1 { global: *; };"])
def test_a_copied_variable_that_its_library_lost_is_refused_and_linking_again_helps(
    version: str | None, tmp_path: Path
) -> None:
    adapter = library(tmp_path / "lib", ADAPTER, "int adapter;")
    data = library(tmp_path / "lib", "libdata.so", "int table[4] = {1}; int other;", versions=version)
    source = "extern int table[]; int main(void) { return table[0] - 1; }"
    main = program(tmp_path, "server", source, *NO_PIE, against=[adapter, data])
    start(main, tmp_path / "lib").agrees()
    library(tmp_path / "lib", "libdata.so", "int other;", versions=version)
    run = start(main, tmp_path / "lib")
    text = run.agrees("copy-lost")
    assert "undefined symbol: table" in run.said
    assert "table" in text
    assert "rebuild-after-cann" in text
    if version:
        assert "table@V_1, once in libdata.so" in text
    program(
        tmp_path,
        "server",
        "int table[1] = {1};" + source.replace("extern int table[];", ""),
        *NO_PIE,
        against=[adapter, data],
    )
    start(main, tmp_path / "lib").agrees()


def test_a_copied_variable_of_a_library_that_is_missing_is_not_said_to_be_lost(tmp_path: Path) -> None:
    adapter = library(tmp_path / "lib", ADAPTER, "int adapter;")
    data = library(tmp_path / "lib", "libdata.so", "int table[4] = {1};")
    source = "extern int table[]; int main(void) { return table[0] - 1; }"
    main = program(tmp_path, "server", source, *NO_PIE, against=[adapter, data])
    data.unlink()
    run = start(main, tmp_path / "lib")
    run.agrees("library-not-found")
    assert run.report.kinds("warning") == ("copy-lost",)


def test_a_weak_copied_variable_may_be_lost(tmp_path: Path) -> None:
    adapter = library(tmp_path / "lib", ADAPTER, "int adapter;")
    data = library(tmp_path / "lib", "libdata.so", "int table[4] = {1}; int other;")
    source = "__attribute__((weak)) extern int table[]; int main(void) { return table[0] > 1; }"
    main = program(tmp_path, "server", source, *NO_PIE, against=[adapter, data])
    library(tmp_path / "lib", "libdata.so", "int other;")
    run = start(main, tmp_path / "lib")
    assert run.report.ok == (run.status == 0), run.said


# ---- processors


@only_x86
@pytest.mark.parametrize("level", ["", "x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_a_library_marked_for_a_newer_processor_is_refused_where_the_loader_refuses_it(
    level: str, tmp_path: Path
) -> None:
    main = server(tmp_path)
    library(tmp_path / "lib", ADAPTER, "int adapter;", *([f"-Wl,-z,{level}"] if level else []))
    run = start(main, tmp_path / "lib")
    assert run.report.ok == (run.status == 0), run.said + run.report.text()
    old = Host(processor=Processor(this_processor().page_bytes))
    report = check_server(ServerCase(main, library_path=[tmp_path / "lib"], host=old))
    assert report.kinds() == (("other-processor",) if level else ())
    if not report.ok:
        assert level in report.text()
        assert "CPU ISA level is lower than required" in report.text()
        assert "the x86-64 baseline" in report.text()


@only_x86
def test_a_loader_that_knows_no_levels_takes_a_library_whatever_its_mark(tmp_path: Path) -> None:
    main = server(tmp_path)
    library(tmp_path / "lib", ADAPTER, "int adapter;", "-Wl,-z,x86-64-v4")
    old = Host(processor=Processor(this_processor().page_bytes), rules=LoaderRules(checks_levels=False))
    assert check_server(ServerCase(main, library_path=[tmp_path / "lib"], host=old)).ok


FLAGS = "flags : fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe"
V4 = "avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("text", "machine", "levels"),
    [
        ("", "x86_64", ()),
        ("flags : fpu pni", "x86_64", ()),
        (FLAGS, "x86_64", ("x86-64-v2",)),
        (f"{FLAGS} {V3}", "x86_64", ("x86-64-v3", "x86-64-v2")),
        (f"{FLAGS} {V4}", "x86_64", ("x86-64-v2",)),
        (f"{FLAGS} {V3} {V4}", "x86_64", ("x86-64-v4", "x86-64-v3", "x86-64-v2")),
        ("Features : fp asimd atomics", "aarch64", ()),
    ],
)
def test_the_levels_of_a_processor_are_read_from_what_the_kernel_says_of_it(
    text: str, machine: str, levels: tuple[str, ...]
) -> None:
    assert processor_of(f"processor : 0\n{text}\n", machine, 4096).levels == levels


def test_the_levels_of_this_processor_are_those_that_its_loader_names(tmp_path: Path) -> None:
    interpreter = read_elf(server(tmp_path)).interpreter
    assert interpreter is not None
    said = subprocess.run([interpreter, "--help"], check=False, capture_output=True, text=True).stdout
    if "glibc-hwcaps" not in said:
        pytest.skip("needs the loader of glibc 2.33")
    theirs = [line.split()[0] for line in said.splitlines() if line.startswith("  x86-64-v") and "supported" in line]
    assert list(this_processor().levels) == theirs


# ---- copies for special processors


def directories_for_this_processor(main: Path) -> list[str]:
    rules = rules_of(read_elf(main).interpreter)
    return [name for name in Host().subdirectories(rules) if name.count("/") < 2]


def test_the_subdirectories_for_special_processors_are_those_that_the_loader_looks_into(tmp_path: Path) -> None:
    main = server(tmp_path)
    said = subprocess.run(
        [main],
        env={"LD_LIBRARY_PATH": f"{tmp_path}/lib", "LD_DEBUG": "libs"},
        check=False,
        capture_output=True,
        text=True,
    ).stderr
    searched = next(line for line in said.splitlines() if "search path=" in line)
    theirs = [
        path.split()[0].removeprefix(f"{tmp_path}/lib").strip("/") for path in searched.partition("=")[2].split(":")
    ]
    ours = [*Host().subdirectories(rules_of(read_elf(main).interpreter)), ""]
    assert ours == list(dict.fromkeys(theirs))


def test_a_copy_for_this_processor_that_lacks_a_symbol_is_refused_by_its_path_and_removing_it_helps(
    tmp_path: Path,
) -> None:
    main = server(
        tmp_path, source="int call(void); int main(void) { return call(); }", adapter="int call(void) { return 0; }"
    )
    names = directories_for_this_processor(main)
    assert names
    for name in names:
        copy = library(tmp_path / "lib" / name, ADAPTER, "int other;")
        text = start(main, tmp_path / "lib").agrees("undefined-symbol")
        report = check_server(ServerCase(main, library_path=[tmp_path / "lib"]))
        assert report.adapter == copy
        assert "call" in text
        plain = tmp_path / "lib" / ADAPTER
        assert f"remove {copy}, which the loader prefers to {plain} on this processor" in text
        copy.unlink()
        start(main, tmp_path / "lib").agrees()


def test_what_only_a_library_that_can_not_be_used_may_define_is_cured_by_mending_that_library(tmp_path: Path) -> None:
    other = library(tmp_path / "lib", "libother.so", "int other(void) { return 0; }")
    calls = "int other(void); int call(void) { return other(); }"
    adapter = library(tmp_path / "lib", ADAPTER, calls, against=[other])
    main = program(tmp_path, "server", "int main(void) { return 0; }", "-Wl,--no-as-needed", against=[adapter])
    damaged = bytearray(other.read_bytes())
    damaged[9] = 1
    other.write_bytes(damaged)
    start(main, tmp_path / "lib").agrees("library-unusable")
    report = check_server(ServerCase(main, library_path=[tmp_path / "lib"]))
    (unclear,) = [finding for finding in report.findings if finding.kind == "cannot-tell"]
    assert "a library that can't be used may define them: libother.so" in unclear.what
    assert "missing" not in unclear.what
    assert "on a machine that has those libraries" not in unclear.cure
    other.unlink()
    (unclear,) = [
        finding
        for finding in check_server(ServerCase(main, library_path=[tmp_path / "lib"])).findings
        if finding.kind == "cannot-tell"
    ]
    assert "a library that is missing here may define them: libother.so" in unclear.what


def test_a_library_that_is_only_in_a_directory_for_this_processor_is_found(tmp_path: Path) -> None:
    main = server(tmp_path)
    for name in directories_for_this_processor(main):
        (tmp_path / "moved" / name).mkdir(parents=True)
        shutil.copy(tmp_path / "lib" / ADAPTER, tmp_path / "moved" / name)
        run = start(main, tmp_path / "moved")
        run.agrees()
        assert run.report.adapter == tmp_path / "moved" / name / ADAPTER
        shutil.rmtree(tmp_path / "moved")


@only_x86
@pytest.mark.skipif(shutil.which("ldconfig", path="/sbin:/usr/sbin") is None, reason="needs ldconfig")
def test_the_cache_gives_the_copy_for_the_best_level_that_the_processor_has(tmp_path: Path) -> None:
    for name in ("", "glibc-hwcaps/x86-64-v2", "glibc-hwcaps/x86-64-v3", "tls", "haswell"):
        library(tmp_path / "lib" / name, "libdeep.so.1", "int x;")
    (tmp_path / "conf").write_text(f"{tmp_path}/lib\n")
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin") or ""
    subprocess.run(
        [ldconfig, "-X", "-C", tmp_path / "cache", "-f", tmp_path / "conf", "-c", "new"],
        check=True,
        capture_output=True,
    )
    for levels, rules, found in (
        ((), LoaderRules(), "libdeep.so.1"),
        (("x86-64-v2",), LoaderRules(), "glibc-hwcaps/x86-64-v2/libdeep.so.1"),
        (("x86-64-v3", "x86-64-v2"), LoaderRules(), "glibc-hwcaps/x86-64-v3/libdeep.so.1"),
        (("x86-64-v3",), LoaderRules(searches_levels=False), "libdeep.so.1"),
        ((), LoaderRules(searches_levels=False, searches_older=True), "tls/libdeep.so.1"),
    ):
        host = Host(cache=tmp_path / "cache", processor=Processor(4096, levels=levels))
        assert host.cached("x86_64", rules)["libdeep.so.1"] == tmp_path / "lib" / found


# ---- what only looks like a fault


@pytest.mark.parametrize("kind", ["filter", "auxiliary"])
def test_a_symbol_that_only_the_filtee_of_a_filter_defines_is_no_fault(kind: str, tmp_path: Path) -> None:
    library(tmp_path / "lib", "libreal.so", "int call(void) { return 0; }")
    adapter = library(tmp_path / "lib", ADAPTER, "int call(void) { return 0; }")
    main = program(tmp_path, "server", "int call(void); int main(void) { return call(); }", against=[adapter])
    library(tmp_path / "lib", ADAPTER, "int other;", f"-Wl,--{kind}=libreal.so")
    run = start(main, tmp_path / "lib")
    run.agrees()
    assert [path.name for path in run.report.libraries[1:3]] == ["libreal.so", ADAPTER], "the filtee comes first"
    (tmp_path / "lib" / "libreal.so").unlink()
    start(main, tmp_path / "lib").agrees("library-not-found" if kind == "filter" else "undefined-symbol")


def test_a_filter_without_its_filtee_is_refused_and_an_auxiliary_one_is_not(tmp_path: Path) -> None:
    main = server(tmp_path)
    library(tmp_path / "lib", ADAPTER, "int adapter;", "-Wl,--filter=libgone.so")
    assert "libgone.so" in start(main, tmp_path / "lib").agrees("library-not-found")
    library(tmp_path / "lib", ADAPTER, "int adapter;", "-Wl,--auxiliary=libgone.so")
    start(main, tmp_path / "lib").agrees()
    (tmp_path / "lib" / "libgone.so").write_text("damaged")
    start(main, tmp_path / "lib").agrees()


def test_a_needed_library_that_is_the_programs_own_name_is_the_program(tmp_path: Path) -> None:
    own = library(tmp_path / "once", "libown.so", "int x;")
    adapter = library(tmp_path / "lib", ADAPTER, "int adapter;", against=[own])
    main = program(tmp_path, "server", "int main(void) { return 0; }", "-Wl,-soname,libown.so", against=[adapter])
    run = start(main, tmp_path / "lib")
    run.agrees()
    assert plan_loading(main, library_path=[tmp_path / "lib"]).named("libown.so") is not None


@only_x86
def test_a_weak_function_whose_address_the_program_gives_is_defined_by_it(tmp_path: Path) -> None:
    source = "__attribute__((weak)) int call(void); void *volatile p; int main(void) { p = (void *)call; return 0; }"
    gives = library(tmp_path / "once", "libgives.so", "int call(void) { return 0; }")
    adapter = library(tmp_path / "lib", ADAPTER, "int call(void); void *taken = call;")
    main = program(tmp_path, "server", source, *NO_PIE, "-Wl,-z,nocopyreloc", against=[adapter, gives])
    library(tmp_path / "lib", "libgives.so", "int other;")
    run = start(main, tmp_path / "lib")
    run.agrees()
    library(tmp_path / "lib", ADAPTER, "int call(void); int use(void) { return call(); }")
    start(main, tmp_path / "lib").agrees("symbol-of-cann")
