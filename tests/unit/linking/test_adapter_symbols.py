"""What the linkers make of the two lists of symbols: a server that fits several adapters."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_serving.cann.known_adapters import KnownAdapter, needed_of_server
from npu_serving.elf.compat import undefined_needs
from npu_serving.elf.symbols import read_elf
from npu_serving.linking.adapter_symbols import exports_list, symbols_script

LINKERS = ("bfd", "gold", "lld")
CXX = ("g++", "-fPIC", "-O1")
MEMBERS = {  # of the server's archive, which it does not use itself
    "first": "namespace tensorflow { int First() { return 1; } int table[3] = {7, 8, 9}; }",
    "second": "namespace tensorflow { int Second() { return 2; } __attribute__((weak)) int Weak() { return 3; } }",
    "third": "namespace tensorflow { int Third() { return 4; } }",
    "unrelated": "namespace google { namespace protobuf { int Own() { return 5; } } }",
}
CANN = "namespace ge { int Run() { return 0; } } namespace google { namespace protobuf { int Own() { return 6; } } }"
ADAPTERS = {
    "1.0": "namespace tensorflow { int First(); extern int table[3]; } namespace ge { int Run(); }"
    "int sum = tensorflow::First() + tensorflow::table[2] + ge::Run();",
    "2.0": "namespace tensorflow { int First(); int Second(); int Weak(); } namespace ge { int Run(); }"
    "int sum = tensorflow::Second() + tensorflow::Weak() + tensorflow::First() + ge::Run();",
    "3.0": "namespace tensorflow { int Third(); } namespace ge { int Run(); }"
    "int sum = tensorflow::Third() + ge::Run();",
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    (root / "main.cc").write_text("int main() { return 0; }")
    (root / "cann.cc").write_text(CANN)
    subprocess.run([*CXX, "-c", "main.cc"], cwd=root, check=True)
    subprocess.run(
        [*CXX, "-shared", "-Wl,-soname,libge_runner.so", "cann.cc", "-o", "libge_runner.so"], cwd=root, check=True
    )
    for name, source in MEMBERS.items():
        (root / f"{name}.cc").write_text(source)
        subprocess.run([*CXX, "-c", f"{name}.cc"], cwd=root, check=True)
    subprocess.run(["ar", "rcs", "libserver.a", *(f"{name}.o" for name in MEMBERS)], cwd=root, check=True)
    for name, source in ADAPTERS.items():
        (root / name).mkdir()
        (root / name / "adapter.cc").write_text(source)
        subprocess.run(
            [
                *CXX, "-shared", "-Wl,-soname,_tf_adapter.so", "-Wl,-z,now", f"{name}/adapter.cc",
                "-L.", "-l:libge_runner.so", "-o", f"{name}/_tf_adapter.so",
            ],
            cwd=root,
            check=True,
        )  # fmt: skip
    return root


@pytest.fixture(params=LINKERS)
def link(request: pytest.FixtureRequest, parts: Path, tmp_path: Path) -> Callable[[str, tuple[str, ...]], Path]:
    """Links a server with one adapter that is to fit others, its words in the order in which Bazel has them."""
    if shutil.which(f"ld.{request.param}") is None:
        pytest.skip(f"there is no {request.param} here")

    def linked(adapter: str, fits: tuple[str, ...], *known: KnownAdapter) -> Path:
        elf = read_elf(parts / adapter / "_tf_adapter.so")
        wanted = [item.symbols for item in (*(of(parts, name) for name in fits), *known)]
        (tmp_path / "needed_symbols.lds").write_text(symbols_script(elf, wanted))
        (tmp_path / "exported_symbols.lds").write_text(exports_list(elf, wanted))
        subprocess.run(
            [
                "g++", f"-fuse-ld={request.param}", "-o", tmp_path / "server", "-Wl,--no-as-needed",
                f"-Wl,-L{parts / adapter},-l:_tf_adapter.so", f"-Wl,{tmp_path}/needed_symbols.lds",
                f"-Wl,--dynamic-list={tmp_path}/exported_symbols.lds", "-Wl,--allow-shlib-undefined",
                "-Wl,-z,relro,-z,now",
                "main.o", "libserver.a",
            ],
            cwd=parts,
            check=True,
        )  # fmt: skip
        return tmp_path / "server"

    return linked


def of(parts: Path, name: str) -> KnownAdapter:
    return KnownAdapter(name, "1", "", needed_of_server(read_elf(parts / name / "_tf_adapter.so")))


def start(server: Path, parts: Path, adapter: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LD_BIND_NOW": "1", "LD_LIBRARY_PATH": f"{parts / adapter}:{parts}"}
    return subprocess.run([server], check=False, env=env, capture_output=True, text=True)


def test_a_server_starts_with_each_adapter_that_it_is_to_fit(link, parts) -> None:
    server = link("1.0", ("2.0", "3.0"))
    for adapter in ADAPTERS:
        started = start(server, parts, adapter)
        assert (started.returncode, started.stderr) == (0, ""), adapter


def test_a_server_that_is_to_fit_one_adapter_does_not_start_with_others(link, parts) -> None:
    server = link("1.0", ())
    assert start(server, parts, "1.0").returncode == 0
    assert "Second" in start(server, parts, "2.0").stderr


def test_exactly_the_union_is_exported(link, parts) -> None:
    exported = read_elf(link("2.0", ("1.0",))).defined_names
    union = set(of(parts, "1.0").symbols) | set(of(parts, "2.0").symbols)
    assert {name for name in exported if "tensorflow" in name or "protobuf" in name} == union


def test_protobuf_of_the_server_does_not_stand_in_for_that_of_cann(link) -> None:
    assert "_ZN6google8protobuf3OwnEv" not in read_elf(link("1.0", ("2.0", "3.0"))).defined_names


def test_a_symbol_that_the_tree_has_not_breaks_no_link_and_is_not_asked_of_a_library(link, parts) -> None:
    server = link("1.0", (), KnownAdapter("9", "1", "", ("_ZN10tensorflow4GoneEv",)))
    elf = read_elf(server)
    assert "_ZN10tensorflow4GoneEv" not in {symbol.name for symbol in elf.undefined} | elf.defined_names
    assert start(server, parts, "1.0").returncode == 0


def test_the_server_itself_asks_for_nothing_of_cann(link) -> None:
    elf = read_elf(link("1.0", ("2.0",)))
    assert not {name for name in undefined_needs(elf) if "2ge" in name}
