"""The commands of docs/measure.md, one after the other, on a server that answers; and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import grpc_server
import pytest

from npu_serving import process
from npu_serving.load.kept_runs import list_kept_runs
from npu_serving.settings import PROJECT_ROOT

SHORTER = ("--window", "0.3s", "--warm-up", "0.1s", "--max-windows", "3")
PAGE = PROJECT_ROOT / "docs/measure.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ./inv ") for line in lines)
    typed = [line.removeprefix("$ ") for line in lines]
    return [line for line in typed if not line.startswith("./inv tune")]  # test_tune.py types them, with a deployment


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    """What each command prints, and the directory for what is built. The windows are shorter than a person has them."""
    place = tmp_path_factory.mktemp("measure")
    (place / "invoke.yaml").write_text(json.dumps({"npu_serving": {"build_root": str(place / "build")}}))
    environment = {**os.environ, "NPU_SERVING_SETTINGS": str(place / "invoke.yaml")}
    with grpc_server.serving() as server:
        words = {"NAME": "m", "URL": server.url, "REQUEST": '{"instances": [[1.0, 2.0]]}', "CHANGE": "true"}
        found = {}
        for line in commands():
            meant = [re.sub("|".join(words), lambda match: words[match[0]], word) for word in shlex.split(line)]
            if meant[1] == "load-test":
                meant = [*(re.sub("^6s$", "1s", word) for word in meant), *SHORTER]
            done = process.run([str(PROJECT_ROOT / "inv"), *meant[1:]], cwd=place, env=environment, check=False)
            assert _is_as_meant(meant[1], done), f"{line}: {done.output}"
            found[line] = done.output
        yield found, place / "build"


def _is_as_meant(task: str, done: process.Finished) -> bool:
    """A machine that runs other tests as well may send too late, or unsteadily, which is said, with 3."""
    if task == "load-test":
        return done.returncode == 0 or (done.returncode == 3 and "Report: " in done.stdout)
    if task == "compare-runs":
        return done.returncode in (0, 3) or "is not valid" in done.output
    return done.returncode == 0


def output_of(outputs: tuple[dict[str, str], Path], part: str) -> str:
    return next(output for line, output in outputs[0].items() if part in line)


def test_every_command_of_the_page_works_one_after_the_other(outputs: tuple[dict[str, str], Path]) -> None:
    assert "4.0" in output_of(outputs, "predict")
    assert "1 at once" in output_of(outputs, "list-runs")
    assert "4 at once" in output_of(outputs, "--concurrency")
    assert "50 a second (poisson)" in output_of(outputs, "poisson")
    compared = output_of(outputs, "previous latest")
    assert "chance" in compared or "is not valid" in compared


def test_every_run_of_the_page_is_kept_with_its_report(outputs: tuple[dict[str, str], Path]) -> None:
    measured = [line for line in outputs[0] if "load-test" in line and "--dry-run" not in line]
    kept = list_kept_runs(outputs[1])
    assert len(kept.runs) == len(measured)
    assert kept.damaged == ()
    for run in kept.runs:
        page = (kept.directory / f"{run.id}.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
    during = kept.runs[0]
    assert [event.name for event in during.levels[0].events][-2:] == ["true begun", "true ended"]
