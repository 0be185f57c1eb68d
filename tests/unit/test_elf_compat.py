from __future__ import annotations

import json
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from elf_samples import for_aarch64, library, needs_gcc, program

from npu_serving.elf.compat import check_server, needed_from_server, undefined_needs
from npu_serving.elf.report import CompatReport
from npu_serving.errors import ElfError, FileAccessError

pytestmark = needs_gcc

TF_CALL = "_ZN10tensorflow7strings3CatEv"  # tensorflow::strings::Cat()
TF_NEW = "_ZN10tensorflow8profiler5TraceEv"
GE_CALL = "_ZN2ge10InitializeEv"
DOMI_CALL = "_ZN6parser3GetEPN4domi10tensorflow7NodeDefE"  # parser::Get(domi::tensorflow::NodeDef*)
ADAPTER = "_tf_adapter.so"


def adapter_source(*calls: str) -> str:
    """An adapter that needs those symbols when it starts, as a static constructor does."""
    declared = "".join(f"void {name}(void);" for name in calls)
    return declared + "void adapter(void) {" + "".join(f"{name}();" for name in calls) + "} int adapter_data = 1;"


@dataclass
class Tree:
    root: Path
    server: Path
    adapter: Path
    cann: Path
    path: list[Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A server linked with an adapter that calls the server's TensorFlow, Python and CANN."""
    root = tmp_path_factory.mktemp("with spaces ünd ' quotes")
    ge = library(root / "cann", "libge_runner.so", f"void {GE_CALL}(void) {{}} void {DOMI_CALL}(void) {{}}")
    python = library(root / "lib", "libpython3.7m.so.1.0", "void Py_Initialize(void) {}")
    stub = library(root / "lib", "libtensorflow_framework.so.1", "")
    adapter = library(
        root / "lib", ADAPTER, adapter_source(TF_CALL, "Py_Initialize", GE_CALL, DOMI_CALL), against=[stub, python, ge]
    )
    server = program(
        root,
        "server",
        f"void {TF_CALL}(void) {{}} int main(void) {{ return 0; }}",
        "-Wl,-rpath,$ORIGIN/lib",
        against=[adapter, python],
    )
    return Tree(root, server, adapter, root / "cann", [root / "cann", root / "lib"])


def only(report: CompatReport, kind: str) -> str:
    assert report.kinds() == (kind,), report.text()
    assert report.exit_code == 3
    assert not report.ok
    return report.text()


def starts(server: Path, path: list[Path]) -> bool:
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, path)), "LD_BIND_NOW": "1"}
    return subprocess.run([server], env=environment, check=False, capture_output=True).returncode == 0


def test_a_server_that_fits_is_said_to_start_and_does(built: Tree) -> None:
    report = check_server(built.server, library_path=built.path)
    assert report.ok, report.text()
    assert (report.exit_code, report.findings) == (0, ())
    assert report.text() == "verdict: this server will start here with its adapter"
    assert report.adapter == built.adapter
    assert json.loads(json.dumps(report.to_json()))["ok"] is True
    assert starts(built.server, built.path)


def test_an_adapter_that_the_linker_dropped_is_noticed(built: Tree, tmp_path: Path) -> None:
    server = program(tmp_path, "server", "int main(void) { return 0; }", "-Wl,--as-needed", built.adapter)
    text = only(check_server(server, library_path=built.path), "adapter-not-linked")
    assert "CPU" in text
    assert "build-serving" in text
    assert starts(server, built.path), "which is what makes it dangerous"


def test_a_newer_adapter_that_needs_one_more_symbol_is_caught_before_anything_is_started(
    built: Tree, tmp_path: Path
) -> None:
    newer = library(
        tmp_path, ADAPTER, adapter_source(TF_CALL, TF_NEW, GE_CALL), against=[built.cann / "libge_runner.so"]
    )
    report = check_server(built.server, adapter=newer, library_path=built.path)
    text = only(report, "undefined-symbol")
    assert report.adapter == newer
    assert TF_NEW in text
    assert "rebuild-after-cann" in text
    if shutil.which("c++filt"):
        assert "tensorflow::profiler::Trace()" in text
    assert not starts(built.server, [tmp_path, *built.path])


def test_a_weak_symbol_may_be_missing(built: Tree, tmp_path: Path) -> None:
    weak = library(
        tmp_path, ADAPTER, f"__attribute__((weak)) void {TF_NEW}(void); void a(void) {{ if ({TF_NEW}) {TF_NEW}(); }}"
    )
    assert check_server(built.server, adapter=weak, library_path=built.path).ok


def test_without_cann_a_missing_library_is_an_error(built: Tree) -> None:
    report = check_server(built.server, library_path=built.path[1:])
    text = only(report, "library-not-found")
    assert "libge_runner.so" in text
    assert "set_env.sh" in text
    assert report.kinds("warning") == ("cannot-tell",)


def test_on_a_machine_that_only_builds_the_missing_cann_is_a_warning(built: Tree) -> None:
    report = check_server(built.server, library_path=built.path[1:], cann_absent=True)
    assert report.ok, report.text()
    assert report.kinds("warning") == ("library-not-found", "cannot-tell")
    assert "will start" not in report.verdict
    assert GE_CALL in report.text()
    assert DOMI_CALL in report.text()


def test_tensorflow_and_python_symbols_are_errors_even_without_cann(built: Tree, tmp_path: Path) -> None:
    source = adapter_source(TF_NEW, "PyList_New", GE_CALL, DOMI_CALL)
    newer = library(tmp_path, ADAPTER, source, against=[built.cann / "libge_runner.so"])
    report = check_server(built.server, adapter=newer, library_path=built.path[1:], cann_absent=True)
    only(report, "undefined-symbol")
    details = next(finding.details for finding in report.findings if finding.kind == "undefined-symbol")
    assert len(details) == 2
    assert TF_NEW in " ".join(details)
    assert "PyList_New" in details


@pytest.mark.parametrize("name", ["libpython3.7m.so.1.0", "libtensorflow_framework.so.1", ADAPTER])
def test_a_missing_library_of_our_own_is_an_error_also_without_cann(built: Tree, tmp_path: Path, name: str) -> None:
    shutil.copytree(built.root, tmp_path / "copy")
    (tmp_path / "copy" / "lib" / name).unlink()
    report = check_server(
        tmp_path / "copy" / "server", library_path=[built.cann, tmp_path / "copy" / "lib"], cann_absent=True
    )
    assert "library-not-found" in report.kinds()
    assert name in [finding.subject for finding in report.findings if finding.severity == "error"]
    assert "adapter-not-linked" not in report.kinds()


def test_a_version_that_this_host_lacks_is_named_with_what_it_provides(built: Tree, tmp_path: Path) -> None:
    versions = "GLIBCXX_3.4.9 { global: f; local: *; };"
    newer = versions + " GLIBCXX_3.4.22 { global: g; } GLIBCXX_3.4.9;"
    new = library(tmp_path / "new", "libfake.so.6", "int f(void){return 1;} int g(void){return 2;}", versions=newer)
    library(tmp_path / "old", "libfake.so.6", "int f(void){return 1;}", versions=versions)
    source = f"int f(void); int g(void); void {TF_CALL}(void) {{}} int main(void) {{ return f() + g() - 3; }}"
    server = program(
        tmp_path, "server", source, against=[built.adapter, built.root / "lib" / "libpython3.7m.so.1.0", new]
    )
    assert check_server(server, library_path=[tmp_path / "new", *built.path]).ok
    assert starts(server, [tmp_path / "new", *built.path])
    text = only(check_server(server, library_path=[tmp_path / "old", *built.path]), "too-new")
    assert "GLIBCXX_3.4.22" in text
    assert "up to GLIBCXX_3.4.9" in text
    assert "libstdc++" in text
    assert not starts(server, [tmp_path / "old", *built.path])


def test_versions_are_compared_as_numbers(built: Tree, tmp_path: Path) -> None:
    old = "GLIBC_2.9 { global: f; }; GLIBC_2.17 { global: h; }; GLIBC_PRIVATE { global: p; };"
    functions = "int f(void){return 1;} int g(void){return 2;} int h; int p;"
    new = library(tmp_path / "new", "libfake.so.6", functions, versions=old + "GLIBC_2.34 { global: g; };")
    library(tmp_path / "old", "libfake.so.6", functions, versions=old)
    server = program(tmp_path, "server", "int g(void); int main(void) { return g(); }", against=[built.adapter, new])
    report = check_server(server, library_path=[tmp_path / "old", *built.path])
    assert "up to GLIBC_2.17" in report.text()


def test_another_machine_is_said_before_anything_else(built: Tree, tmp_path: Path) -> None:
    server = for_aarch64(Path(shutil.copy(built.server, tmp_path / "server")))
    if platform.machine() == "aarch64":
        pytest.skip("it is this machine")
    text = only(check_server(server, library_path=built.path), "other-machine")
    assert "aarch64" in text
    adapter = for_aarch64(Path(shutil.copy(built.adapter, tmp_path / ADAPTER)))
    only(check_server(built.server, adapter=adapter, library_path=built.path), "other-machine")


def test_a_damaged_library_is_named(built: Tree, tmp_path: Path) -> None:
    (tmp_path / "libge_runner.so").write_text("half a download")
    text = only(check_server(built.server, library_path=[tmp_path, *built.path], cann_absent=True), "library-unusable")
    assert str(tmp_path / "libge_runner.so") in text


def test_a_real_tensorflow_behind_the_name_of_a_stub_is_warned_of(built: Tree, tmp_path: Path) -> None:
    library(tmp_path, "libtensorflow_framework.so.1", "void _ZN10tensorflow3FooEv(void) {}")
    report = check_server(built.server, library_path=[tmp_path, *built.path])
    assert report.ok
    assert report.kinds("warning") == ("second-tensorflow",)


def test_what_is_no_server_is_an_error_with_a_name(built: Tree, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    with pytest.raises(ElfError, match="not an ELF file"):
        check_server(tmp_path / "text")
    with pytest.raises(ElfError, match="not an ELF file"):
        check_server(built.server, adapter=tmp_path / "text")
    with pytest.raises(FileAccessError):
        check_server(tmp_path / "missing")
    with pytest.raises(ElfError, match="not a program"):
        check_server(program(tmp_path, "object.o", "int x;", "-c"))


def test_the_needs_of_an_adapter_are_its_unversioned_strong_symbols_sorted(built: Tree, tmp_path: Path) -> None:
    source = """
    int puts(const char*); __attribute__((weak)) void weak(void); void b_need(void); void a_need(void);
    void x(void) { puts(""); if (weak) weak(); b_need(); a_need(); }
    """
    assert undefined_needs(library(tmp_path, ADAPTER, source)) == ("a_need", "b_need")
    assert undefined_needs(built.adapter) == tuple(sorted((TF_CALL, GE_CALL, DOMI_CALL, "Py_Initialize")))


def test_the_server_must_export_what_no_library_beside_it_defines(built: Tree, tmp_path: Path) -> None:
    assert needed_from_server(built.server, built.adapter, library_path=built.path) == (TF_CALL,)
    newer = library(tmp_path, ADAPTER, adapter_source(TF_CALL, TF_NEW, GE_CALL, "Py_Initialize"))
    assert needed_from_server(built.server, newer, library_path=built.path) == tuple(
        sorted((TF_CALL, TF_NEW, GE_CALL))
    ), "this one does not bring libge_runner.so along"
