"""Archives of objects: byte for byte what GNU ar makes of them, whatever the processor that they are for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu_serving import fsutil, process
from npu_serving.errors import ElfError, RequestError
from npu_serving.packaging import object_archive
from npu_serving.packaging.object_archive import archive_pieces

needs_binutils = pytest.mark.skipif(shutil.which("ar") is None or shutil.which("g++") is None, reason="needs binutils")

SOURCES = {
    "every kind of symbol.cc": "int common; int f() { return 1; } __attribute__((weak)) int weak;\n"
    "extern int asked_for;\n"
    "int g() { return asked_for; } static int own; template<class T> T t(T x) { static T s; return s += x; }\n"
    "int use(int x) { return t(x) + own; }\n"
    'extern "C" { void one() {} void (*resolver())() { return one; } }\n'
    'void indirect() __attribute__((ifunc("resolver")));\n',
    "common.c": "int common; int another;",
    "fifteen_lette.c": "int exactly_fifteen;",
    "sixteen_letter.c": "int exactly_sixteen;",
    "nothing.c": "",
    "odd.c": "int odd;",
}  # fmt: skip


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects with every kind of symbol, with names of every length, in two directories; one has an odd size."""
    made = []
    for number in (1, 2):
        directory = tmp_path_factory.mktemp(f"objects{number}")
        for name, text in SOURCES.items():
            source = directory / name
            source.write_text(text)
            made.append(compiled(source, "g++" if source.suffix == ".cc" else "gcc"))
    with made[-1].open("ab") as file:
        file.write(b"\0")
    return made


def compiled(source: Path, compiler: str) -> Path:
    target = source.with_suffix(".o")
    process.run([compiler, "-fcommon", "-ffunction-sections", "-c", source, "-o", target])
    return target


def by_ar(directory: Path, members: Sequence[Path], ar: str = "ar") -> bytes:
    archive = directory / "by_ar.a"
    fsutil.remove(archive)
    process.run([ar, "qcsD", archive, *members])
    return archive.read_bytes()


def whole(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()


@needs_binutils
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_archive_is_byte_for_byte_the_one_that_gnu_ar_makes(
    objects: list[Path], tmp_path: Path, data: st.DataObject
) -> None:
    members = data.draw(st.lists(st.sampled_from(objects), min_size=1, max_size=8))
    assert b"".join(archive_pieces(members, whole)) == by_ar(tmp_path, members)


@needs_binutils
def test_two_objects_of_one_name_are_both_in_the_archive(objects: list[Path], tmp_path: Path) -> None:
    both = [path for path in objects if path.name == "odd.o"]
    assert len(both) == 2
    (tmp_path / "both.a").write_bytes(b"".join(archive_pieces(both, whole)))
    listed = process.run(["ar", "t", tmp_path / "both.a"]).stdout.split()
    assert listed == ["odd.o", "odd.o"]


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs aarch64-linux-gnu-gcc")
def test_objects_for_aarch64_are_indexed_on_any_machine(tmp_path: Path) -> None:
    made = []
    for name, text in SOURCES.items():
        if name.endswith(".c"):
            (tmp_path / name).write_text(text)
            made.append(compiled(tmp_path / name, "aarch64-linux-gnu-gcc"))
    assert b"".join(archive_pieces(made, whole)) == by_ar(tmp_path, made, "aarch64-linux-gnu-ar")


@needs_binutils
def test_an_object_with_more_sections_than_its_header_has_room_for_is_indexed(tmp_path: Path) -> None:
    source = tmp_path / "many.s"
    source.write_text("".join(f'.section .text.f{n},"ax"\n.globl f{n}\nf{n}: ret\n' for n in range(66_000)))
    process.run(["gcc", "-c", source, "-o", tmp_path / "many.o"])
    members = [tmp_path / "many.o"]
    assert b"".join(archive_pieces(members, whole)) == by_ar(tmp_path, members)


@needs_binutils
def test_what_is_no_object_is_refused_by_name(objects: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "text.o"
    text.write_text("not an object")
    with pytest.raises(ElfError, match=r"text\.o"):
        list(archive_pieces([objects[0], text], whole))
    with pytest.raises(ElfError, match="not an object file"):
        list(archive_pieces([Path("/bin/true")], whole))


@needs_binutils
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_object_is_an_error_and_never_anything_else(
    objects: list[Path], tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(objects[0].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.o"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        list(archive_pieces([damaged], whole))
    except ElfError as error:
        assert "damaged.o" in error.what


@needs_binutils
def test_objects_that_no_archive_can_hold_are_refused_with_a_cure(
    objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_archive, "LARGEST", 1000)
    with pytest.raises(RequestError, match="more than 4 GB") as raised:
        list(archive_pieces(objects, whole))
    assert "-g" in raised.value.cure
