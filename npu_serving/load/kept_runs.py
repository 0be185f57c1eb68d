"""The runs that are kept, found by what a person calls them, and listed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from npu_serving.console import table
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.load.history import DIRECTORY, read_run
from npu_serving.load.results import LoadRun
from npu_serving.load.tables import errors_text, ms_text
from npu_serving.shown_text import in_a_line

LATEST, PREVIOUS = "latest", "previous"
_SUFFIX = ".json"
_NONE = "./inv load-test MODEL makes one"


@dataclass(frozen=True)
class DamagedRun:
    """A file of the history that can't be read, and why."""

    path: Path
    why: str

    def to_json(self) -> dict[str, str]:
        """Both."""
        return {"path": str(self.path), "why": self.why}


@dataclass(frozen=True)
class RunList:
    """All runs that are kept, the newest first."""

    directory: Path
    runs: tuple[LoadRun, ...]
    damaged: tuple[DamagedRun, ...]

    def to_json(self) -> dict[str, object]:
        """What each has measured, without its windows and seconds."""
        return {
            "directory": str(self.directory),
            "runs": [_brief(run) for run in self.runs],
            "damaged": [each.to_json() for each in self.damaged],
        }

    def text(self) -> str:
        """A line for each load of each run."""
        if not self.runs and not self.damaged:
            return f"There is no load test in {self.directory} yet. Next: {_NONE}"
        header = ("RUN", "SERVER", "LOAD", "ANSWERS/S", "P50 ms", "P99 ms", "ERRORS", "")
        rows = [row for run in self.runs for row in _rows(run)]
        lines = [table(rows, header=header)] if rows else []
        return "\n".join([*lines, *(f"damaged: {each.path}: {in_a_line(each.why)}" for each in self.damaged)])


def list_kept_runs(build: Path) -> RunList:
    """Every run of the history below `build`."""
    runs, damaged = [], []
    for path in _files(build):
        try:
            runs.append(read_run(path))
        except NpuServingError as error:
            damaged.append(DamagedRun(path, error.what))
    return RunList(build / DIRECTORY, tuple(runs), tuple(damaged))


def find_run(name: str, build: Path) -> LoadRun:
    """The run of that name: its id, `latest`, `previous`, or the path of its file. RequestError where there is none."""
    if "/" in name or name.endswith(_SUFFIX):
        return read_run(Path(name))
    files = _files(build)
    if name in (LATEST, PREVIOUS):
        place = (LATEST, PREVIOUS).index(name)
        if place < len(files):
            return read_run(files[place])
        raise RequestError(
            f"There is no {name} load test: {build / DIRECTORY} has {len(files)}.",
            cause="none was run to its end yet" if not files else "only one was run so far",
            cure=_NONE,
        )
    path = build / DIRECTORY / f"{name}{_SUFFIX}"
    if path in files:
        return read_run(path)
    near = difflib.get_close_matches(name, [each.stem for each in files], n=1)
    raise RequestError(
        f"There is no load test {in_a_line(name)!r} in {build / DIRECTORY}.",
        cause=f"mistyped: there is {near[0]}" if near else "it was made in another directory, or removed",
        cure=f"./inv list-runs shows those that there are; {LATEST} and {PREVIOUS} are names, too",
    )


def _files(build: Path) -> list[Path]:
    """The newest first: an id begins with the time."""
    return sorted((build / DIRECTORY).glob(f"*{_SUFFIX}"), key=lambda path: path.name, reverse=True)


def _rows(run: LoadRun) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for place, level in enumerate(run.levels):
        remarks = (("not valid", not run.valid), ("the best", run.best == place), ("not stable", not level.stable))
        rows.append(
            (
                run.id if place == 0 else "",
                in_a_line(run.target) if place == 0 else "",
                in_a_line(level.load),
                f"{level.throughput:,.1f}",
                ms_text(level.percentile_ms(50)),
                ms_text(level.percentile_ms(99)),
                errors_text(level),
                ", ".join(text for text, is_so in remarks if is_so),
            )
        )
    return rows or [(run.id, in_a_line(run.target), "nothing was measured", "", "", "", "", "")]


def _brief(run: LoadRun) -> dict[str, object]:
    levels = [
        {
            "load": level.load,
            "throughput": level.throughput,
            "p50_ms": level.percentile_ms(50),
            "p99_ms": level.percentile_ms(99),
            "errors": dict(level.errors),
            "stable": level.stable,
        }
        for level in run.levels
    ]
    whole = ("id", "begun", "target", "model", "version", "signature", "api", "request", "valid", "best")
    return {**{name: getattr(run, name) for name in whole}, "levels": levels, "exit_code": run.exit_code}
