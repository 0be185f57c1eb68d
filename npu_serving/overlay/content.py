"""What third_party/tf_adapter has to hold: read from the adapter and libpython, rendered from third_party_overlay/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.errors import AdapterError, ElfError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.linking.adapter_symbols import exports_list, symbols_script
from npu_serving.overlay.patch_plan import PatchPlan
from npu_serving.settings import XLA_OF_ADAPTER
from npu_serving.templating import render

if TYPE_CHECKING:
    from npu_serving.elf.symbols import ElfFile

TEMPLATES = "third_party_overlay/tf_adapter"

# The guide's names (6.3, steps 3 to 5).
ADAPTER_FILE = f"lib{ADAPTER_SONAME}"
INTERNAL_STUB = "_pywrap_tensorflow_internal.so"
FRAMEWORK_STUB = "libtensorflow_framework.so"
FRAMEWORK_LINK = "libtensorflow_framework.so.1"
CMAKE_FILE = "CMakeLists.txt"
BUILD_FILE = "BUILD"
SYMBOLS_FILE = "needed_symbols.lds"  # Bazel knows a linker script by .lds
EXPORTS_FILE = "exported_symbols.lds"  # no script, but of files that the linker reads Bazel takes no other ending
NO_LINK_FILE = "no_link.lds"  # a shell script; as a linker script it is an input of the link, in a sandbox as well
OF_THE_ADAPTER = (SYMBOLS_FILE, EXPORTS_FILE)
"""The texts that differ from one adapter to the other."""
RPATH_FROM_PROGRAM = "../lib"  # from bin/ of an installed build to its libraries

_LIBRARY_NAME = re.compile(r"(lib[A-Za-z0-9_+.-]+?\.so)((?:\.[0-9]+)*)\Z")


@dataclass(frozen=True)
class OverlayInputs:
    """What the caller provides for the overlay. Both are ELF libraries for the same machine."""

    adapter: Path | None
    """_tf_adapter.so of the CANN that the server is to run with; None for an empty library with its name, and a link
    that is not run."""
    libpython: Path
    """The shared libpython that the adapter was linked with, such as libpython3.7m.so.1.0."""
    patches: PatchPlan | None = None
    """The fixes that the toolchain needs; None for none."""
    adapter_elf: ElfFile | None = None
    """What was read from the adapter already, with its digest; None where nothing was."""
    fits: tuple[KnownAdapter, ...] = ()
    """The adapters that the server is to fit besides this one."""
    xla: str = XLA_OF_ADAPTER
    """How much of XLA the server gets."""

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
    objects_text: str | None = None
    """For a build without an adapter: the text that there is with one, as far as objects are concerned."""

    @property
    def text_of_objects(self) -> str:
        """What of it decides the objects that are compiled and how they are linked; "" where nothing does."""
        if self.name in OF_THE_ADAPTER or self.text is None:
            return ""
        return self.text if self.objects_text is None else self.objects_text


def overlay_entries(inputs: OverlayInputs) -> tuple[OverlayEntry, ...]:
    """Every entry of third_party/tf_adapter, in the order in which they are put there.

    Raises AdapterError when one of the libraries is missing, is not an ELF library, is not for the same machine as the
    other one, or has a name that can't be written into a BUILD file.
    """
    python = _library(inputs.libpython, "libpython")
    adapter = inputs.adapter_elf
    if inputs.adapter is not None and adapter is None:
        adapter = _library(inputs.adapter, "the adapter")
    if adapter is not None and adapter.machine != python.machine:
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
        "no_link_file": NO_LINK_FILE if adapter is None else "",
        "adapter_stub": ADAPTER_FILE[len("lib") : -len(".so")] if adapter is None else "",
        "adapter_soname": ADAPTER_SONAME,
        "exports_file": EXPORTS_FILE,
        "rpath_from_program": RPATH_FROM_PROGRAM,
    }
    filters = {"as_link_option": link_option}
    cmake, build = (render(f"{TEMPLATES}/{name}.j2", filters, **values) for name in (CMAKE_FILE, BUILD_FILE))
    plain_cmake, plain_build = cmake, build
    if adapter is None:
        of_adapter = {**values, "no_link_file": "", "adapter_stub": ""}
        names = (CMAKE_FILE, BUILD_FILE)
        plain_cmake, plain_build = (render(f"{TEMPLATES}/{name}.j2", filters, **of_adapter) for name in names)
    others = [item.symbols for item in inputs.fits]
    content = [
        OverlayEntry(python_file, copy_of=inputs.libpython, copy_sha256=python.sha256),
        _adapter_entry(inputs, adapter, cmake),
        OverlayEntry(SYMBOLS_FILE, text=symbols_script(adapter, others)),
        OverlayEntry(EXPORTS_FILE, text=exports_list(adapter, others)),
        OverlayEntry(CMAKE_FILE, text=cmake, objects_text=plain_cmake),
        OverlayEntry(INTERNAL_STUB, built_from=cmake),
        OverlayEntry(FRAMEWORK_STUB, built_from=cmake),
        OverlayEntry(FRAMEWORK_LINK, link_to=FRAMEWORK_STUB),
        OverlayEntry(BUILD_FILE, text=build, objects_text=plain_build),
    ]
    if python_link != python_file:
        content.insert(1, OverlayEntry(python_link, link_to=python_file))
    if adapter is None:
        content.append(OverlayEntry(NO_LINK_FILE, text=render(f"{TEMPLATES}/no_link.sh.j2"), objects_text=""))
    return tuple(content)


def _adapter_entry(inputs: OverlayInputs, adapter: ElfFile | None, cmake: str) -> OverlayEntry:
    if adapter is None:
        return OverlayEntry(ADAPTER_FILE, built_from=cmake)
    return OverlayEntry(ADAPTER_FILE, copy_of=inputs.adapter, copy_sha256=adapter.sha256)


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
