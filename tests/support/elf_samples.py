"""Libraries and programs that the ELF tests compile for themselves."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from npu_serving import process

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def library(
    directory: Path,
    name: str,
    source: str,
    *flags: str,
    against: Sequence[Path] = (),
    soname: str | None = None,
    versions: str | None = None,
) -> Path:
    """Compiles `source` to directory/name, linked with the libraries `against` under their own names."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    arguments = ["-shared", "-fPIC", f"-Wl,-soname,{name if soname is None else soname}", "-Wl,--allow-shlib-undefined"]
    if soname == "":
        arguments.pop(2)
    if versions is not None:
        script = directory / f"{name}.map"
        script.write_text(versions)
        arguments.append(f"-Wl,--version-script,{script}")
    return _compile(path, source, [*arguments, *flags], against)


def program(directory: Path, name: str, source: str, *flags: str, against: Sequence[Path] = ()) -> Path:
    """Compiles `source` to the program directory/name; it finds nothing but the system's libraries by itself."""
    directory.mkdir(parents=True, exist_ok=True)
    return _compile(directory / name, source, ["-Wl,--allow-shlib-undefined", *flags], against)


def _compile(path: Path, source: str, flags: Sequence[str], against: Sequence[Path]) -> Path:
    compiler, suffix = ("g++", ".cc") if "#include <string>" in source else ("gcc", ".c")
    text = path.with_name(path.name + suffix)
    text.write_text(source)
    linked = [item for file in against for item in (f"-L{file.parent}", f"-l:{file.name}")]
    process.run([compiler, "-w", "-O1", "-o", path, "-Wl,--no-as-needed", text, *flags, *linked])
    text.unlink()
    return path


def for_aarch64(path: Path) -> Path:
    """Makes a file say that it is for aarch64."""
    data = bytearray(path.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path.write_bytes(data)
    return path


def without_sections(path: Path, copy: Path) -> Path:
    """A copy without section headers, as sstrip(1) leaves it."""
    data = bytearray(path.read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    copy.write_bytes(data)
    return copy


def big_endian(path: Path, copy: Path) -> Path:
    """The same file in the other byte order: every table that a reader looks at; code and data stay as they are."""
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        elf = ELFFile(file)
        header = elf.header
        tables = [(16, "HHIQQQIHHHHHH", 1)]
        tables.append((header.e_phoff, "IIQQQQQQ", header.e_phnum))
        tables.append((header.e_shoff, "IIQQQQIIQQ", header.e_shnum))
        for section in elf.iter_sections():
            tables += _tables_of(section, bytes(data))
    data[5] = 2
    for offset, form, count in tables:
        size = struct.calcsize(f"<{form}")
        for at in range(offset, offset + count * size, size):
            struct.pack_into(f">{form}", data, at, *struct.unpack_from(f"<{form}", data, at))
    copy.write_bytes(data)
    return copy


def _tables_of(section: Section, data: bytes) -> list[tuple[int, str, int]]:
    """Offset, form and number of the records of one section."""
    start, size = section["sh_offset"], section["sh_size"]
    records = {"SHT_DYNSYM": "IBBHQQ", "SHT_SYMTAB": "IBBHQQ", "SHT_DYNAMIC": "QQ", "SHT_RELA": "QQq"}
    records |= {"SHT_HASH": "I", "SHT_GNU_versym": "H"}
    kind = section["sh_type"]
    if kind in records:
        return [(start, records[kind], size // struct.calcsize(f"<{records[kind]}"))]
    if kind == "SHT_NOTE":
        return [(start, "III", 1)]
    if kind == "SHT_GNU_HASH":
        bloom = struct.unpack_from("<I", data, start + 8)[0]
        return [
            (start, "IIII", 1),
            (start + 16, "Q", bloom),
            (start + 16 + 8 * bloom, "I", (size - 16) // 4 - 2 * bloom),
        ]
    forms = {"SHT_GNU_verneed": ("HHIII", "IHHII", 3), "SHT_GNU_verdef": ("HHHHIII", "II", 5)}
    return list(_version_tables(data, start, *forms[kind])) if kind in forms else []


def _version_tables(data: bytes, start: int, form: str, entry: str, first: int) -> Iterator[tuple[int, str, int]]:
    while True:
        fields = struct.unpack_from(f"<{form}", data, start)
        yield start, form, 1
        at = start + fields[first]
        while True:
            further = struct.unpack_from(f"<{entry}", data, at)[-1]
            yield at, entry, 1
            if not further:
                break
            at += further
        if not fields[-1]:
            return
        start += fields[-1]
