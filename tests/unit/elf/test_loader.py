from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from elf_samples import big_endian, for_aarch64, library, needs_gcc, program
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.elf.loader import Host, LoadPlan, plan_loading

MAIN = "int main(void) { return 0; }"
REAL = [Path(found) for name in ("curl", "git", "bash", "ssh", "gcc", sys.executable) if (found := shutil.which(name))]
REAL = [path for path in REAL if path.read_bytes()[:4] == b"\x7fELF"]


def by_ld_so(path: Path, library_path: str = "") -> list[str]:
    """The files in the loader's own lookup order, as glibc tells them."""
    environment = {"LD_DEBUG": "scopes", "PATH": os.environ["PATH"]}
    if library_path:
        environment["LD_LIBRARY_PATH"] = library_path
    said = subprocess.run(
        [path, "--version"], stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, check=False
    ).stderr
    found = re.search(r"scope 0: (.*)", said)
    return found.group(1).split() if found else []


def real_paths(plan: LoadPlan) -> list[str]:
    return [os.path.realpath(item.path) for item in plan.libraries[1:]]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_order_is_the_one_that_the_real_loader_reports(path: Path) -> None:
    reported = by_ld_so(path)
    if not reported:
        pytest.skip("no glibc program")
    plan = plan_loading(path)
    assert real_paths(plan) == [os.path.realpath(item) for item in reported[1:]]
    assert plan.missing == ()


@needs_gcc
@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"])
def test_rpath_runpath_and_ld_library_path_take_precedence_as_in_the_real_loader(tag: str, tmp_path: Path) -> None:
    for place in ("a", "b"):
        library(tmp_path / place, "libx.so", "int x(void) { return 1; }")
    main = program(tmp_path, "main", MAIN, f"-Wl,{tag}", "-Wl,-rpath,$ORIGIN/a", against=[tmp_path / "a" / "libx.so"])
    plan = plan_loading(main, library_path=[tmp_path / "b"])
    assert real_paths(plan) == [os.path.realpath(item) for item in by_ld_so(main, str(tmp_path / "b"))[1:]]
    assert plan.libraries[1].path.parent.name == ("b" if tag == "--enable-new-dtags" else "a")


@needs_gcc
@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"])
def test_an_rpath_is_inherited_and_a_runpath_is_not(tag: str, tmp_path: Path) -> None:
    inner = library(tmp_path / "lib", "libinner.so", "int inner(void) { return 1; }")
    outer = library(tmp_path / "lib", "libouter.so", "int outer(void) { return 1; }", against=[inner])
    main = program(
        tmp_path,
        "main",
        MAIN,
        f"-Wl,{tag}",
        "-Wl,-rpath,${ORIGIN}/lib",
        f"-Wl,-rpath-link,{tmp_path / 'lib'}",
        against=[outer],
    )
    plan = plan_loading(main)
    assert plan.named("libouter.so") is not None
    if tag == "--disable-new-dtags":
        assert plan.named("libinner.so") is not None
    else:
        assert [(item.name, item.needed_by.name) for item in plan.missing] == [("libinner.so", "libouter.so")]


@needs_gcc
def test_a_library_with_a_runpath_takes_nothing_from_the_rpath_of_the_program(tmp_path: Path) -> None:
    inner = library(tmp_path / "a", "libinner.so", "int inner(void) { return 1; }")
    library(tmp_path / "b", "libinner.so", "int inner(void) { return 1; }")
    flags = ("-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/../b")
    outer = library(tmp_path / "a", "libouter.so", "int outer(void) { return 1; }", *flags, against=[inner])
    main = program(tmp_path, "main", MAIN, "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/a", against=[outer])
    plan = plan_loading(main)
    assert real_paths(plan) == [os.path.realpath(item) for item in by_ld_so(main)[1:]]
    assert str(tmp_path / "b" / "libinner.so") in real_paths(plan)


@needs_gcc
def test_a_library_for_another_machine_is_passed_over_and_named(tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, against=[good])
    other = tmp_path / "other"
    other.mkdir()
    for_aarch64(Path(shutil.copy(good, other)))
    plan = plan_loading(main, library_path=[other, tmp_path / "good"])
    assert plan.libraries[1].path == good
    plan = plan_loading(main, library_path=[other])
    assert plan.missing[0].name == "libx.so"
    assert "aarch64" in plan.missing[0].reasons[0]


@needs_gcc
def test_a_damaged_library_stops_the_search_as_it_stops_the_loader(tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, against=[good])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "libx.so").write_text("no library")
    plan = plan_loading(main, library_path=[tmp_path / "bad", tmp_path / "good"])
    assert [(item.name, item.is_broken) for item in plan.missing] == [("libx.so", True)]
    assert (
        subprocess.run(
            [main], env={"LD_LIBRARY_PATH": f"{tmp_path}/bad:{tmp_path}/good"}, check=False, capture_output=True
        ).returncode
        == 127
    )


@needs_gcc
def test_a_loop_of_links_and_a_missing_directory_are_passed_over(tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, against=[good])
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "libx.so").symlink_to("libx.so")
    plan = plan_loading(main, library_path=[tmp_path / "missing", tmp_path / "loop", tmp_path / "good"])
    assert plan.libraries[1].path == good


@needs_gcc
def test_one_file_under_two_names_is_loaded_once_and_answers_to_both(tmp_path: Path) -> None:
    one = library(tmp_path, "libone.so", "int x;", soname="")
    (tmp_path / "libtwo.so").symlink_to("libone.so")
    main = program(tmp_path, "main", MAIN, against=[one, tmp_path / "libtwo.so"])
    plan = plan_loading(main, library_path=[tmp_path])
    assert plan.missing == ()
    assert [item.path.name for item in plan.libraries].count("libone.so") == 1
    assert plan.named("libone.so") is not None
    assert plan.named("libtwo.so") is plan.named("libone.so")


@needs_gcc
def test_libraries_that_need_each_other_end_the_walk(tmp_path: Path) -> None:
    first = library(tmp_path, "libfirst.so", "int a;")
    second = library(tmp_path, "libsecond.so", "int b;", against=[first])
    library(tmp_path, "libfirst.so", "int a;", against=[second])
    main = program(tmp_path, "main", MAIN, f"-Wl,-rpath-link,{tmp_path}", against=[first])
    names = [item.name for item in plan_loading(main, library_path=[tmp_path]).libraries]
    assert names.count("libfirst.so") == names.count("libsecond.so") == 1


def put_in_the_way(kind: str, good: Path, at: Path) -> None:
    """Something else of the library's name, in a directory that is searched first."""
    at.parent.mkdir()
    data = bytearray(good.read_bytes())
    if kind == "a directory":
        at.mkdir()
    elif kind == "a link that leads nowhere":
        at.symlink_to("nowhere")
    elif kind == "a program":
        program(at.parent, at.name, MAIN)
    elif kind == "a program at a fixed address":
        program(at.parent, at.name, MAIN, "-no-pie")
    elif kind == "an object file":
        program(at.parent, at.name, "int x;", "-c")
    elif kind == "big-endian":
        big_endian(good, at)
    elif kind == "32 bits":
        data[4] = 1
        at.write_bytes(data)
    elif kind == "a file without its end":
        at.write_bytes(data[: len(data) // 8])
    else:
        at.write_bytes({"empty": b"", "a text": b"#!/bin/sh\nexit 0\n", "a header alone": bytes(data[:64])}[kind])


@needs_gcc
@pytest.mark.parametrize(
    "kind",
    [
        "a directory",
        "a link that leads nowhere",
        "a program",
        "a program at a fixed address",
        "an object file",
        "big-endian",
        "32 bits",
        "a file without its end",
        "empty",
        "a text",
        "a header alone",
    ],
)
def test_what_stands_in_the_way_stops_the_search_where_it_stops_the_loader(kind: str, tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, against=[good])
    put_in_the_way(kind, good, tmp_path / "way" / "libx.so")
    path = [tmp_path / "way", tmp_path / "good"]
    said = subprocess.run([main], env={"LD_LIBRARY_PATH": ":".join(map(str, path))}, check=False, capture_output=True)
    plan = plan_loading(main, library_path=path)
    assert (plan.missing == ()) == (said.returncode == 0), said.stderr
    assert all(item.is_broken and item.reasons for item in plan.missing)
    if not plan.missing:
        assert plan.libraries[1].path == good


@needs_gcc
def test_a_pipe_in_the_way_is_named_where_the_loader_would_wait_for_ever(tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, against=[good])
    (tmp_path / "way").mkdir()
    os.mkfifo(tmp_path / "way" / "libx.so")
    plan = plan_loading(main, library_path=[tmp_path / "way", tmp_path / "good"])
    assert [(item.name, item.is_broken) for item in plan.missing] == [("libx.so", True)]


@needs_gcc
@pytest.mark.parametrize("token", ["$LIB", "${LIB}", "$PLATFORM", "$ORIGIN", "${ORIGIN}/./x/.."])
def test_tokens_of_a_runpath_are_replaced_as_the_real_loader_replaces_them(token: str, tmp_path: Path) -> None:
    good = library(tmp_path / "good", "libx.so", "int x;")
    main = program(tmp_path, "main", MAIN, f"-Wl,-rpath,{tmp_path}/one/{token}:{token}", against=[good])
    environment = {"LD_DEBUG": "libs"}
    said = subprocess.run([main], env=environment, check=False, capture_output=True, text=True).stderr
    tried = re.findall(r"trying file=(.*)/libx.so", said)
    (missing,) = plan_loading(main).missing
    ours = [os.path.normpath(path) for path in missing.searched if str(tmp_path) in str(path)]
    theirs = [os.path.normpath(path) for path in tried if str(tmp_path) in path]
    assert ours
    assert [path for path in dict.fromkeys(theirs) if path in ours] == ours
    assert all(any(path.startswith(known) for known in ours) for path in theirs), "or else for special processors"


@needs_gcc
def test_nodeflib_keeps_the_search_out_of_the_default_directories(tmp_path: Path) -> None:
    main = program(tmp_path, "main", MAIN, "-Wl,-z,nodefaultlib")
    started = subprocess.run([main], env={}, check=False, capture_output=True).returncode == 0
    assert (plan_loading(main).missing == ()) == started


def cache_file(entries: list[tuple[str, str, int, int]], before: bytes = b"") -> bytes:
    """A file as ldconfig writes it: (name, path, flags, hwcap)."""
    strings, records = b"", b""
    base = 48 + 24 * len(entries)
    for name, path, flags, hardware in entries:
        key = base + len(strings)
        strings += name.encode() + b"\0"
        value = base + len(strings)
        strings += path.encode() + b"\0"
        records += struct.pack("<iIIIQ", flags, key, value, 0, hardware)
    return before + struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", len(entries), len(strings)) + records + strings


def test_the_cache_gives_the_libraries_of_the_machine_also_behind_one_in_the_old_format(tmp_path: Path) -> None:
    entries = [
        ("libx.so", "/special/libx.so", 0x0303, 1 << 62),
        ("libx.so", "/lib64/libx.so", 0x0303, 0),
        ("libx.so", "/lib32/libx.so", 0x0003, 0),
        ("libx.so", "/arm/libx.so", 0x0A03, 0),
    ]
    for before in (b"", b"ld.so-1.7.0\0\0\0\0\0"):
        (tmp_path / "cache").write_bytes(cache_file(entries, before))
        host = Host(cache=tmp_path / "cache")
        assert host.cached("x86_64") == {"libx.so": Path("/lib64/libx.so")}
        assert host.cached("aarch64") == {"libx.so": Path("/arm/libx.so")}


def test_the_cache_in_the_old_format_alone_is_read_too(tmp_path: Path) -> None:
    strings = b"libx.so\0/lib64/libx.so\0/lib32/libx.so\0"
    records = struct.pack("<iII", 0x0003, 0, 23) + struct.pack("<iII", 0x0303, 0, 8)
    (tmp_path / "cache").write_bytes(struct.pack("<11sxI", b"ld.so-1.7.0", 2) + records + strings)
    assert Host(cache=tmp_path / "cache").cached("x86_64") == {"libx.so": Path("/lib64/libx.so")}


@pytest.mark.skipif(shutil.which("ldconfig", path="/sbin:/usr/sbin") is None, reason="needs ldconfig")
@needs_gcc
@pytest.mark.parametrize("form", ["new", "compat"])
def test_the_cache_that_ldconfig_writes_is_read_as_ldconfig_prints_it(form: str, tmp_path: Path) -> None:
    names = [library(tmp_path / "lib", f"lib{letter}.so.1", "int x;").name for letter in "abc"]
    (tmp_path / "conf").write_text(f"{tmp_path}/lib\n")
    command: list[str | Path] = [
        shutil.which("ldconfig", path="/sbin:/usr/sbin") or "",
        "-X",
        "-C",
        tmp_path / "cache",
        "-f",
        tmp_path / "conf",
    ]
    subprocess.run([*command, "-c", form], check=True, capture_output=True)
    cached = Host(cache=tmp_path / "cache").cached(platform.machine())
    assert {name: cached[name] for name in names} == {name: tmp_path / "lib" / name for name in names}
    printed = subprocess.run([*command[:4], "-p"], check=True, capture_output=True, text=True).stdout
    listed = [(name, path) for name, path in re.findall(r"^\t(\S+) \(libc6,x86-64\) => (.*)$", printed, re.M)]
    if listed:  # each name once: the first is the one that the loader takes
        assert {name: str(path) for name, path in cached.items()} == dict(reversed(listed))


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_damaged_cache_is_taken_for_an_empty_one(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cache"
    path.write_bytes(cache_file([("libx.so", "/lib64/libx.so", 0x0303, 0)])[:cut] + noise)
    assert isinstance(Host(cache=path).cached("x86_64"), Mapping)


def test_without_a_cache_the_default_directories_serve() -> None:
    path = Path("/bin/bash")
    plan = plan_loading(path, host=Host(cache=Path("/does/not/exist")))
    assert plan.missing == ()
    assert real_paths(plan) == real_paths(plan_loading(path))
