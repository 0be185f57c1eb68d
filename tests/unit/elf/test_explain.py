"""verify-serving --explain, and verify-serving on two files of any build."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving.builds import manifest, verify
from npu_serving.elf.demangle import names_meant
from npu_serving.elf.explain import explain
from npu_serving.elf.subject import ServerCase
from npu_serving.errors import AdapterError, ElfError, RequestError
from npu_serving.settings import Settings

TRACE = "_ZN10tensorflow8profiler5TraceEi"  # tensorflow::profiler::Trace(int)
CAT = "_ZN10tensorflow3CatEv"
SIZE = "_ZNKSt6vectorIN2ge7SessionESaIS1_EE4sizeEv"
APPEND = "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::append(char const*)"
ADAPTER = "_tf_adapter.so"
needs_cxxfilt = pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt")


def calls(*names: str) -> str:
    return "".join(f"void {name}(void); void call_{name}(void) {{ {name}(); }}" for name in names)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server that was linked with an old adapter, a new adapter, and a library that nobody names."""
    root = tmp_path_factory.mktemp("explain")
    versions = "V_1 { global: *; };"
    versioned = library(root / "lib", "libv.so", "void v(void) {} void w(void) {}", versions=versions)
    old = library(root / "old", ADAPTER, calls(CAT))
    library(root / "new", ADAPTER, calls(CAT, TRACE, "v") + "__attribute__((weak)) void weak(void);"
            "void (*weakly)(void) = weak;", against=[versioned])  # fmt: skip
    library(root / "lib", "libtrace.so", f"void {TRACE}(void) {{}}")
    library(root / "v2", "libv.so", "void v(void) {} void w(void) {}", versions="V_2 { global: *; };")
    program(root, "server", f"void {CAT}(void) {{}} int main(void) {{ return 0; }}", against=[old])
    return root


def asked(root: Path, symbol: str, *library_path: str, adapter: str = "new", **more: Any):
    path = [root / name for name in library_path]
    return explain(ServerCase(root / "server", root / adapter / ADAPTER, library_path=path, **more), symbol)


@needs_gcc
def test_a_missing_symbol_is_explained_with_who_wants_it_and_what_defines_it_unasked(root: Path) -> None:
    result = asked(root, TRACE, "lib")
    (symbol,) = result.symbols
    assert [(use.file, use.bound_to, use.is_weak) for use in symbol.uses] == [(str(root / "new" / ADAPTER), "", False)]
    assert symbol.definitions == ()
    assert symbol.elsewhere == (str(root / "lib" / "libtrace.so"),)
    assert "nothing that is loaded depends on it" in symbol.why
    assert "rebuild-after-cann" in symbol.cure
    assert result.exit_code == 3
    order = [Path(file).name for file, _ in result.order]
    assert order[:2] == ["server", ADAPTER]
    assert (str(root / "lib" / "libv.so"), "LD_LIBRARY_PATH") in result.order
    shown = json.loads(json.dumps(result.to_json()))
    assert shown["symbols"][0]["name"] == TRACE
    assert shown["lookup_order"][0] == {"file": str(root / "server"), "found_by": "program"}
    for part in ("needed by", "bound to nothing", "which is not loaded", "searched in this order", "1 "):
        assert part in result.text()


@needs_gcc
@needs_cxxfilt
@pytest.mark.parametrize(
    "spelling",
    [TRACE, "tensorflow::profiler::Trace(int)", "tensorflow::profiler::Trace", "tensorflow :: profiler::Trace( int )"],
)
def test_a_symbol_may_be_named_as_the_loader_or_as_cxx_writes_it(spelling: str, root: Path) -> None:
    assert [symbol.name for symbol in asked(root, spelling, "lib").symbols] == [TRACE]


@needs_gcc
def test_a_symbol_that_is_found_is_explained_with_the_file_that_it_is_bound_to(root: Path) -> None:
    result = asked(root, CAT, "lib")
    (symbol,) = result.symbols
    assert (result.exit_code, symbol.cure) == (0, "")
    assert [use.bound_to for use in symbol.uses] == [str(root / "server")]
    assert [(item.file, item.type) for item in symbol.definitions] == [(str(root / "server"), "FUNC")]


@needs_gcc
def test_a_symbol_of_another_version_is_said_to_be_one(root: Path) -> None:
    (symbol,) = asked(root, "v@V_1", "v2").symbols
    assert [item.versioned_name for item in symbol.definitions] == ["v@@V_2"]
    assert "has no version V_1" in symbol.why
    assert symbol.uses[0].version == "V_1"


@needs_gcc
def test_a_weak_symbol_may_be_bound_to_nothing(root: Path) -> None:
    result = asked(root, "weak", "lib")
    assert (result.exit_code, result.symbols[0].uses[0].when) == (0, "at the start")
    assert "the reference is weak" in result.symbols[0].why


@needs_gcc
def test_who_once_defined_a_symbol_is_told_where_it_is_known(root: Path) -> None:
    (symbol,) = asked(root, TRACE, former_definers={TRACE: "libge_runner.so"}).symbols
    assert "libge_runner.so defined it" in symbol.why
    assert "same CANN release" in symbol.cure
    (symbol,) = asked(root, TRACE).symbols
    assert "libv.so" in symbol.why, "it is missing, and may have defined it"


@needs_gcc
def test_the_releases_that_are_known_to_need_a_symbol_are_named(root: Path) -> None:
    def needing(symbol: str) -> list[str]:
        return {TRACE: ["7.0.RC1", "9.0.0"]}.get(symbol, [])

    (trace,), (cat,) = (asked(root, name, "lib", needing=needing).symbols for name in (TRACE, CAT))
    assert "  needed of the server by TF Adapter of CANN 7.0.RC1 and 9.0.0\n" in trace.text()
    assert (trace.releases, cat.releases) == (("7.0.RC1", "9.0.0"), ())


def test_a_symbol_that_nobody_knows_is_an_error_that_says_so(root: Path) -> None:
    with pytest.raises(RequestError, match="needs or defines nonsense"):
        asked(root, "nonsense", "lib")


@needs_cxxfilt
@pytest.mark.parametrize(
    ("asked_for", "meant"),
    [
        (APPEND, {"_ZNSs6appendEPKc"}),
        ("tensorflow::Status::Status", {"_ZN10tensorflow6StatusC1Ei", "_ZN10tensorflow6StatusC2Ei"}),
        ("tensorflow::Node::name", {"_ZNK10tensorflow4Node4nameB5cxx11Ev"}),
        ("tensorflow::operator+(tensorflow::Status, int)", {"_ZN10tensorflowplENS_6StatusEi"}),
        ("vtable for ge::Session", {"_ZTVN2ge7SessionE"}),
        ("std::vector<ge::Session, std::allocator<ge::Session> >::size() const", {SIZE}),
        ("Status", set()),
        ("", set()),
        ("<<((", set()),
    ],
)  # fmt: skip
def test_what_is_meant_is_found_among_the_mangled_names(asked_for: str, meant: set[str]) -> None:
    known = {
        "_ZNSs6appendEPKc", "_ZN10tensorflow6StatusC1Ei", "_ZN10tensorflow6StatusC2Ei", "main", "_Z", "_ZZZZ",
        "_ZNK10tensorflow4Node4nameB5cxx11Ev", "_ZN10tensorflowplENS_6StatusEi", "_ZTVN2ge7SessionE",
        SIZE,
    }  # fmt: skip
    assert set(names_meant(asked_for, known)) == meant


# ---- two files of any build


@needs_gcc
def test_two_files_of_any_build_are_judged_without_sources_or_manifest(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{root / 'lib'}:relative:")
    monkeypatch.setenv("HOME", str(root))
    old, new = (Settings(adapter=str(root / name / ADAPTER)) for name in ("old", "new"))
    assert verify.verify_files(old, root / "server").exit_code == 0
    result = verify.verify_files(new, root / "server")
    assert (result.exit_code, result.report.kinds()) == (3, ("undefined-symbol",))
    assert "libv.so" in " ".join(map(str, result.report.libraries)), "found by the caller's LD_LIBRARY_PATH"
    assert verify.explain_symbol(new, TRACE, server=root / "server").exit_code == 3


@needs_gcc
def test_an_adapter_without_a_soname_is_the_one_that_the_server_names_by_its_file(root: Path, tmp_path: Path) -> None:
    adapter = library(tmp_path, "lib_tf_adapter.so", calls(CAT), soname="")
    source = f"void {CAT}(void) {{}} int main(void) {{ return 0; }}"
    server = program(tmp_path, "server", source, "-L", str(tmp_path), "-l_tf_adapter")
    newer = library(tmp_path / "newer", "another name.so", calls(CAT, TRACE), soname="")
    for path, kinds in ((adapter, ()), (newer, ("undefined-symbol",))):
        assert verify.verify_files(Settings(adapter=str(path)), server).report.kinds() == kinds


@needs_gcc
def test_what_is_no_server_or_adapter_is_refused_at_once(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    good = str(root / "old" / ADAPTER)
    for server, adapter, error in (
        (root / "missing", good, RequestError),
        (root / "server", str(root / "missing"), RequestError),
        (root / ("x" * 300), good, RequestError),
        (tmp_path / "pipe", good, ElfError),
        (root / "server", str(tmp_path / "pipe"), AdapterError),
        (root, good, ElfError),
        (root / "server", str(root), AdapterError),
        (root / "server", __file__, AdapterError),
    ):
        with pytest.raises(error):
            verify.verify_files(Settings(adapter=adapter), server)


@needs_gcc
def test_the_samples_adapter_is_an_adapter_for_a_server_that_is_named(root: Path, tmp_path: Path) -> None:
    result = verify.verify_files(Settings(adapter="sample", build_root=tmp_path), root / "server")
    json.dumps(result.to_json())
    assert "undefined-symbol" in result.report.kinds(), "the symbols that the sample's adapter needs"
    assert result.exit_code == 3


def test_who_defined_what_is_kept_with_a_build_and_damage_to_it_does_not_matter(tmp_path: Path) -> None:
    definers = {TRACE: "libge_runner.so", CAT: ""}
    manifest.write_definers(tmp_path, definers)
    assert manifest.read_definers(tmp_path) == definers
    for damaged in (b"", b"[1]", b'{"a": 1}', b"[" * 100_000, b"\xff"):
        (tmp_path / manifest.DEFINERS).write_bytes(damaged)
        assert manifest.read_definers(tmp_path) == {}
    assert manifest.read_definers(tmp_path / "nowhere") == {}
