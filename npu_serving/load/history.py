"""The runs that are kept: build/load-tests/ID.json, with the report of each beside it."""

from __future__ import annotations

import json
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.load.results import FORMAT, LoadRun

DIRECTORY = "load-tests"
"""Below build/."""


def keep_run(run: LoadRun, build: Path) -> Path:
    """Writes the run into the directory of runs below `build`; returns its file."""
    path = fsutil.make_directory(build / DIRECTORY) / f"{run.id}.json"
    fsutil.write_file(path, json.dumps(run.to_json(), indent=1, allow_nan=False) + "\n")
    return path


def read_run(path: Path) -> LoadRun:
    """The run in the file. DocumentError with every mistake where the file holds none, FileAccessError."""
    heading, cure = f"{path} is not a run of a load test:", "name the .json file of a load test, or run it again"
    return read_document(path, LoadRun, format=FORMAT, refusal=DocumentRefusal(heading, cure=cure))
