"""Whose a missing symbol is: each owner has a cure of its own, and following it helps."""

from __future__ import annotations

import ctypes.util
import platform
from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving.elf import compat, owners
from npu_serving.elf.owners import owner_by_name
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf

pytestmark = needs_gcc
SYMBOLS = Path(__file__).parents[2] / "support" / "adapter_symbols.txt"
TF_CALL = "_ZN10tensorflow7strings3CatEv"
ADAPTER = "_tf_adapter.so"


def symbols_of(owner: str) -> list[str]:
    text = SYMBOLS.read_text().partition(f"[{owner}]\n")[2].partition("\n[")[0]
    return text.split()


def calling(*names: str) -> str:
    declared = "".join(f"void {name}(void);" for name in names)
    return declared + "void adapter(void) {" + "".join(f"{name}();" for name in names) + "}"


@pytest.mark.parametrize("owner", ["server", "cann"])
def test_every_symbol_that_the_adapter_needs_is_given_to_its_owner(owner: str) -> None:
    names = symbols_of(owner)
    assert len(names) > 150
    assert {name: owner_by_name(name).kind for name in names} == dict.fromkeys(names, owner)
    if owner == "cann":
        assert all(owner_by_name(name).library for name in names)


def test_no_symbol_of_this_machines_libraries_is_taken_for_the_servers_or_for_canns() -> None:
    machine = platform.machine()
    seen = 0
    for name in ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libz.so.1", "libgomp.so.1", "libexpat.so.1"):
        for directory in (f"/lib/{machine}-linux-gnu", f"/usr/lib/{machine}-linux-gnu", "/lib64", "/usr/lib64"):
            path = Path(directory, name)
            if not path.is_file():
                continue
            for symbol in read_elf(path).defined_names:
                seen += 1
                assert owner_by_name(symbol).kind in (owners.UNKNOWN, owners.SYSTEM), symbol
            break
    assert seen or ctypes.util.find_library("c") is None


@pytest.mark.parametrize(
    ("name", "kind", "of"),
    [
        ("_ZN2ge10GEFinalizeEv", owners.CANN, "libge_runner.so"),
        ("_ZN2ge5ParseERKN10tensorflow8GraphDefE", owners.CANN, "libge_runner.so"),
        ("_ZN4domi10tensorflow7NodeDefC1Ev", owners.CANN, "libfmk_parser.so"),
        ("_ZN6google14ascend_private8protobuf7MessageD2Ev", owners.CANN, "libascend_protobuf.so"),
        ("_Z14IndexTransformv", owners.CANN, "libindextransform.so"),
        ("_ZNSt6vectorIN10tensorflow6TensorESaIS1_EE5clearEv", owners.SERVER, ""),
        ("_ZNSt6vectorIN2ge6TensorESaIS1_EE5clearEv", owners.CANN, "libge_runner.so"),
        ("_ZN5Eigen3FooERKN10tensorflow6TensorE", owners.SERVER, ""),
        ("halMemAlloc", owners.DRIVER, "libascend_hal.so"),
        ("drvGetDevNum", owners.DRIVER, "libascend_hal.so"),
        ("PyList_New", owners.PYTHON, "libpython3.7m.so.1.0"),
        ("_Py_NoneStruct", owners.PYTHON, "libpython3.7m.so.1.0"),
        ("XML_SetHashSalt", owners.UNKNOWN, ""),
    ],
)
def test_a_name_tells_whose_it_is_and_which_library_defines_it(name: str, kind: str, of: str) -> None:
    assert owner_by_name(name) == owners.Owner(kind, of)


class Place:
    """A server, and an adapter over libraries of CANN, Python and the machine, in a directory for each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ge = library(root / "cann", "libascendcl.so", "void aclInit(void) {} void aclFinalize(void) {}")
        self.python = library(
            root / "python", "libpython3.7m.so.1.0", "void Py_Initialize(void) {} void PyInit(void) {}"
        )
        self.adapter = self.make_adapter(root / "cann")
        self.server = program(
            root,
            "server",
            f"void {TF_CALL}(void) {{}} int main(void) {{ return 0; }}",
            against=[self.adapter, self.python],
        )

    def make_adapter(self, directory: Path, *calls: str, against: tuple[Path, ...] = ()) -> Path:
        needed = [self.ge, self.python, *against]
        return library(directory, ADAPTER, calling(TF_CALL, "aclInit", "Py_Initialize", *calls), against=needed)

    def check(self, *first: Path, adapter: Path | None = None) -> CompatReport:
        path = [*first, self.root / "cann", self.root / "python"]
        return compat.check_server(ServerCase(self.server, adapter=adapter, library_path=path))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("owners"))


@pytest.mark.parametrize(
    ("symbol", "kind", "named", "cure"),
    [
        ("aclmdlLoadFromFile", "symbol-of-cann", "libascendcl.so should define it", "cann-info"),
        ("rtSetDevice", "symbol-of-cann", "libruntime.so should define it", "cann-info"),
        ("TdtHostPushData", "symbol-of-cann", "libdatatransfer.so should define it", "cann-info"),
        ("not_known_to_anybody", "symbol-of-cann", "one of its libraries should define it", "cann-info"),
        ("halMemAlloc", "symbol-of-driver", "libascend_hal.so should define it", "driver"),
        ("PyList_New", "symbol-of-python", "libpython3.7m.so.1.0 should define it", "LD_LIBRARY_PATH"),
        ("_ZN10tensorflow4FreeEv", "undefined-symbol", "", "rebuild-after-cann"),
        ("_ZN6google8protobuf4FreeEv", "undefined-symbol", "", "rebuild-after-cann"),
    ],
)
def test_what_is_missing_is_told_with_its_owner_the_library_and_a_cure_of_its_own(
    symbol: str, kind: str, named: str, cure: str, place: Place, tmp_path: Path
) -> None:
    assert place.check().ok
    report = place.check(adapter=place.make_adapter(tmp_path, symbol))
    (finding,) = [finding for finding in report.findings if finding.needs_action]
    assert finding.kind == kind
    assert named in finding.what
    assert cure in finding.cure
    assert ("rebuild-after-cann" in finding.cure) == (kind == "undefined-symbol"), "which helps for nothing else"


def test_an_older_copy_of_a_machines_library_is_named_with_the_one_that_has_the_symbol_and_the_cure_helps(
    place: Place, tmp_path: Path
) -> None:
    """XML_SetHashSalt of Python's pyexpat, with an old libexpat in a directory of LD_LIBRARY_PATH."""
    new = library(tmp_path / "system", "libexpat.so.1", "void XML_Parse(void) {} void XML_SetHashSalt(void) {}")
    old = library(tmp_path / "old", "libexpat.so.1", "void XML_Parse(void) {}")
    python = library(
        tmp_path / "python", "libpython3.7m.so.1.0", calling("XML_SetHashSalt").replace("adapter", "Py_Initialize"),
        "-Wl,-z,now", against=[new],
    )  # fmt: skip
    for first, second, ok in ((old, new, False), (new, old, True)):
        report = place.check(python.parent, first.parent, second.parent)
        assert report.ok == ok, report.text()
        if not ok:
            (finding,) = report.findings
            assert finding.kind == "symbol-of-system"
            assert f"libexpat.so.1 should define it; what is here, {old}, is older" in finding.what
            assert f"take {old.parent} out of LD_LIBRARY_PATH" in finding.cure
            assert str(new) in finding.cure
    (finding,) = place.check(python.parent, old.parent).findings
    assert f"install a newer libexpat.so.1 than {old}" in finding.cure or "has it" in finding.cure


def test_another_python_is_no_use_behind_the_servers_own_and_so_the_cure_is_another_build(
    place: Place, tmp_path: Path
) -> None:
    """DT_RPATH is searched before LD_LIBRARY_PATH, so nothing in that can take the place of the build's libpython."""
    newer = library(tmp_path / "newer", "libpython3.7m.so.1.0", "void Py_Initialize(void) {} void PyList_New(void) {}")
    adapter = place.make_adapter(tmp_path, "PyList_New")
    main = f"void {TF_CALL}(void) {{}} int main(void) {{ return 0; }}"
    own = f"-Wl,--disable-new-dtags,-rpath,{place.python.parent}"
    server = program(tmp_path, "server", main, own, against=[place.adapter, place.python])
    path = [newer.parent, place.root / "cann"]
    report = compat.check_server(ServerCase(server, adapter=adapter, library_path=path))
    (finding,) = [finding for finding in report.findings if finding.needs_action]
    assert "python_prefix" in finding.cure
    assert "build-serving" in finding.cure
    assert "LD_LIBRARY_PATH" not in finding.cure
    without = program(tmp_path, "other", main, against=[place.adapter, place.python])
    assert compat.check_server(ServerCase(without, adapter=adapter, library_path=path)).ok, "there it would have helped"


def test_symbols_of_one_owner_are_one_finding_that_names_each_library(place: Place, tmp_path: Path) -> None:
    adapter = place.make_adapter(tmp_path, "aclmdlUnload", "rtSetDevice", "aclrtFree", "_ZN10tensorflow4FreeEv")
    server, cann = place.check(adapter=adapter).findings
    assert (server.kind, cann.kind) == ("undefined-symbol", "symbol-of-cann")
    assert "libascendcl.so and libruntime.so should define them" in cann.what
    assert cann.details == (
        "aclmdlUnload, of libascendcl.so",
        "aclrtFree, of libascendcl.so",
        "rtSetDevice, of libruntime.so",
    )


@pytest.mark.parametrize("name", ["libascend_hal.so", "libdrvdsmi_host.so", "libdcmi.so"])
def test_a_missing_library_of_the_driver_calls_for_the_driver_or_its_mount_and_not_for_cann(
    name: str, place: Place, tmp_path: Path
) -> None:
    hal = library(tmp_path / "driver", name, "void hal(void) {}")
    adapter = place.make_adapter(tmp_path / "adapter", against=(hal,))
    report = place.check(adapter=adapter)
    (finding,) = report.findings
    assert (finding.kind, finding.where) == ("driver-not-found", name)
    assert "/usr/local/Ascend/driver" in finding.cure
    assert "mount" in finding.cure
    assert "toolkit" not in finding.cure
    assert not report.ok
    assert report.fits_where_a_driver_is, "a machine that builds has none"
    assert place.check(tmp_path / "driver", adapter=adapter).ok
