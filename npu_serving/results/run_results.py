"""What a server has written while it ran, beside its answers: dumps, profiles, graphs, and the command that reads each.

run_results.yaml says where each kind is written and how it is called. What lies there beside it is not looked at, and
no link is followed.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.cann.analysis_tools import how_to_get, tool_command
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.console import Progress, Reporter, amount_text
from npu_serving.deploy.platform_config import read_platform_config
from npu_serving.documents import read_document
from npu_serving.errors import NpuServingError
from npu_serving.options.server_flags import flags_in
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line

TABLE = Path(__file__).with_name("run_results.yaml")
SECONDS_OF_DOUBT = 1.0
"""A file system's clock, and a server's before its start is noted, may be behind ours by that much."""
_FILES_BETWEEN_UPDATES = 1000


@dataclass(frozen=True)
class ResultPlace:
    """Where a kind may be written: run_results.yaml says what the keys mean."""

    option: str = ""
    variable: str = ""
    key: str = ""
    below: str = ""


@dataclass(frozen=True)
class ResultReader:
    """A program that reads a kind: run_results.yaml says what the keys mean."""

    tool: str = ""
    task: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultKind:
    """A row of run_results.yaml, whose head says what the columns mean."""

    title: str
    places: tuple[ResultPlace, ...]
    names: str
    readers: tuple[tuple[ResultReader, ...], ...] = ()
    reads: str = ".+"


@dataclass(frozen=True)
class _ResultTable:
    kinds: Mapping[str, ResultKind]


@dataclass
class FileCount:
    """What there is of a kind in one directory. `to_read` is the newest of the files that its reader takes, `top` what
    of the directory holds that.
    """

    files: int = 0
    size_bytes: int = 0
    newest: Path = field(default_factory=Path)
    newest_at: float = -1.0
    to_read: Path | None = None
    to_read_at: float = -1.0
    top: Path = field(default_factory=Path)

    def add(self, path: Path, status: os.stat_result, top: Path, *, is_read: bool) -> None:
        """Counts a file; `is_read` where the kind's reader takes one of that name."""
        self.files += 1
        self.size_bytes += status.st_size
        if status.st_mtime > self.newest_at:
            self.newest, self.newest_at = path, status.st_mtime
        if is_read and status.st_mtime > self.to_read_at:
            self.to_read, self.to_read_at, self.top = path, status.st_mtime, top


@dataclass(frozen=True)
class WrittenFiles:
    """What was written of one kind into one directory.

    `next_steps` are what reads it: commands, or a sentence where a program for it is not installed.
    """

    kind: str
    directory: Path
    count: FileCount
    next_steps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "kind": self.kind,
            "directory": str(self.directory),
            "files": self.count.files,
            "size_bytes": self.count.size_bytes,
            "newest": str(self.count.newest),
            "next": list(self.next_steps),
        }

    def text(self) -> str:
        """A line for what it is, and one for each next step."""
        files = "1 file" if self.count.files == 1 else f"{self.count.files:,} files"
        size = amount_text(self.count.size_bytes, "bytes")
        what = f"{result_kinds()[self.kind].title}: {files}, {size}, in {in_a_line(str(self.directory))}"
        newest = f"the newest is {in_a_line(str(self.count.newest.relative_to(self.directory)))}"
        return "\n".join([f"{what}; {newest}", *(f"  Next: {step}" for step in self.next_steps)])


@dataclass(frozen=True)
class RunResults:
    """What a run has written, by kind and directory; `troubles` say what could not be looked at."""

    written: tuple[WrittenFiles, ...] = ()
    troubles: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"written": [item.to_json() for item in self.written], "troubles": list(self.troubles)}

    def text(self) -> str:
        """A few lines for each kind; "" where nothing was written."""
        return "\n".join([*(item.text() for item in self.written), *self.troubles])


@functools.cache
def result_kinds() -> Mapping[str, ResultKind]:
    """The rows of the table, by name."""
    return read_document(TABLE, _ResultTable).kinds


def run_results(
    directory: Path,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    since: float,
    reporter: Reporter,
) -> RunResults:
    """What a server that ran in `directory` with that command line and environment wrote from `since` on.

    `since` is in seconds since the epoch. The programs that read it are looked for in the CANN that the environment
    leads to. Nothing is raised: what can't be read is among the troubles.
    """
    troubles: list[str] = []
    options = _options(argv, troubles)
    found = []
    with reporter.progress("Looking at what the run has written", unit="files") as progress:
        seen = _Seen(progress)
        for name, kind in result_kinds().items():
            for place in _places(kind, directory, options, environment):
                count = _count(kind, place, since - SECONDS_OF_DOUBT, seen, troubles)
                if count.files:
                    found.append((name, kind, place, count))
    installation = find_installation(environ=environment) if found else None
    written = [
        WrittenFiles(name, place, count, _steps(kind, place, count, installation)) for name, kind, place, count in found
    ]
    return RunResults(tuple(written), tuple(dict.fromkeys(troubles)))


def _options(argv: Sequence[str], troubles: list[str]) -> dict[str, list[str]]:
    """The texts of NpuOptimizer's options in the platform config: an entry of it may have others than the next."""
    file = flags_in(argv).get("platform_config_file")
    if not file:
        return {}
    try:
        config = read_platform_config(Path(file))
    except NpuServingError as error:
        troubles.append(error.what)
        return {}
    options: dict[str, list[str]] = {}
    for parameters in config.optimizers:
        for name, parameter in parameters.items():
            if isinstance(parameter.value, str):
                options.setdefault(name, []).append(parameter.value)
    return options


def _places(
    kind: ResultKind, directory: Path, options: Mapping[str, Sequence[str]], environment: Mapping[str, str]
) -> list[Path]:
    """The directories where that kind may have been written, each once."""
    found: dict[str, Path] = {}
    for place in kind.places:
        named = options.get(place.option, ()) if place.option else [environment.get(place.variable, "")]
        if not place.option and not place.variable:
            named = ["."]
        for value in named:
            path = _directory_in(value, place.key) if place.key else value
            if path and "\0" not in path:
                whole = Path(os.path.normpath(directory / path / place.below))
                found.setdefault(os.path.realpath(whole), whole)
    return list(found.values())


def _directory_in(text: str, key: str) -> str:
    """What the text has under that key; "" where it isn't such a JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""


@dataclass
class _Seen:
    """How many files were looked at."""

    progress: Progress
    files: int = 0

    def one_more(self) -> None:
        self.files += 1
        if self.files % _FILES_BETWEEN_UPDATES == 0:
            self.progress.update(self.files)


def _count(kind: ResultKind, place: Path, since: float, seen: _Seen, troubles: list[str]) -> FileCount:
    """What of that kind is in that directory and not older."""
    count, reads = FileCount(), re.compile(kind.reads, re.DOTALL)
    for top in _entries(place, re.compile(kind.names, re.DOTALL), troubles):
        for path, status in _regular_files(top, troubles):
            seen.one_more()
            if status.st_mtime >= since:
                count.add(path, status, top, is_read=reads.fullmatch(path.name) is not None)
    return count


def _entries(place: Path, names: re.Pattern[str], troubles: list[str]) -> list[Path]:
    try:
        listed = os.listdir(place)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        troubles.append(f"{in_a_line(str(place))} could not be looked at: {error.strerror}")
        return []
    return [place / name for name in sorted(listed) if names.fullmatch(name)]


def _regular_files(top: Path, troubles: list[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """The file itself, or all that are below the directory, with what lstat() says of each."""

    def refused(error: OSError) -> None:
        troubles.append(f"{in_a_line(os.fsdecode(error.filename))} could not be looked at: {error.strerror}")

    try:
        status = os.lstat(top)
        if stat.S_ISREG(status.st_mode):
            yield top, status
        if not stat.S_ISDIR(status.st_mode):
            return
    except OSError:
        return  # it went away meanwhile
    for directory, _, files in fsutil.walk(top, onerror=refused):
        for name in files:
            path = Path(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _steps(kind: ResultKind, place: Path, count: FileCount, installation: CannInstallation | None) -> tuple[str, ...]:
    if count.to_read is None:
        return ()
    values = {"place": str(place), "newest": str(count.top), "file": str(count.to_read)}
    return tuple(_next_step(readers, values, installation) for readers in kind.readers)


def _next_step(
    readers: Sequence[ResultReader], values: Mapping[str, str], installation: CannInstallation | None
) -> str:
    """The command of the first program that is installed, or how to get that."""
    for reader in readers:
        arguments = [word.format_map(values) for word in reader.arguments]
        if reader.task:
            return command_line(["./inv", reader.task, *arguments])
        command = tool_command(reader.tool, arguments, installation)
        if command:
            return command
    return how_to_get(readers[0].tool, installation)
