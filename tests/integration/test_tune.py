"""`tune`, typed as a person would, with the sample's real server."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_sample_server import base, npu, objects  # noqa: F401 - fixtures
from test_warm_cache import MODEL, ROOT, Deployed, deployed  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the sample server is compiled with g++")

FAST = ("--api", "rest", "--concurrency", "1,2", "--window", "50ms", "--max-windows", "3")
ASKED = ("--model", MODEL, "--golden", MODEL, "--p99", "10s")


def words(deployed: Deployed, *more: str) -> list[str]:  # noqa: F811
    return [str(ROOT / "inv"), "tune", "--deployment", str(deployed.file), *FAST, *more]


def tune(deployed: Deployed, *more: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    return subprocess.run(
        words(deployed, *more),
        cwd=ROOT,
        env=deployed.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def logs(deployed: Deployed) -> list[Path]:  # noqa: F811
    return sorted((deployed.root / "build" / "logs").glob("tune-*.log"))


TEXT = """\
version: 1
# ours
models:
  - name: {model}
    base_path: {base}
  - name: other_model  # beside it
    base_path: {other}
npu: {{}}
"""


@pytest.fixture
def written(deployed: Deployed) -> str:  # noqa: F811
    """A deployment file as a person writes it."""
    models = deployed.document["models"]
    text = TEXT.format(model=MODEL, base=models[0]["base_path"], other=models[1]["base_path"])
    deployed.file.write_text(text)
    return text


def test_each_setting_has_a_server_and_the_best_is_written_with_its_table_and_nothing_is_measured_twice(
    deployed: Deployed,  # noqa: F811
    written: str,
) -> None:
    knobs = (*ASKED, "--max-batch-size", "off,4")
    dry = tune(deployed, *knobs, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    planned = json.loads(dry.stdout)
    assert [each["setting"] for each in planned["settings"]] == ["batch size off", "batch size 4"]
    assert deployed.file.read_text() == written and not logs(deployed)

    done = tune(deployed, *knobs, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert [bool(each["throughput"]) for each in result["settings"]] == [True, True]
    assert result["best"] == result["settings"][0]["setting"]
    assert len(logs(deployed)) == 2
    text = deployed.file.read_text()
    table = [line for line in text.splitlines() if line.startswith("# tune: ")]
    assert "PER SECOND" in table[1] and len(table) == 4
    wanted = yaml.safe_load(written)
    if result["best"] == "batch size 4":
        wanted["models"][0]["batching"] = {"max_batch_size": 4}
    assert yaml.safe_load(text) == wanted
    assert "# ours\n" in text and "other_model  # beside it\n" in text

    deployed.file.write_text(written)
    again = tune(deployed, *knobs)
    assert again.returncode == 0, again.stderr
    assert len(logs(deployed)) == 2
    assert deployed.file.read_text() == text
    assert f"Next: ./inv restart --deployment {deployed.file}" in again.stdout


def test_the_commands_of_the_page_write_the_best_setting_into_the_file(
    deployed: Deployed,  # noqa: F811
    written: str,
) -> None:
    page = (ROOT / "docs/measure.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ ./inv tune")]
    assert len(lines) == 2
    for line in lines:
        meant = {"FILE": str(deployed.file), "NAME": MODEL, "20ms": "10s"}
        typed = [meant.get(word, word) for word in line.split()[2:]]
        done = subprocess.run(
            [str(ROOT / "inv"), "tune", *typed, *FAST],
            cwd=ROOT,
            env=deployed.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (deployed.file.read_text() == written) == ("--dry-run" in line)


def test_where_no_setting_holds_the_budget_the_file_stays_and_each_says_why(
    deployed: Deployed,  # noqa: F811
    written: str,
) -> None:
    done = tune(deployed, "--model", MODEL, "--golden", MODEL, "--max-batch-size", "off", "--p99", "1us")
    assert done.returncode == 3, done.stderr
    assert "p99 was" in done.stdout and "with 1 at once" in done.stdout
    assert deployed.file.read_text() == written


def test_what_can_not_be_tried_is_refused_before_any_server_starts(
    deployed: Deployed,  # noqa: F811
    written: str,
) -> None:
    for knobs, said in (
        (("--model", MODEL, "--golden", "no-such"), "no golden request 'no-such'"),
        (("--model", MODEL, "--streams", "1,x"), "--streams can't be '1,x'"),
        (("--model", MODEL, "--gears", "1;4"), "has no input_shape"),
        (("--model", "third"), "no model 'third'"),
        ((*ASKED, "--shape", "x:1"), "--shape would have no effect"),
    ):
        done = tune(deployed, *knobs)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert "Next: " in done.stderr
    assert deployed.file.read_text() == written and not logs(deployed)


def test_what_was_measured_before_an_interruption_is_kept_and_no_server_is_left(
    deployed: Deployed,  # noqa: F811
    written: str,
) -> None:
    knobs = (*ASKED, "--max-batch-size", "off,4,8,16,32")
    with subprocess.Popen(
        words(deployed, *knobs),
        cwd=ROOT,
        env=deployed.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        kept = deployed.root / "build" / "tuning"
        while running.poll() is None and not list(kept.rglob("*.json")):
            time.sleep(0.01)  # a loop without it takes a processor from what it waits for
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 130, said
    assert deployed.file.read_text() == written
    there = len(list(kept.rglob("*.json")))
    planned = json.loads(tune(deployed, *knobs, "--dry-run", "--json").stdout)["settings"]
    assert [each["measured"] for each in planned].count(True) == there >= 1
    left = subprocess.run(["pgrep", "-f", str(deployed.root / "dist")], check=False, capture_output=True)
    assert not left.stdout
