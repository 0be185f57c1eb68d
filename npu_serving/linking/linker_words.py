"""The words that the linker itself gets: which are files, which are libraries to be looked for, and where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# The options of GNU ld, gold and lld that take a word (their manuals; with one dash or with two).
WITH_VALUE = (
    "-A", "--architecture", "-F", "--filter", "-G", "--gpsize", "-I", "--dynamic-linker", "-dynamic-linker", "-Map",
    "--Map", "-O", "-P", "--audit", "-R", "-Tbss", "-Tdata", "-Ttext", "-Y", "-a", "-assert", "-b", "--format", "-c",
    "--defsym", "-e", "--entry", "--exclude-libs", "-f", "--auxiliary", "-fini", "-h", "--hash-style", "-init", "-m",
    "--oformat", "-rpath", "--rpath", "-rpath-link", "--rpath-link", "--section-start", "-soname", "--soname", "-u",
    "--undefined", "--sysroot", "--wrap", "-y", "--trace-symbol", "-z",
)  # fmt: skip
"""Those whose word is not a file that is read; for -R it can be one, and in use it is a directory of the rpath."""
WITH_FILE = ("--dynamic-list", "--version-script", "--retain-symbols-file", "-T", "--script", "--just-symbols")
"""Those whose word, also behind a `=`, is a file that is read."""
PLUGIN_OPTIONS = ("-plugin", "--plugin")
"""Its word is a library of the compiler."""
OUTPUT_OPTIONS = ("-o", "--output")
DIRECTORY_OPTIONS = ("-L", "--library-path")
LIBRARY_OPTIONS = ("-l", "--library")
STATIC = ("-Bstatic", "-static", "-dn", "-non_shared")
DYNAMIC = ("-Bdynamic", "-dy", "-call_shared")
"""From here on only archives are taken for libraries; and libraries again."""


@dataclass(frozen=True)
class LinkLibrary:
    """`-lNAME` among the words, not found yet."""

    name: str
    static: bool = False

    def candidates(self, directories: Sequence[str]) -> list[str]:
        """The files that the linker takes, the first that is there, in its order."""
        if self.name.startswith(":"):
            names = [self.name[1:]]
        else:
            names = [f"lib{self.name}.a"] if self.static else [f"lib{self.name}.so", f"lib{self.name}.a"]
        return [f"{directory}/{name}" for directory in directories for name in names]


def files_among(words: Sequence[str]) -> Iterator[str]:
    """The files that are named, in order: objects, archives, scripts, lists, files of further words."""
    following = iter(words)
    for word in following:
        option, sign, value = word.partition("=")
        if word in (*WITH_VALUE, *PLUGIN_OPTIONS, *OUTPUT_OPTIONS, *DIRECTORY_OPTIONS, *LIBRARY_OPTIONS):
            next(following, "")
        elif option in WITH_FILE:
            yield value if sign else next(following, "")
        elif word.startswith("@"):
            yield word[1:]
        elif word and not word.startswith("-"):
            yield word


def libraries_among(words: Sequence[str]) -> tuple[LinkLibrary, ...]:
    """What is behind each `-l`, once, in order."""
    found: dict[LinkLibrary, None] = {}
    static, following = False, iter(words)
    for word in following:
        if word in (*WITH_VALUE, *PLUGIN_OPTIONS, *OUTPUT_OPTIONS, *DIRECTORY_OPTIONS):
            next(following, "")
        elif word in LIBRARY_OPTIONS:
            found[LinkLibrary(next(following, ""), static)] = None
        elif (joined := joined_library(word)) is not None:
            found[LinkLibrary(joined, static)] = None
        else:
            static = is_static(word, static)
    return tuple(found)


def joined_library(word: str) -> str | None:
    """The NAME of `-lNAME` or `--library=NAME`; None for any other word."""
    option, sign, value = word.partition("=")
    if sign and option in LIBRARY_OPTIONS:
        return value
    return word[2:] if word.startswith("-l") else None


def is_static(word: str, before: bool) -> bool:
    """Whether only archives are taken for libraries behind that word."""
    return word in STATIC or (before and word not in DYNAMIC)


def search_directories(words: Sequence[str]) -> tuple[str, ...]:
    """Where libraries are looked for: behind each -L, in their order."""
    found, following = [], iter(words)
    for word in following:
        option, sign, value = word.partition("=")
        if word in DIRECTORY_OPTIONS:
            found.append(next(following, ""))
        elif word in (*WITH_VALUE, *PLUGIN_OPTIONS, *OUTPUT_OPTIONS, *LIBRARY_OPTIONS):
            next(following, "")
        elif word.startswith("-L"):
            found.append(word[2:])
        elif sign and option in DIRECTORY_OPTIONS:
            found.append(value)
    return tuple(dict.fromkeys(directory for directory in found if directory))
