"""The runs that are kept below build/load-tests/: ID.json, which is read again, and what people read beside it.

The .json file is written last: where it is, the others are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.load.hgrm import hgrm_text
from npu_serving.load.report import report_html
from npu_serving.load.results import FORMAT, LoadRun
from npu_serving.load.tables import levels_csv, run_text, timeline_csv

DIRECTORY = "load-tests"
"""Below build/."""


@dataclass(frozen=True)
class KeptRun:
    """A load test's run, and the files that it was kept in."""

    run: LoadRun
    directory: Path

    @property
    def exit_code(self) -> int:
        """That of the run: 3 where it is not valid, or exceeds a threshold."""
        return self.run.exit_code

    @property
    def report(self) -> Path:
        """The page for a browser."""
        return self.directory / f"{self.run.id}.html"

    def to_json(self) -> dict[str, Any]:
        """The run, and its files."""
        names = [f"{self.run.id}.json", f"{self.run.id}.html", *_texts(self.run)]
        return {**self.run.to_json(), "files": [str(self.directory / name) for name in names]}

    def text(self) -> str:
        """The run, and where its report is."""
        return f"{run_text(self.run)}\n\nReport: {self.report}"


def keep_run(run: LoadRun, build: Path) -> KeptRun:
    """Writes the run, its report and its tables into the directory of runs below `build`."""
    kept = KeptRun(run, fsutil.make_directory(build / DIRECTORY))
    for name, text in {**_texts(run), kept.report.name: report_html(run)}.items():
        fsutil.write_file(kept.directory / name, text)
    document = json.dumps(run.to_json(), indent=1, allow_nan=False) + "\n"
    fsutil.write_file(kept.directory / f"{run.id}.json", document)
    return kept


def _texts(run: LoadRun) -> dict[str, str]:
    """The tables and the percentiles, by the names of their files."""
    several = len(run.levels) > 1
    return {
        f"{run.id}.csv": levels_csv(run),
        f"{run.id}-timeline.csv": timeline_csv(run),
        **{
            f"{run.id}{f'-{place}' if several else ''}.hgrm": hgrm_text(level.histogram)
            for place, level in enumerate(run.levels)
        },
    }


def read_run(path: Path) -> LoadRun:
    """The run in the file. DocumentError with every mistake where the file holds none, FileAccessError."""
    heading, cure = f"{path} is not a run of a load test:", "name the .json file of a load test, or run it again"
    return read_document(path, LoadRun, format=FORMAT, refusal=DocumentRefusal(heading, cure=cure))
