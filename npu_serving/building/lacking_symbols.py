"""A server was linked and lacks symbols that its adapter needs of it: whether any link would help, and what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.build_command import build_command
from npu_serving.building.context import BuildContext
from npu_serving.building.saved_links import places_of, saved_link_of
from npu_serving.elf.demangle import demangled
from npu_serving.elf.elf_file import opened
from npu_serving.elf.object_symbols import defined_names
from npu_serving.elf.owners import is_named_as_xlas
from npu_serving.errors import FileAccessError, MissingSymbolsError, NoSuchSymbolError, NpuServingError
from npu_serving.linking.saved_link import located
from npu_serving.settings import XLA_FULL, XLA_OF_ADAPTER
from npu_serving.writers.shell import command_line

_OF_TENSORFLOW = "tensorflow"
_COMPILER = Path("external", "org_tensorflow", "tensorflow", "compiler")
_DIRECTORIES = ("jit", "tf2xla", "xla")
"""Those of TensorFlow's compiler that xla_cpu_jit is made of."""
_BEGIN = re.compile(r"_Z(?:T[VTIS]|GV|GR)?(?P<nested>N[rVK]*[RO]?)?")
_LENGTH = re.compile(r"[1-9][0-9]{0,3}")


def explained(context: BuildContext, error: MissingSymbolsError) -> MissingSymbolsError:
    """The error with its cause and a cure; NoSuchSymbolError where no object that the server is linked from has one of
    the symbols, so that all of XLA helps, or another adapter.
    """
    nowhere = _in_no_object(context, error.symbols)
    if not nowhere:
        return error
    names = demangled(nowhere)
    first = f"{names[nowhere[0]]}{f' and {len(nowhere) - 1} others' if len(nowhere) > 1 else ''}"
    cause = f"nothing that the server is linked from has {first}"
    adapter = context.adapter.wheel or context.adapter.path
    shown = command_line(["./inv", "adapter-needs", str(adapter)])
    cure = f"take the adapter of a release that is known, with --adapter PATH: {shown} names them"
    if context.settings.xla == XLA_OF_ADAPTER and all(is_of_xla(name, context.output_base) for name in nowhere):
        cause = f"{first} is XLA's, of which the server gets no more than the known adapters call"
        cure = f"build it with all of XLA: {build_command(context.settings, xla=XLA_FULL)}"
    return NoSuchSymbolError(error.what, symbols=nowhere, cause=cause, cure=cure)


def _in_no_object(context: BuildContext, symbols: Iterable[str]) -> tuple[str, ...]:
    """Those that none of the link's objects defines; none where it isn't known what the link reads."""
    wanted = {name.encode("utf-8", "surrogateescape"): name for name in symbols}
    saved = saved_link_of(context)
    if saved is None:
        return ()
    places = places_of(context)
    root = located(Path(saved.directory), "", places)
    for item in saved.inputs:
        if item.name.startswith("/") or not wanted:
            continue
        try:
            for name in _has(located(root, item.name, places), wanted):
                del wanted[name]
        except NpuServingError:
            return ()  # nothing is certain then
    return tuple(sorted(wanted.values()))


def _has(path: Path, names: Iterable[bytes]) -> list[bytes]:
    """Those that an object defines, or that an archive speaks of."""
    if path.suffix == ".o":
        with opened(path) as image:
            defined = set(defined_names(image))
        return [name for name in names if name in defined]
    if path.suffix in (".a", ".lo"):
        held = fsutil.read_bytes(path)
        return [name for name in names if b"\0" + name + b"\0" in held]
    return []


def is_of_xla(symbol: str, output_base: Path) -> bool:
    """Whether a mangled name is of XLA or LLVM, as far as its namespace says, and else TensorFlow's own sources, which
    Bazel has unpacked below its output base.
    """
    if is_named_as_xlas(symbol):
        return True
    scope = _qualified(symbol)
    return (
        scope[:1] == (_OF_TENSORFLOW,)
        and len(scope) > 1
        and any(_declares(text, scope[1:]) for text in _sources(output_base / _COMPILER))
    )


def _qualified(symbol: str) -> tuple[str, ...]:
    """The parts of a qualified name as far as they are plain words: ("tensorflow", "GraphCycles", "InsertEdge")."""
    begin = _BEGIN.match(symbol)
    if begin is None:
        return ()
    parts, at = [], begin.end()
    while (length := _LENGTH.match(symbol, at)) is not None:
        at = length.end() + int(length.group())
        parts.append(symbol[length.end() : at])
        if not begin["nested"]:
            break
    return tuple(parts)


def _sources(directory: Path) -> Iterator[str]:
    for path in sorted(path for name in _DIRECTORIES for path in (directory / name).rglob("*")):
        if path.suffix in (".h", ".cc") and not path.name.endswith("_test.cc"):
            try:
                yield fsutil.read_text(path)
            except FileAccessError:
                continue


def _declares(text: str, parts: tuple[str, ...]) -> bool:
    """Whether a source has the function, or the class with all further words of the name."""
    if not all(part in text for part in parts):
        return False
    if len(parts) == 1:
        return re.search(rf"\b{re.escape(parts[0])}\s*\(", text) is not None
    return all(re.search(rf"\b{re.escape(part)}\b", text) for part in parts) and (
        re.search(rf"\b(?:class|struct|namespace|enum)\s+{re.escape(parts[0])}\b(?!\s*;)", text) is not None
    )
