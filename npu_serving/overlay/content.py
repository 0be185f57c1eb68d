"""What third_party/tf_adapter has to hold: read from the adapter and libpython, rendered from third_party_overlay/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.errors import AdapterError, ElfError, UnwritableValueError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.overlay.patch_plan import PatchPlan
from npu_serving.templating import render
from npu_serving.writers.linker_script import extern_script

if TYPE_CHECKING:
    from npu_serving.elf.symbols import ElfFile

TEMPLATES = "third_party_overlay/tf_adapter"

# The guide's names (6.3, steps 3 to 5).
ADAPTER_FILE = f"lib{ADAPTER_SONAME}"
INTERNAL_STUB = "_pywrap_tensorflow_internal.so"
FRAMEWORK_STUB = "libtensorflow_framework.so"
FRAMEWORK_LINK = "libtensorflow_framework.so.1"
CMAKE_FILE = "CMakeLists.txt"
SYMBOLS_FILE = "needed_symbols.lds"  # Bazel knows a linker script by .lds
OF_THE_ADAPTER = (SYMBOLS_FILE,)
"""The texts that differ from one adapter to the other."""
RPATH_FROM_PROGRAM = "../lib"  # from bin/ of an installed build to its libraries

_LIBRARY_NAME = re.compile(r"(lib[A-Za-z0-9_+.-]+?\.so)((?:\.[0-9]+)*)\Z")


@dataclass(frozen=True)
class OverlayInputs:
    """What the caller provides for the overlay. Both are ELF libraries for the same machine."""

    adapter: Path
    """_tf_adapter.so of the CANN that the server is to run with."""
    libpython: Path
    """The shared libpython that the adapter was linked with, such as libpython3.7m.so.1.0."""
    patches: PatchPlan | None = None
    """The fixes that the toolchain needs; None for none."""
    adapter_elf: ElfFile | None = None
    """What was read from the adapter already, with its digest; None where nothing was."""

    @cached_property
    def content(self) -> tuple[OverlayEntry, ...]:
        """What overlay_entries() says, read and rendered once."""
        return overlay_entries(self)


@dataclass(frozen=True)
class OverlayEntry:
    """One entry of the directory: exactly one of the four is set. Texts are UTF-8."""

    name: str
    text: str | None = None
    copy_of: Path | None = None
    link_to: str | None = None
    built_from: str | None = None
    """The CMake file that builds it."""
    copy_sha256: str = ""
    """The sha256 of `copy_of` as it was read."""


def overlay_entries(inputs: OverlayInputs) -> tuple[OverlayEntry, ...]:
    """Every entry of third_party/tf_adapter, in the order in which they are put there.

    Raises AdapterError when one of the libraries is missing, is not an ELF library, is not for the same machine as the
    other one, or has a name that can't be written into a BUILD file.
    """
    adapter = inputs.adapter_elf or _library(inputs.adapter, "the adapter")
    python = _library(inputs.libpython, "libpython")
    if adapter.machine != python.machine:
        raise AdapterError(
            f"{inputs.adapter} is built for {adapter.machine}, but {inputs.libpython} for {python.machine}.",
            cause="one of them comes from a machine with another processor",
            cure="use an adapter and a libpython for the machine that runs the server",
        )
    python_file, python_link = python_names(python.soname or inputs.libpython.name, inputs.libpython)
    values = {
        "adapter_file": ADAPTER_FILE,
        "python_link": python_link,
        "framework_stub": FRAMEWORK_STUB,
        "framework_soversion": FRAMEWORK_LINK.rpartition(".")[2],
        "internal_stub": INTERNAL_STUB,
        "internal_name": INTERNAL_STUB[: -len(".so")],
        "symbols_file": SYMBOLS_FILE,
        "rpath_from_program": RPATH_FROM_PROGRAM,
    }
    cmake = render(f"{TEMPLATES}/CMakeLists.txt.j2", {"as_link_option": link_option}, **values)
    content = [
        OverlayEntry(python_file, copy_of=inputs.libpython, copy_sha256=python.sha256),
        OverlayEntry(ADAPTER_FILE, copy_of=inputs.adapter, copy_sha256=adapter.sha256),
        OverlayEntry(SYMBOLS_FILE, text=symbols_script(adapter)),
        OverlayEntry(CMAKE_FILE, text=cmake),
        OverlayEntry(INTERNAL_STUB, built_from=cmake),
        OverlayEntry(FRAMEWORK_STUB, built_from=cmake),
        OverlayEntry(FRAMEWORK_LINK, link_to=FRAMEWORK_STUB),
        OverlayEntry("BUILD", text=render(f"{TEMPLATES}/BUILD.j2", {"as_link_option": link_option}, **values)),
    ]
    if python_link != python_file:
        content.insert(1, OverlayEntry(python_link, link_to=python_file))
    return tuple(content)


def python_names(soname: str, path: Path) -> tuple[str, str]:
    """The file's name, its SONAME, and the name that the linker is given: libpython3.7m.so.1.0, libpython3.7m.so."""
    found = _LIBRARY_NAME.match(soname)
    if found is None:
        raise AdapterError(
            f"{path} has the SONAME {soname!r}, which is not of the form libNAME.so.VERSION.",
            cause="it is not a libpython",
            cure="set python_prefix in invoke.yaml to a Python 3.7 that was configured with --enable-shared",
        )
    return soname, found[1]


def symbols_script(adapter: ElfFile) -> str:
    """A linker script that asks for what `adapter` needs of others, so that archive members with it are linked in."""
    from npu_serving.elf.compat import undefined_needs

    try:
        return extern_script(
            undefined_needs(adapter),
            "Written by npu-serving: what _tf_adapter.so needs of the program that loads it, or of CANN.",
        )
    except UnwritableValueError as error:
        raise AdapterError(
            f"{adapter.path} needs a symbol with an invalid name ({error.what}).",
            cause="the file is damaged",
            cure="install the CANN package again",
        ) from error


def _library(path: Path, role: str) -> ElfFile:
    from npu_serving.elf.symbols import read_elf

    if not path.exists():
        raise AdapterError(
            f"The file {path}, meant as {role}, does not exist.",
            cause="CANN or Python 3.7 is not installed where this project looks for it",
            cure="name the file: --adapter for the adapter, python_prefix in invoke.yaml for libpython",
        )
    try:
        elf = read_elf(path, digest=True)
    except ElfError as error:
        raise AdapterError(
            f"{path} can't be used as {role}: {error.what}", cause=error.cause, cure=error.cure
        ) from error
    if elf.type != "DYN":
        raise AdapterError(
            f"{path} can't be used as {role}: it is not a shared library ({elf.type}).",
            cure="name the file: --adapter for the adapter, python_prefix in invoke.yaml for libpython",
        )
    return elf


def link_option(file: str) -> str:
    """The linker's option for a library on its search path: -lNAME for libNAME.so."""
    return f"-l{file[len('lib') : -len('.so')]}"
