"""The runs that are kept below build/load-tests/: ID.json, which is read again, and what people read beside it.

The .json file is written last: where it is, the others are.
"""

from __future__ import annotations

import json
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.load.hgrm import hgrm_text
from npu_serving.load.report import report_html
from npu_serving.load.results import FORMAT, LoadRun
from npu_serving.load.tables import levels_csv, timeline_csv

DIRECTORY = "load-tests"
"""Below build/."""


def keep_run(run: LoadRun, build: Path) -> Path:
    """Writes the run, its report and its tables into the directory of runs below `build`; returns its .json file."""
    directory = fsutil.make_directory(build / DIRECTORY)
    for name, text in {**_texts(run), f"{run.id}.html": report_html(run)}.items():
        fsutil.write_file(directory / name, text)
    path = directory / f"{run.id}.json"
    fsutil.write_file(path, json.dumps(run.to_json(), indent=1, allow_nan=False) + "\n")
    return path


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
