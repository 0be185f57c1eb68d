"""Archives of object files with their index, byte for byte those of `ar qcsD` of GNU binutils 2.40.

Written here as the toolchain's own `ar` may be in an image only, and may make no index for another processor's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.elf.elf_file import opened
from npu_serving.elf.object_symbols import defined_names
from npu_serving.errors import RequestError

MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60
_LONGEST_NAME = 15  # letters that the header has room for, before the slash that ends a name
LARGEST = 1 << 32  # offsets of the index have 32 bits

Read = Callable[[Path], Iterator[bytes]]


def archive_pieces(objects: Sequence[Path], read: Read) -> Iterator[bytes]:
    """The bytes of an archive of `objects` in that order; two of one name are both in it.

    `read` gives the bytes of one. Raises ElfError for a file of another kind.
    """
    sizes = [size_of(path) for path in objects]
    names = [_defined(path) for path in objects]
    long_names, fields = _name_fields(objects)
    strings = b"".join(name + b"\0" for of_object in names for name in of_object)
    index_size = 4 + 4 * sum(map(len, names)) + len(strings)
    at = len(MAGIC) + _HEADER_SIZE + _even(index_size)
    at += _HEADER_SIZE + len(long_names) if long_names else 0
    offsets = []
    for size in sizes:
        offsets.append(at)
        at += _HEADER_SIZE + _even(size)
    if at > LARGEST:
        raise RequestError(
            f"The objects beside {objects[0]} are more than 4 GB: an archive can't hold them.",
            cause="they hold debug information",
            cure="build without -g: leave it out of bazel_args in invoke.yaml, then run ./inv build-serving",
        )
    yield MAGIC
    places = [offset for offset, of_object in zip(offsets, names) for _ in of_object]
    yield _header(b"/", _even(index_size), owned=True, mode=b"0")
    yield struct.pack(f">I{len(places)}I", len(places), *places) + strings + b"\0" * (index_size % 2)
    if long_names:
        yield _header(b"//", len(long_names)) + long_names
    for path, size, field in zip(objects, sizes, fields):
        yield _header(field, size, owned=True, mode=b"644")
        yield from read(path)
        yield b"\n" * (size % 2)


def size_of(path: Path) -> int:
    """The file's size in bytes; NoSuchFileError where it is gone."""
    with fsutil.explained(path, doing="read"):
        return path.stat().st_size


def _defined(path: Path) -> list[bytes]:
    with opened(path) as image:
        return defined_names(image)


def _even(size: int) -> int:
    return size + size % 2


def _header(name: bytes, size: int, *, owned: bool = False, mode: bytes = b"") -> bytes:
    """No time, and user and group 0; the table of long names has not even these."""
    nothing = b"0" if owned else b""
    return b"%-16s%-12s%-6s%-6s%-8s%-10d`\n" % (name, nothing, nothing, nothing, mode, size)


def _name_fields(objects: Sequence[Path]) -> tuple[bytes, list[bytes]]:
    """The table of the names that are too long for a header, and what stands in each object's header."""
    table, fields = b"", []
    for path in objects:
        name = path.name.encode("utf-8", "surrogateescape")
        if len(name) <= _LONGEST_NAME:
            fields.append(name + b"/")
        else:
            fields.append(b"/%d" % len(table))
            table += name + b"/\n"
    return table + b"\n" * (len(table) % 2), fields
