from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from elf_samples import for_aarch64, library, needs_gcc, program

from npu_serving.elf import compat
from npu_serving.elf.abi import string_kind
from npu_serving.elf.compat import needed_from_server, undefined_needs
from npu_serving.elf.loader import Host
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf
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


def check_server(server: Path, **circumstances: object) -> CompatReport:
    return compat.check_server(ServerCase(server, **circumstances))  # type: ignore[arg-type]


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
    server = program(tmp_path, "server", "int main(void) { return 0; }", "-Wl,--as-needed", str(built.adapter))
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
    assert report.kinds() == ("undefined-symbol", "symbol-of-python")
    details = {finding.kind: finding.details for finding in report.findings}
    assert TF_NEW in " ".join(details["undefined-symbol"])
    assert details["symbol-of-python"] == ("PyList_New",)


@pytest.mark.parametrize("name", ["libpython3.7m.so.1.0", "libtensorflow_framework.so.1", ADAPTER])
def test_a_missing_library_of_our_own_is_an_error_also_without_cann(built: Tree, tmp_path: Path, name: str) -> None:
    shutil.copytree(built.root, tmp_path / "copy")
    (tmp_path / "copy" / "lib" / name).unlink()
    report = check_server(
        tmp_path / "copy" / "server", library_path=[built.cann, tmp_path / "copy" / "lib"], cann_absent=True
    )
    assert "library-not-found" in report.kinds()
    assert name in [finding.where for finding in report.findings if finding.severity == "problem"]
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
    assert "its newest is GLIBCXX_3.4.9" in text
    assert "libstdc++" in text
    assert not starts(server, [tmp_path / "old", *built.path])


def test_versions_are_compared_as_numbers(built: Tree, tmp_path: Path) -> None:
    old = "GLIBC_2.9 { global: f; }; GLIBC_2.17 { global: h; }; GLIBC_PRIVATE { global: p; };"
    functions = "int f(void){return 1;} int g(void){return 2;} int h; int p;"
    new = library(tmp_path / "new", "libfake.so.6", functions, versions=old + "GLIBC_2.34 { global: g; };")
    library(tmp_path / "old", "libfake.so.6", functions, versions=old)
    server = program(tmp_path, "server", "int g(void); int main(void) { return g(); }", against=[built.adapter, new])
    report = check_server(server, library_path=[tmp_path / "old", *built.path])
    assert "its newest is GLIBC_2.17" in report.text()


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
    assert undefined_needs(read_elf(library(tmp_path, ADAPTER, source))) == ("a_need", "b_need")
    assert undefined_needs(read_elf(built.adapter)) == tuple(sorted((TF_CALL, GE_CALL, DOMI_CALL, "Py_Initialize")))


def test_the_server_must_export_what_no_library_beside_it_defines(built: Tree, tmp_path: Path) -> None:
    assert needed_from_server(built.server, built.adapter, library_path=built.path) == (TF_CALL,)
    newer = library(tmp_path, ADAPTER, adapter_source(TF_CALL, TF_NEW, GE_CALL, "Py_Initialize"))
    assert needed_from_server(built.server, newer, library_path=built.path) == tuple(
        sorted((TF_CALL, TF_NEW, GE_CALL))
    ), "this one does not bring libge_runner.so along"


def test_what_a_library_of_cann_refers_to_at_its_start_is_an_error_and_what_it_may_call_later_a_warning(
    built: Tree, tmp_path: Path
) -> None:
    changed = f"void {GE_CALL}(void) {{}} void {DOMI_CALL}(void) {{}} void gone(void);"
    lazy = ("-Wl,-z,lazy",)
    for name, use, errors in (
        ("called", "void later(void) { gone(); }", ()),
        ("at the start", "void (*later)(void) = gone;", ("symbol-of-cann",)),
    ):
        library(tmp_path / name, "libge_runner.so", changed + use, *lazy)
        report = check_server(built.server, library_path=[tmp_path / name, *built.path])
        assert report.kinds() == errors, report.text()
        assert report.kinds("warning") == (() if errors else ("symbol-of-cann",))
        assert "toolkit" in report.text()
        started = subprocess.run(
            [built.server],
            env={"LD_LIBRARY_PATH": ":".join(map(str, [tmp_path / name, *built.path]))},
            check=False,
            capture_output=True,
        )
        assert (started.returncode == 0) == report.ok
    library(tmp_path / "now", "libge_runner.so", changed + "void later(void) { gone(); }", "-Wl,-z,now")
    only(check_server(built.server, library_path=[tmp_path / "now", *built.path]), "symbol-of-cann")


def test_a_library_that_lost_all_its_versions_ends_the_loader_and_is_an_error(built: Tree, tmp_path: Path) -> None:
    versioned = library(tmp_path / "new", "libv.so", "int f(void) { return 0; }", versions="V_1 { global: f; };")
    source = f"int f(void); void {TF_CALL}(void) {{}} int main(void) {{ return f(); }}"
    server = program(tmp_path, "server", source, against=[built.adapter, versioned])
    for place, flags, fits in (("bare", ["-nostdlib"], False), ("with libc", [], True)):
        uses = "" if flags else 'int puts(const char *); void say(void) { puts(""); }'
        library(tmp_path / place, "libv.so", f"int f(void) {{ return 0; }} {uses}", *flags)
        path = [tmp_path / place, *built.path]
        assert check_server(server, library_path=path).ok == fits == starts(server, path)


def test_a_variable_that_grew_since_the_server_copied_it_is_a_warning_as_it_is_the_loaders(
    built: Tree, tmp_path: Path
) -> None:
    old = library(tmp_path / "old", "libdata.so", "int table[4] = {1};")
    library(tmp_path / "new", "libdata.so", "int table[8] = {1};")
    library(tmp_path / "short", "libdata.so", "int table[2] = {1};")
    source = f"extern int table[]; void {TF_CALL}(void) {{}} int main(void) {{ return table[0] - 1; }}"
    flags = ("-no-pie", "-fno-pic", f"-Wl,-rpath,{built.root / 'lib'}")
    server = program(tmp_path, "server", source, *flags, against=[built.adapter, old])

    def warned(place: str) -> bool:
        path = ":".join(map(str, [tmp_path / place, *built.path]))
        run = subprocess.run([server], env={"LD_LIBRARY_PATH": path}, check=False, capture_output=True, text=True)
        return "different size" in run.stderr

    assert check_server(server, library_path=[tmp_path / "old", *built.path]).findings == ()
    report = check_server(server, library_path=[tmp_path / "new", *built.path])
    assert (report.ok, report.kinds("warning")) == (True, ("size-changed",))
    for word in ("16 bytes", "32", "different size in shared object", "rebuild-after-cann"):
        assert word in report.text()
    assert starts(server, [tmp_path / "new", *built.path])
    report = check_server(server, library_path=[tmp_path / "short", *built.path])
    assert (report.ok, report.kinds("warning")) == (True, ("size-changed",))
    assert [warned(place) for place in ("old", "new", "short")] == [False, True, False]


OLD_STRING = "_ZN10tensorflow6StatusC1ENS_5error4CodeESs"  # tensorflow::Status(tensorflow::error::Code, std::string)
NEW_STRING = "_ZN10tensorflow6StatusC1ENS_5error4CodeENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


@pytest.mark.parametrize(("wanted", "there"), [(OLD_STRING, NEW_STRING), (NEW_STRING, OLD_STRING)])
def test_an_adapter_that_was_compiled_for_the_other_string_is_told_apart_from_a_newer_one(
    wanted: str, there: str, built: Tree, tmp_path: Path
) -> None:
    first = library(tmp_path / "first", ADAPTER, adapter_source(there))
    server = program(tmp_path, "server", f"void {there}(void) {{}} int main(void) {{ return 0; }}", against=[first])
    other = library(tmp_path, ADAPTER, adapter_source(wanted))
    report = check_server(server, adapter=other, library_path=[tmp_path / "first"])
    assert report.kinds() == ("undefined-symbol", "abi-mixture"), report.text()
    assert "_GLIBCXX_USE_CXX11_ABI" in report.text()
    assert check_server(server, library_path=[tmp_path / "first"]).findings == ()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("adapters", ["0", "1"])
def test_strings_of_two_kinds_are_noticed_also_where_every_symbol_is_found(adapters: str, tmp_path: Path) -> None:
    source = (
        "#include <string>\nstd::string text(const char *a) { std::string b(a); b.append(a); b.resize(99); return b; }"
    )
    adapter = library(tmp_path, ADAPTER, source, f"-D_GLIBCXX_USE_CXX11_ABI={adapters}")
    server_source = source.replace("text", "other") + 'int main() { return int(other("").size()) - 99; }'
    server = program(tmp_path, "server", server_source, "-D_GLIBCXX_USE_CXX11_ABI=0", against=[adapter])
    report = check_server(server, library_path=[tmp_path])
    assert report.ok, report.text()
    assert report.kinds("warning") == (() if adapters == "0" else ("abi-mixture",))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (OLD_STRING, "old"),
        (NEW_STRING, "new"),
        ("_ZN10tensorflow6AssignSsC1Ev", "old"),
        ("_ZN10tensorflow11ClassSsNameEv", ""),
        ("_ZNK10tensorflow4Node4nameB5cxx11Ev", "new"),
        ("_ZN10tensorflow3FooERKS0_S1_", ""),
        ("Ssl_connect", ""),
        ("_Z99999999999999999999x", ""),
    ],
)
def test_the_kind_of_string_is_read_from_the_mangled_name(name: str, kind: str) -> None:
    assert string_kind(name) == kind


def test_a_stub_where_every_program_would_find_it_is_warned_of(built: Tree, tmp_path: Path) -> None:
    usual = Host().default_directories(platform.machine())
    library(tmp_path, "libtensorflow_framework.so.1", "")
    host = Host(directories=(*usual, tmp_path))
    report = check_server(built.server, library_path=built.path, host=host)
    assert report.ok
    assert report.kinds("warning") == ("stray-stub",)
    assert str(tmp_path / "libtensorflow_framework.so.1") in report.text()
    library(tmp_path, "libtensorflow_framework.so.1", "void _ZN10tensorflow3FooEv(void) {}")
    assert check_server(built.server, library_path=built.path, host=host).findings == (), "a real one belongs there"


def test_a_missing_symbol_of_the_server_is_told_with_the_releases_that_are_known_to_need_it(
    built: Tree, tmp_path: Path
) -> None:
    needing = {TF_CALL: ("6.3.RC2", "9.0.0")}
    report = check_server(
        program(tmp_path, "server", "int main(void) { return 0; }", against=[built.adapter]),
        library_path=built.path,
        needing=lambda symbol: needing.get(symbol, ()),
    )
    text = only(report, "undefined-symbol")
    assert f"[{TF_CALL}], needed by TF Adapter of CANN 6.3.RC2 and 9.0.0\n" in text


def test_a_missing_symbol_is_told_with_the_library_that_once_defined_it(built: Tree, tmp_path: Path) -> None:
    before = check_server(built.server, library_path=built.path)
    assert before.definers == {
        DOMI_CALL: "libge_runner.so", GE_CALL: "libge_runner.so", "Py_Initialize": "libpython3.7m.so.1.0", TF_CALL: ""
    }  # fmt: skip
    library(tmp_path, "libge_runner.so", f"void {DOMI_CALL}(void) {{}}")
    report = check_server(built.server, library_path=[tmp_path, *built.path], former_definers=before.definers)
    text = only(report, "symbol-of-cann")
    assert f"[{GE_CALL}], once in libge_runner.so" in text or f"{GE_CALL}, once in libge_runner.so" in text
    assert "same CANN release" in text


def test_hidden_or_differently_versioned_symbols_of_an_adapters_library_are_missing(
    built: Tree, tmp_path: Path
) -> None:
    both = f"void {GE_CALL}(void) {{}} void {DOMI_CALL}(void) {{}}"
    hidden = f'__attribute__((visibility("hidden"))) void {GE_CALL}(void) {{}} void {DOMI_CALL}(void) {{}}'
    library(tmp_path / "hidden", "libge_runner.so", hidden)
    only(check_server(built.server, library_path=[tmp_path / "hidden", *built.path]), "symbol-of-cann")
    local = f"GE_1 {{ global: {DOMI_CALL}; local: *; }};"
    library(tmp_path / "local", "libge_runner.so", both, versions=local)
    only(check_server(built.server, library_path=[tmp_path / "local", *built.path]), "symbol-of-cann")
    renamed = library(tmp_path / "first", "libge_runner.so", both, versions="GE_1 { global: *; };")
    adapter = library(tmp_path, ADAPTER, adapter_source(TF_CALL, GE_CALL, DOMI_CALL), against=[renamed])
    library(tmp_path / "second", "libge_runner.so", both, versions="GE_2 { global: *; };")
    for place, fits in (("first", True), ("second", False)):
        path = [tmp_path / place, *built.path]
        report = check_server(built.server, adapter=adapter, library_path=path)
        assert report.kinds() == (() if fits else ("too-new",)), report.text()
        assert starts(built.server, [tmp_path, *path]) == fits
    for place in ("hidden", "local"):
        assert not starts(built.server, [tmp_path / place, *built.path])


def test_an_adapter_that_is_no_library_is_refused_by_name(built: Tree, tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="not a shared library"):
        check_server(built.server, adapter=built.server)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ElfError, match="not a regular file"):
        check_server(built.server, adapter=tmp_path / "pipe")
    (tmp_path / "cut.so").write_bytes(built.adapter.read_bytes()[:-9000])
    with pytest.raises(ElfError, match="damaged"):
        check_server(built.server, adapter=tmp_path / "cut.so")
