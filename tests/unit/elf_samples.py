"""Libraries and programs that the ELF tests compile for themselves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

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
    text = path.with_name(path.name + ".c")
    text.write_text(source)
    linked = [item for file in against for item in (f"-L{file.parent}", f"-l:{file.name}")]
    process.run(["gcc", "-w", "-O1", "-o", path, "-Wl,--no-as-needed", text, *flags, *linked])
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
