"""What the linker itself is given where the compiler driver links: the words of `gcc -###`, with every file found.

Libraries are named by their files, and scripts such as libc.so are replaced by the words that they stand for, so that
nothing is left that only the machine of the build could answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Callable, Union

from npu_serving import fsutil
from npu_serving.errors import BuildFailedError
from npu_serving.linking.link_command import bare_command
from npu_serving.linking.linker_words import (
    DIRECTORY_OPTIONS,
    LIBRARY_OPTIONS,
    OUTPUT_OPTIONS,
    PLUGIN_OPTIONS,
    WITH_FILE,
    WITH_VALUE,
    LinkLibrary,
    is_static,
    joined_library,
    search_directories,
)
from npu_serving.relink_kit.kit_file import LINKER, OUTPUT

ELF, ARCHIVE = b"\x7fELF", b"!<arch>\n"
START_LIB, END_LIB = "--start-lib", "--end-lib"
_DROPPED = re.compile(r"-plugin-opt=.*|-fuse-ld=.*|-flto.*|-fno-lto.*|-debug|--sysroot=.*|-L.*|--library-path=.*")
"""What is for collect2 or for its plugin, which needs the compiler; and where libraries were looked for."""
_WRITTEN = ("-Map", "--Map", "--dependency-file")
"""What is for a file that the linker writes beside the server, on the machine of the build."""
_STANDARD = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CURE = "link on the build machine instead: ./inv rebuild-after-cann"

Find = Callable[[Sequence[str]], Mapping[str, Path]]
"""Those of the files that exist where the linker runs, by their names there: where they can be read here."""


@dataclass(frozen=True)
class LinkFile:
    """A file among the words: as it is named where the linker runs, and where it can be read here."""

    name: str
    path: Path
    option: str = ""
    """What stands before it in the same word: `--dynamic-list=`."""


Word = Union[str, LinkFile]


def linker_words(shown: str, parameter_file: str, parameters: Sequence[str]) -> tuple[str, ...]:
    """The words for the linker in what `gcc -###` showed, but for the plugin's; `parameters` in place of their file.

    BuildFailedError where none are shown.
    """
    command = bare_command(shown)
    if not command:
        raise BuildFailedError(
            f"The compiler did not show how it links:\n{shown[-600:]}",
            cause="it is a compiler other than gcc, or it can't link at all",
            cure="./inv doctor --runner host shows what is wrong with the compiler",
        )
    words: list[str] = []
    for word in command[1:]:
        words += parameters if parameter_file and word == f"@{parameter_file}" else [word]
    return tuple(_without_plugin(words))


def _without_plugin(words: Sequence[str]) -> Iterator[str]:
    following = iter(words)
    for word in following:
        if word in PLUGIN_OPTIONS:
            next(following, "")
        else:
            yield word


def resolved(words: Sequence[str], find: Find) -> tuple[Word, ...]:
    """The words with every file found, the linker and the output named by LINKER and OUTPUT, and no directory left.

    BuildFailedError for a file that is not there, or a linker script that is more than a list of libraries.
    """
    directories = search_directories(words)
    parsed = list(_parsed(words))
    asked = [item for item in parsed if not isinstance(item, str)]
    wanted = [name for item in asked for name in _names_of(item, directories)]
    found = dict(find(list(dict.fromkeys(wanted))))
    return (LINKER, *_Resolving(directories, found, find).words(parsed))


def needed_libraries(names: Sequence[str], words: Sequence[str], find: Find) -> dict[str, Path]:
    """Those libraries, by the names under which others need them, as far as the linker's directories have them."""
    directories = (*search_directories(words), *_STANDARD)
    candidates = {f"{directory}/{name}": name for name in names for directory in directories}
    found = find(list(candidates))
    places: dict[str, Path] = {}
    for candidate, name in candidates.items():
        if candidate in found:
            places.setdefault(name, found[candidate])
    return places


@dataclass(frozen=True)
class _Named:
    """A file among the words, not found yet."""

    name: str
    option: str = ""


_Item = Union[str, _Named, LinkLibrary]


def _names_of(item: _Item, directories: Sequence[str]) -> list[str]:
    if isinstance(item, LinkLibrary):
        return item.candidates(directories)
    return [item.name] if isinstance(item, _Named) else []


def _parsed(words: Sequence[str]) -> Iterator[_Item]:
    static, following = False, iter(words)
    for word in following:
        option, sign, value = word.partition("=")
        if word in OUTPUT_OPTIONS:
            next(following, "")
            yield from ("-o", OUTPUT)
        elif word in (*DIRECTORY_OPTIONS, "--sysroot"):
            next(following, "")
        elif option in _WRITTEN:
            if not sign:
                next(following, "")
        elif word in WITH_VALUE:
            yield from (word, next(following, ""))
        elif option in WITH_FILE:
            yield _Named(value if sign else next(following, ""), f"{option}=" if option.startswith("--") else option)
        elif word in LIBRARY_OPTIONS:
            yield LinkLibrary(next(following, ""), static)
        elif (joined := joined_library(word)) is not None:
            yield LinkLibrary(joined, static)
        elif not word.startswith("-"):
            yield _Named(word)
        elif not _DROPPED.fullmatch(word):
            static = is_static(word, static)
            yield word


class _Resolving:
    """The way from what the words ask for to files; `found` grows by what scripts ask for."""

    def __init__(self, directories: tuple[str, ...], found: dict[str, Path], find: Find) -> None:
        self._directories = directories
        self._found = found
        self._find = find
        self._in_group = False
        self._within: list[str] = []  # the scripts that are being read, each named by the one before

    def words(self, items: Sequence[_Item]) -> Iterator[Word]:
        """The words for those items."""
        for item in items:
            if isinstance(item, str):
                self._in_group = item in ("--start-group", "-(") or (
                    self._in_group and item not in ("--end-group", "-)")
                )
                yield item
            elif isinstance(item, LinkLibrary):
                yield from self._library(item)
            else:
                yield LinkFile(item.name, self._place(item.name, [item.name]), item.option)

    def _place(self, shown: str, candidates: Sequence[str]) -> Path:
        for name in candidates:
            if name in self._found:
                return self._found[name]
        raise BuildFailedError(
            f"The link reads {shown}, which is not there any more.",
            cause="the compiler or a package with libraries was removed or replaced since the build",
            cure="build again: ./inv build-serving",
        )

    def _library(self, library: LinkLibrary) -> Iterator[Word]:
        candidates = library.candidates(self._directories)
        path = self._place(f"-l{library.name}", candidates)
        name = next(name for name in candidates if self._found.get(name) == path)
        yield from self._file_or_script(name, path)

    def _file_or_script(self, name: str, path: Path) -> Iterator[Word]:
        if _first_bytes(path).startswith((ELF, ARCHIVE)):
            yield LinkFile(name, path)
            return
        if name in self._within:
            raise BuildFailedError(
                f"The linker script {name} leads to itself, so it can't be put into a kit.",
                cause="a package with libraries is damaged",
                cure=_CURE,
            )
        self._within.append(name)
        yield from self._script(name, path)
        self._within.pop()

    def _script(self, name: str, path: Path) -> Iterator[Word]:
        statements = read_script(fsutil.read_text(path), name)
        items = [item for statement in statements for item in statement.files]
        candidates = [candidate for item in items for candidate in self._candidates(item, name)]
        missing = [candidate for candidate in dict.fromkeys(candidates) if candidate not in self._found]
        self._found.update(self._find(missing))
        for statement in statements:
            grouped = statement.group and not self._in_group
            yield from ["--start-group"] if grouped else []
            for item in statement.files:
                if item.as_needed:
                    yield from ("--push-state", "--as-needed")
                if item.name.startswith("-l"):
                    yield from self._library(LinkLibrary(item.name[2:]))
                else:
                    places = self._candidates(item, name)
                    found = self._place(item.name, places)
                    place = next(place for place in places if self._found.get(place) == found)
                    yield from self._file_or_script(place, found)
                if item.as_needed:
                    yield "--pop-state"
            yield from ["--end-group"] if grouped else []

    def _candidates(self, item: ScriptFile, script: str) -> list[str]:
        if item.name.startswith("-l"):
            return LinkLibrary(item.name[2:]).candidates(self._directories)
        if item.name.startswith("/"):
            return [item.name]
        return [f"{directory}/{item.name}" for directory in (str(PurePosixPath(script).parent), *self._directories)]


@dataclass(frozen=True)
class ScriptFile:
    """A file that a linker script names."""

    name: str
    as_needed: bool = False


@dataclass(frozen=True)
class ScriptStatement:
    """GROUP(...) or INPUT(...) of a linker script."""

    group: bool
    files: tuple[ScriptFile, ...]


def read_script(text: str, name: str) -> tuple[ScriptStatement, ...]:
    """What a linker script names, such as libc.so: GROUP and INPUT with AS_NEEDED in them (ld's manual, "Commands
    Dealing with Files"). BuildFailedError for any that says more; what it says of formats is left out.
    """
    plain = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    parts = iter(re.findall(r'"[^"]*"|[()]|[^\s(),;"]+', plain))
    statements = []
    for part in parts:
        arguments = _arguments(parts) if part in ("GROUP", "INPUT", "OUTPUT_FORMAT", "OUTPUT_ARCH") else None
        if arguments is None:
            raise BuildFailedError(
                f"The linker script {name} says {part[:60]!r}, which can't be put into a kit.",
                cause="it is more than a list of libraries",
                cure=_CURE,
            )
        if part in ("GROUP", "INPUT"):
            statements.append(ScriptStatement(part == "GROUP", arguments))
    return tuple(statements)


def _arguments(parts: Iterator[str]) -> tuple[ScriptFile, ...] | None:
    """The names between the brackets that follow; None where there are no such brackets."""
    if next(parts, "") != "(":
        return None
    found: list[ScriptFile] = []
    depth, waiting = 1, False
    for part in parts:
        if part == "(":
            depth += 1
        elif part == ")":
            depth -= 1
            if not depth:
                return tuple(found)
        elif part == "AS_NEEDED":
            waiting = True
        else:
            found.append(ScriptFile(part.strip('"').removeprefix("="), depth > 1 and waiting))
    return None


def _first_bytes(path: Path) -> bytes:
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        return file.read(len(ARCHIVE))
