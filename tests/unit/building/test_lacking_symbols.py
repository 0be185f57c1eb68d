"""What is said of symbols that a new server lacks, and whether all of XLA is offered as the cure."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from elf_samples import needs_gcc

from npu_serving.building import lacking_symbols
from npu_serving.building.context import BuildContext
from npu_serving.building.lacking_symbols import explained, is_of_xla
from npu_serving.errors import MissingSymbolsError, NoSuchSymbolError
from npu_serving.linking.saved_link import LinkInput, SavedLink
from npu_serving.settings import Settings

HERE, IN_ARCHIVE, LOST = "_ZN10tensorflow4HereEv", "_ZN10tensorflow9InArchiveEv", "_ZN10tensorflow4LostEv"
CLUSTER = "_ZN10tensorflow14MarkForCluster3RunEv"
CYCLES = "_ZNK10tensorflow11GraphCycles7HasEdgeEii"


@pytest.fixture
def output_base(tmp_path: Path) -> Path:
    """An output base with a little of TensorFlow's compiler."""
    compiler = tmp_path / "external/org_tensorflow/tensorflow/compiler"
    for name, text in {
        "jit/mark.h": "class OpKernelContext;\nclass MarkForCluster : public Pass {\n  Status Run() override;\n};",
        "jit/mark.cc": "class OpKernelContext;\nvoid Helper(int x) {}\nvoid f(OpKernelContext* c) { c->CtxFailure(); }",
        "jit/mark_test.cc": "void OnlyTested() {}",
        "tf2tensorrt/convert.h": "void OfTensorRt();",
    }.items():
        (compiler / name).parent.mkdir(parents=True, exist_ok=True)
        (compiler / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("symbol", "is_there"),
    [
        ("_ZN3xla14HloInstruction3RunEv", True),
        ("_ZTVN4llvm6ModuleE", True),
        (CLUSTER, True),
        ("_ZN10tensorflow6HelperEi", True),
        ("_ZN10tensorflow6NobodyEv", False),
        ("_ZN10tensorflow15OpKernelContext10CtxFailureEv", False),  # only used there
        ("_ZN10tensorflow10OnlyTestedEv", False),
        ("_ZN10tensorflow9OfTensorRtEv", False),
        ("_ZN6google8protobuf6HelperEi", False),
        ("_Z6Helperi", False),
        ("Helper", False),
        ("_ZN10tensorflow", False),
        ("_ZN99999999xla", False),
    ],
)
def test_a_symbol_is_xlas_by_its_namespace_or_where_the_sources_of_the_compiler_have_it(
    symbol: str, is_there: bool, output_base: Path
) -> None:
    assert is_of_xla(symbol, output_base) == is_there


def test_where_nothing_is_unpacked_the_namespace_alone_tells(tmp_path: Path) -> None:
    assert not is_of_xla(CLUSTER, tmp_path)
    assert is_of_xla("_ZN3xla1fEv", tmp_path)


@pytest.fixture
def context(output_base: Path, monkeypatch: pytest.MonkeyPatch) -> BuildContext:
    """What is built from, with a link of one object and one archive that were kept."""
    root = output_base / "execroot"
    root.mkdir()
    for name, symbol in (("a", HERE), ("b", IN_ARCHIVE)):
        (root / f"{name}.c").write_text(
            f"void {symbol}(void) {{}} void {LOST}(void); void call{name}(void) {{ {LOST}(); }}"
        )
        subprocess.run(["gcc", "-c", f"{name}.c"], cwd=root, check=True)
    (root / "b.c").write_text(f"void {IN_ARCHIVE}(void) {{}}")
    subprocess.run(["gcc", "-c", "b.c"], cwd=root, check=True)
    subprocess.run(["ar", "rcs", "b.a", "b.o"], cwd=root, check=True)
    inputs = tuple(LinkInput(name, "", 0, 0) for name in ("p.params", "a.o", "b.a", "/usr/lib/crt1.o"))
    (root / "p.params").write_text(LOST)
    saved = SavedLink("d", str(root), "out", ("gcc",), (), {}, inputs, (), "gold")
    monkeypatch.setattr(lacking_symbols, "saved_link_of", lambda _context: saved)
    monkeypatch.setattr(lacking_symbols, "places_of", lambda _context: ())
    adapter = SimpleNamespace(path=Path("/a b/_tf_adapter.so"), wheel=None)
    return cast(BuildContext, SimpleNamespace(settings=Settings(), output_base=output_base, adapter=adapter))


def error(*symbols: str) -> MissingSymbolsError:
    return MissingSymbolsError("It lacks them.", symbols=symbols, cure="as found")


@needs_gcc
def test_what_an_object_or_an_archive_has_was_lost_by_the_link_and_another_may_help(context: BuildContext) -> None:
    given = error(HERE, IN_ARCHIVE)
    assert explained(context, given) is given


@needs_gcc
def test_what_nothing_has_no_link_helps_and_the_adapter_is_named(context: BuildContext) -> None:
    found = explained(context, error(HERE, LOST))
    assert isinstance(found, NoSuchSymbolError)
    assert found.symbols == (LOST,)
    assert "tensorflow::Lost()" in found.cause
    assert found.cure.endswith("./inv adapter-needs '/a b/_tf_adapter.so' names them")


@needs_gcc
def test_all_of_xla_is_the_cure_only_where_all_that_is_lacking_is_xlas_and_the_server_had_a_part(
    context: BuildContext,
) -> None:
    helped = explained(context, error(HERE, CLUSTER, "_ZN3xla1fEv"))
    assert helped.cure == "build it with all of XLA: ./inv build-serving --xla full"
    assert "XLA's" in helped.cause
    assert "--xla" not in explained(context, error(CLUSTER, LOST)).cure
    full = dataclasses.replace(context.settings, xla="full")
    whole = cast(BuildContext, SimpleNamespace(**{**vars(context), "settings": full}))
    assert "--xla" not in explained(whole, error(CLUSTER)).cure, "it would lead here again"


@needs_gcc
def test_where_an_object_cannot_be_read_nothing_is_certain(context: BuildContext, output_base: Path) -> None:
    (output_base / "execroot" / "a.o").write_bytes(b"\x7fELF")
    given = error(LOST)
    assert explained(context, given) is given
