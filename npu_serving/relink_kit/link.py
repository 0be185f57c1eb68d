"""The final link of a kit: which linker does it, what it is given of the adapter, and what its failures mean."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Collection
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.cann.adapter import Adapter
from npu_serving.console import Reporter
from npu_serving.errors import (
    AdapterError,
    DiskFullError,
    MissingToolError,
    OutOfMemoryError,
    ProgramError,
    VerificationError,
)
from npu_serving.linking.adapter_symbols import exports_list, symbols_script
from npu_serving.linking.linkers import AUTO, KINDS, Linker, choose, found_linkers, identified, known_linkers
from npu_serving.linking.output_place import place_for_output
from npu_serving.relink_kit.kit_file import LINKER, OUTPUT, Kit

_ALSO = "ld"


def the_linker(kit: Kit, wanted: str, *, but_for: Collection[str] = ()) -> Linker:
    """The linker to link with: the kind that is wanted, the program at that path, or for "auto" the quickest here that
    is not of the kinds `but_for`.

    Raises MissingToolError where there is none, or only one that is too old or of another kind.
    """
    if wanted not in (AUTO, *KINDS):
        return _named(wanted)
    names = (*(row.program for row in known_linkers().values()), _ALSO)
    found = [path for name in names if (path := shutil.which(name, path=_path())) is not None]
    here = found_linkers(found, lambda word: _printed(Path(word)))
    others = [linker for linker in here if linker.kind not in but_for]
    return choose(wanted, kit.file.built_with_linker, others)


def _named(path: str) -> Linker:
    program = Path(shutil.which(path, path=_path()) or os.path.abspath(os.path.expanduser(path)))  # noqa: PTH111 - an unknown ~user stays
    if not os.path.isfile(program) or not os.access(program, os.X_OK):  # noqa: PTH113 - False for a name that is too long
        raise MissingToolError(
            f"There is no linker {path}.",
            cause="the path was mistyped, or it is not installed",
            cure=f"--linker with {AUTO}, {', '.join(KINDS)}, or the path of one",
        )
    linker = identified(_printed(program), str(program))
    if linker is None or linker.kind not in known_linkers():
        raise MissingToolError(
            f"{program} is {linker.text() if linker is not None else 'no linker that is known'}.",
            cause="no server was ever linked with it",
            cure=f"--linker with {AUTO}, {', '.join(KINDS)}, or the path of one",
        )
    if not linker.is_new_enough:
        row = known_linkers()[linker.kind]
        raise MissingToolError(
            f"{program} is {linker.text()}, and {row.least} is the least.",
            cause=row.why,
            cure=f"install {row.packages}",
        )
    return linker


def _path() -> str:
    """Where programs are looked for; those of the system also where PATH lacks them."""
    return f"{os.environ.get('PATH', '')}:{process.DEFAULT_PATH}"


def _printed(program: Path) -> str:
    try:
        return process.run([program, "--version"], check=False, timeout_s=20).output
    except (MissingToolError, ProgramError, TimeoutError):
        return ""


def write_adapter_files(kit: Kit, members: Path, adapter: Adapter) -> None:
    """Puts the adapter and what is made of it where the command expects them.

    AdapterError for one with another SONAME, and for one that names a symbol no linker script can hold.
    """
    check_soname(kit, adapter)
    others, places = kit.file.fits.values(), kit.file.adapter_files
    fsutil.copy_file(adapter.path, members / places.adapter)
    fsutil.write_file(members / places.needed_symbols, symbols_script(adapter.elf, others))
    fsutil.write_file(members / places.exported_symbols, exports_list(adapter.elf, others))


def check_soname(kit: Kit, adapter: Adapter) -> None:
    """AdapterError for an adapter that the kit's server would not ask for."""
    soname = adapter.elf.soname or adapter.path.name
    if soname != kit.file.soname:
        raise AdapterError(
            f"The adapter {adapter.path} has the SONAME {soname}, and the server asks for {kit.file.soname}.",
            cause="it is another library, or the adapter of another TensorFlow",
            cure=f"use --adapter with the path of a {kit.file.soname}, or of its wheel",
        )


def link_server(kit: Kit, members: Path, linker: Linker, output: Path, reporter: Reporter) -> Path:
    """Links; returns `output`, a program. Raises ProgramError and DiskFullError with what the linker said."""
    environment = {**process.base_environment(), "LC_ALL": "C"}
    with place_for_output(output.parent) as place, reporter.progress(f"linking with {linker.text()}") as progress:
        named = str(place / output.name)
        words = [linker.program if word == LINKER else word.replace(OUTPUT, named) for word in kit.file.command]

        def tick() -> None:
            progress.update(output.stat().st_size if output.exists() else 0)

        finished = process.run(words, cwd=members, env=environment, on_tick=tick, check=False)
    if finished.returncode == 0 and output.is_file():
        output.chmod(0o755)
        return output
    raise _failed(finished, linker, output)


def _failed(finished: process.Finished, linker: Linker, output: Path) -> Exception:
    """What the end of a linker means."""
    error = process.failure(finished)
    said = finished.output
    if "No space left on device" in said or fsutil.free_bytes(output.parent) < 1 << 20:
        return DiskFullError(
            f"The linker could not write the server: the disk of {output.parent.parent} is full.",
            cause="a server has some hundred megabytes, and is written beside the former one",
            cure="free some space there (df -h shows how much), then run the same command again",
        )
    if finished.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL) or "out of memory" in said.lower():
        return OutOfMemoryError(
            f"The linker {linker.program} was killed.",
            cause="the machine, or this container, ran out of memory (dmesg shows it)",
            cure="free memory, or give the container more, then run the same command again",
            returncode=finished.returncode,
            output=said,
        )
    if "undefined reference" in said or "undefined symbol" in said:
        return VerificationError(
            error.what,
            cause="the adapter, or what the server was made of, needs a symbol that nothing in the kit defines",
            cure="install CANN with an adapter that the kit fits (python3 FILE show names the releases)",
        )
    return ProgramError(
        error.what,
        cause="it does not know an option that the kit gives it, or it is broken",
        cure="try another one: --linker lld, --linker gold or --linker bfd",
        returncode=finished.returncode,
        output=said,
    )
