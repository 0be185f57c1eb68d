"""What the loader refuses a library for by its headers alone, whatever symbols are in it.

The rules are those of glibc's open_verify() and _dl_map_object_from_fd() (elf/dl-load.c), and of its dl-prop.h. The
kernel, which loads the program itself, asks for less.
"""

from __future__ import annotations

from typing import NamedTuple

from npu_serving.elf.elf_file import Segment
from npu_serving.elf.loader_rules import LoaderRules
from npu_serving.elf.processor import Processor, level_names
from npu_serving.elf.symbols import ElfFile

_VERSION_AT, _SYSTEM_AT, _ABI_AT, _PADDING_AT = 6, 7, 8, 9  # in e_ident
_OF_THE_SYSTEM_V, _GNU = 0, 3  # ELFOSABI_SYSV, ELFOSABI_GNU
_NEWEST_ABI = 3  # LIBC_ABI_ABSOLUTE, of every glibc since 2.28


class FileRefusal(NamedTuple):
    """Why the loader ends at a file, and what helps."""

    why: str
    cure: str


def library_refusal(elf: ElfFile, processor: Processor, rules: LoaderRules) -> FileRefusal | None:
    """Why the loader would not map a library, if there is a reason in its headers."""
    why = _why_of_header(elf)
    if why:
        return FileRefusal(
            f"{elf.path} {why}.",
            f"put the original file of a build for Linux with glibc at {elf.path}: readelf -h shows its header",
        )
    return (
        page_refusal(elf, processor.page_bytes)
        or (_alignment_refusal(elf, processor) if rules.checks_alignment else None)
        or _gap_refusal(elf, processor.page_bytes)
    )


def page_refusal(elf: ElfFile, page_bytes: int) -> FileRefusal | None:
    """Why a file can't be mapped where memory has pages of that size; of a program, the kernel says so."""
    if all((item.address - item.offset) % page_bytes == 0 for item in elf.segments):
        return None
    return FileRefusal(
        f"{elf.path} is laid out for pages of {_size(_pages_of(elf.segments))}, but memory has pages of "
        f"{_size(page_bytes)} (ELF load command address/offset not page-aligned).",
        _page_cure(page_bytes),
    )


def level_refusal(elf: ElfFile, processor: Processor) -> FileRefusal | None:
    """Why a file that is marked for a newer processor ends the loader: CPU ISA level is lower than required."""
    lacking = elf.isa_needed & ~processor.isa_bits
    if not lacking:
        return None
    return FileRefusal(
        f"{elf.path} is marked for processors of the level {level_names(lacking)}, which this one lacks (CPU ISA level "
        "is lower than required).",
        f"take a build of {elf.path.name} for {processor.levels[0] if processor.levels else 'the x86-64 baseline'}, or "
        "run it on a newer processor; in a virtual machine, with the host's processor (-cpu host)",
    )


def _why_of_header(elf: ElfFile) -> str:
    ident = elf.ident
    if ident[_VERSION_AT] != 1:
        return (
            f"has version {ident[_VERSION_AT]} of the ELF format in its header (ELF file version ident does not match)"
        )
    if ident[_SYSTEM_AT] not in (_OF_THE_SYSTEM_V, _GNU):
        return f"is for another system: its OS ABI is {ident[_SYSTEM_AT]} (ELF file OS ABI invalid)"
    if ident[_ABI_AT] > (_NEWEST_ABI if ident[_SYSTEM_AT] == _GNU else 0):
        return f"is for another C library: its ABI version is {ident[_ABI_AT]} (ELF file ABI version invalid)"
    if any(ident[_PADDING_AT:]):
        return "is damaged in its first 16 bytes (nonzero padding in e_ident)"
    if elf.version != 1:
        return f"has version {elf.version} of the ELF format in its header (ELF file version does not match)"
    return ""


def _alignment_refusal(elf: ElfFile, processor: Processor) -> FileRefusal | None:
    """Before glibc 2.35 the alignment that a file asks for counted as well."""
    for item in elf.segments:
        if item.alignment % processor.page_bytes or (item.alignment and (item.address - item.offset) % item.alignment):
            return FileRefusal(
                f"{elf.path} asks for an alignment of {_size(item.alignment)}, but memory has pages of "
                f"{_size(processor.page_bytes)} (ELF load command alignment not page-aligned).",
                _page_cure(processor.page_bytes),
            )
    return None


def _gap_refusal(elf: ElfFile, page_bytes: int) -> FileRefusal | None:
    """Where segments don't follow each other page by page, what lies between the first and the last is closed to any
    access: _dl_map_segments() gives up if the last begins within the pages of the first.
    """
    starts = [item.address // page_bytes for item in elf.segments]
    ends = [-(-(item.address + item.file_size) // page_bytes) for item in elf.segments]
    if ends[:-1] == starts[1:] or starts[-1] >= ends[0]:
        return None
    return FileRefusal(
        f"{elf.path} has its first and its last segment within one page of {_size(page_bytes)} (ELF load command "
        "address/offset not page-aligned).",
        _page_cure(page_bytes),
    )


def _page_cure(page_bytes: int) -> str:
    return (
        f"take the file as its maker ships it (strip and patchelf change this: patchelf --page-size {page_bytes}), or "
        f"link it with -Wl,-z,max-page-size={page_bytes}; or run a kernel with smaller pages (getconf PAGESIZE)"
    )


def _pages_of(segments: tuple[Segment, ...]) -> int:
    """The largest pages that the file could be mapped with."""
    apart = 0
    for item in segments:
        apart |= item.address - item.offset
    return apart & -apart


def _size(count: int) -> str:
    return f"{count >> 10} KiB" if count >= 1024 and count % 1024 == 0 else f"{count} bytes"
