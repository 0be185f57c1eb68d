"""The files that a final link reads: those its words name, what is found for each `-l`, and what the toolchain adds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.linking.link_command import LinkWords, bare_command, files_named, linker_of, words_for_linker
from npu_serving.linking.linker_words import PLUGIN_OPTIONS, files_among, libraries_among, search_directories
from npu_serving.linking.saved_link import FoundLibrary, Places, place_of_library

_SCRIPT_BYTES = 1 << 16  # of a library that is a text for the linker, such as libc.so
_NAME = re.compile(r"[^\s()]+")
# Where a linker looks by itself, after all directories that it is given (ld --verbose).
_LAST = ("/usr/local/lib64", "/lib64", "/usr/lib64", "/usr/local/lib", "/lib", "/usr/lib")


@dataclass(frozen=True)
class LinkedFiles:
    """Paths are relative to the execroot, or absolute, as the runner sees them."""

    names: tuple[str, ...]
    searched: tuple[str, ...]
    """The directories in which the linker looks for libraries, in its order."""
    libraries: tuple[FoundLibrary, ...]


def linked_files(
    words: LinkWords, root: Path, places: Places, environment: Mapping[str, str], *, of_this_machine: bool
) -> LinkedFiles:
    """What the link in `root` reads; nothing of the system where the toolchain is not `of_this_machine`: an image is
    known by its digest.
    """
    handed_on = words_for_linker(words)
    shown = _shown(words, root, environment) if of_this_machine else ()
    searched = [*search_directories(handed_on), *search_directories(shown[1:]), *_LAST]
    if not of_this_machine:
        searched = [name for name in searched if not name.startswith("/")]
    searched = list(dict.fromkeys(searched))
    wanted = dict.fromkeys([*libraries_among(handed_on), *libraries_among(shown[1:])])
    libraries = tuple(
        FoundLibrary(library.name, place_of_library(library, searched, root, places), library.static)
        for library in wanted
    )
    found = [library.path for library in libraries if library.path]
    names = [*files_named(words), *found]
    if of_this_machine:
        names += _of_the_toolchain(words, shown, root, environment)
        names += [name for path in found for name in _named_by(Path(root, path), searched)]
    return LinkedFiles(tuple(dict.fromkeys(map(_plain, names))), tuple(searched), libraries)


def _plain(name: str) -> str:
    return os.path.normpath(name) if name.startswith("/") else name


def _shown(words: LinkWords, root: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What gcc says that it would start (-###) of a link with the libraries that it adds, and none of ours."""
    asked = [word for word in words.command if not word.startswith(("-L", "-Wl,@", "@"))]
    return bare_command(process.run([*asked, "-###"], cwd=root, env=environment, timeout_s=60).stderr)


def _of_the_toolchain(
    words: LinkWords, shown: Sequence[str], root: Path, environment: Mapping[str, str]
) -> Iterator[str]:
    """Driver, collect2, linker, plugin, crt1.o …"""
    linker = _program(words.command[0], f"ld.{linker_of(words.command)}", root, environment)
    linker = linker or _program(words.command[0], "ld", root, environment)
    yield from (name for name in (words.command[0], *shown[:1], linker) if name)
    yield from (word for word in files_among(shown[1:]) if word.startswith("/") and Path(word).is_file())
    yield from (word for option, word in zip(shown, shown[1:]) if option in PLUGIN_OPTIONS)


def _program(driver: str, name: str, root: Path, environment: Mapping[str, str]) -> str:
    answer = process.run([driver, f"-print-prog-name={name}"], cwd=root, env=environment, timeout_s=60).stdout.strip()
    found = process.find_program(answer, path=environment["PATH"])
    return str(found) if found is not None else ""


def _named_by(library: Path, directories: Iterable[str]) -> Iterator[str]:
    """What a library names that is a text for the linker."""
    if library.stat().st_size > _SCRIPT_BYTES:
        return
    text = fsutil.read_text(library)
    if not text.startswith(("\x7fELF", "!<")):
        named = (Path(directory, name) for name in _NAME.findall(text) for directory in directories)
        yield from (str(path) for path in named if path.is_absolute() and path.is_file())
