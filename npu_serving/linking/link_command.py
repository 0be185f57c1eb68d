"""A link's command as Bazel's event log lists it, split into the driver's words and the parameter file's lines.

Bazel 0.24 lists what is in the parameter file as well as the argument that names the file.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from npu_serving.linking.linker_words import files_among
from npu_serving.linking.linkers import ARGUMENT, BFD

FOR_THE_LINKER = "-Wl,"
AT_FILE = (f"{FOR_THE_LINKER}@", "@")
DEFAULT_LINKER = BFD  # what a gcc takes that is not told otherwise, on the systems that this project knows
WRAPPER = "-wrapper"
_OF_THE_DRIVER = (
    WRAPPER, "-o", "-B", "-x", "-I", "-D", "-U", "-include", "-isystem", "-iquote", "-specs", "--param", "-Xassembler",
    "-Xpreprocessor", "-aux-info", "-target",
)  # fmt: skip
"""Options of gcc and clang with a word of its own that the linker does not get."""
_HANDED_ON = ("-T", "-L", "-l", "-u", "-z", "-e")
"""Those that the linker gets with their word."""
COLLECT = "collect2"
_MOST_STATES = 1_000_000  # of the search; a command of 4,000 words takes some 10,000
_BRACKETS = ("--start-lib", "--end-lib", "--start-group", "--end-group", "-whole-archive", "-no-whole-archive")


@dataclass(frozen=True)
class LinkWords:
    """The words that the driver (gcc) was started with, and the lines of the parameter file, both in order."""

    command: tuple[str, ...]
    parameters: tuple[str, ...] = ()


def parameter_file(listed: Sequence[str]) -> str:
    """The name of the parameter file that the command reads, as it is named there; "" where there is none."""
    for word in reversed(listed):
        for mark in AT_FILE:
            if word.startswith(mark):
                return word[len(mark) :]
    return ""


def split_command(listed: Sequence[str], lines: Sequence[str]) -> LinkWords | None:
    """What was really run, of the arguments that the event log lists and the lines of the parameter file.

    Some of the arguments are lines of the file: a line as it is, or one or several lines behind `-Wl,` and joined by
    commas. Those are left out, in order, so that each line is accounted for once; where several ways are possible,
    the one that follows Bazel's own rule (LinkCommandLine.java: objects, -l and brackets are moved into the file) the
    furthest. None where the lines can't be found among the arguments.
    """
    if not lines:
        return LinkWords(tuple(listed))
    moved = _moved(listed, lines)
    if moved is None:
        return None
    return LinkWords(tuple(word for index, word in enumerate(listed) if index not in moved), tuple(lines))


def _moved(listed: Sequence[str], lines: Sequence[str]) -> set[int] | None:
    """Which arguments are lines, at the least number of departures from Bazel's rule: a search with weights 0 and 1."""
    by_rule = _by_the_rule(listed)
    parts = [_lines_of(word) for word in listed]
    if not set(lines) <= {line for part in parts for line in part}:
        return None
    start, end = (0, 0), (len(listed), len(lines))
    came_from: dict[tuple[int, int], tuple[int, int]] = {}
    waiting: deque[tuple[tuple[int, int], tuple[int, int]]] = deque([(start, start)])
    while waiting and len(came_from) < _MOST_STATES:
        state, former = waiting.popleft()
        if state in came_from:
            continue
        came_from[state] = former
        if state == end:
            return set(_taken(came_from, end))
        word, line = state
        if word == len(listed):
            continue
        ways = [((word + 1, line), by_rule[word])]
        size = len(parts[word])
        if word and tuple(lines[line : line + size]) == parts[word]:
            ways.append(((word + 1, line + size), not by_rule[word]))
        for following, is_departure in ways:
            if is_departure:
                waiting.append((following, state))
            else:
                waiting.appendleft((following, state))
    return None


def _taken(came_from: dict[tuple[int, int], tuple[int, int]], end: tuple[int, int]) -> Iterator[int]:
    state = end
    while state != (0, 0):
        former = came_from[state]
        if former[1] != state[1]:
            yield former[0]
        state = former


def _by_the_rule(listed: Sequence[str]) -> list[bool]:
    """Whether Bazel's rule moves each argument into the parameter file."""
    brackets = {FOR_THE_LINKER + bracket for bracket in _BRACKETS}
    moves = [
        word.startswith("-l")
        or word in brackets
        or (not word.startswith(("-", "@")) and word.endswith((".o", ".a", ".lo", ".so", ".ifso")))
        for word in listed
    ]
    for index, word in enumerate(listed):
        if word == "-o" and index + 1 < len(moves):
            moves[index + 1] = False
    return moves


def _lines_of(word: str) -> tuple[str, ...]:
    return tuple(word[len(FOR_THE_LINKER) :].split(",")) if word.startswith(FOR_THE_LINKER) else (word,)


def with_the_linker(command: Sequence[str]) -> tuple[str, ...]:
    """The command with gcc starting its linker, without a `-wrapper` that stands in for it."""
    words = list(command)
    while WRAPPER in words:
        where = words.index(WRAPPER)
        del words[where : where + 2]
    return tuple(words)


def output_of(command: Sequence[str]) -> str:
    """What `-o` names; "" where nothing does."""
    names = [command[index + 1] for index, word in enumerate(command[:-1]) if word == "-o"]
    return names[-1] if names else ""


def with_parameter_file(command: Sequence[str], name: str) -> tuple[str, ...]:
    """The command with another parameter file in place of the one that it reads."""
    former = parameter_file(command)
    at = [f"{mark}{former}" for mark in AT_FILE] if former else []
    return tuple(f"{word[: -len(former)]}{name}" if word in at else word for word in command)


def with_output(command: Sequence[str], output: str) -> tuple[str, ...]:
    """The command with another file in place of what `-o` names."""
    words = list(command)
    for index, word in enumerate(words[:-1]):
        if word == "-o":
            words[index + 1] = output
    return tuple(words)


def with_linker(command: Sequence[str], linker: str) -> tuple[str, ...]:
    """The command with another linker; the other words stay as they are."""
    return (*(word for word in command if not word.startswith(ARGUMENT)), f"{ARGUMENT}{linker}")


def linker_of(command: Sequence[str]) -> str:
    """Which linker the driver is told to take: "gold", "bfd", "lld" …; its default where it is not told."""
    named = [word[len(ARGUMENT) :] for word in command if word.startswith(ARGUMENT)]
    return named[-1] if named else DEFAULT_LINKER


def words_for_linker(words: LinkWords) -> tuple[str, ...]:
    """What the linker gets of the driver's words and of the parameter file, in order. What gcc adds is not among it."""
    return tuple(_handed_on(words.command[1:], words.parameters))


def _handed_on(command: Sequence[str], parameters: Sequence[str]) -> Iterator[str]:
    following = iter(command)
    for word in following:
        if word in _OF_THE_DRIVER:
            next(following, "")
        elif word == "-Xlinker":
            yield next(following, "")
        elif word in _HANDED_ON:
            yield from (word, next(following, ""))
        elif word.startswith(FOR_THE_LINKER):
            for part in _lines_of(word):
                yield part
                if part.startswith("@"):
                    yield from parameters
        elif word.startswith("@"):  # gcc's own words are in it
            yield word
            yield from _handed_on(parameters, ())
        elif word.startswith(("-l", "-L", "-static")) or not word.startswith("-"):
            yield word


def files_named(words: LinkWords) -> tuple[str, ...]:
    """The files that the link reads by name, each once, in order: objects, archives, scripts, lists, parameter files.

    Libraries behind `-l` are not among them (linker_words.py).
    """
    return tuple(dict.fromkeys(files_among(words_for_linker(words))))


def bare_command(printed: str) -> tuple[str, ...]:
    """The command for the linker that gcc prints with `-###`: collect2 and its words; empty where it printed none."""
    lines = [split_shown(line) for line in printed.splitlines() if line.startswith(" ")]
    commands = [words for words in lines if words and PurePosixPath(words[0]).name.startswith((COLLECT, "ld"))]
    return tuple(commands[-1]) if commands else ()


def split_shown(line: str) -> list[str]:
    """The words of a command as gcc shows it (gcc.c, execute()): quoted where need be, quotes and `$` escaped."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    return [plain or re.sub(r"\\(.)", r"\1", quoted) for quoted, plain in found]
