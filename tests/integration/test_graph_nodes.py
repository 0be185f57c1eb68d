"""`graph-nodes`, typed as a person would, on models that TensorFlow 1.15.0 made."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow_server import made_by_tensorflow

from npu_serving import process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def graphs() -> Path:
    return made_by_tensorflow("tensorflow_graphs.py")


def typed(words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "inv", *shlex.split(words)],
        cwd=cwd,
        env={**os.environ, "NPU_SERVING_VENV": sys.prefix},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_said_is_the_same_under_both_names_and_in_json(graphs: Path, tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").symlink_to(graphs / "frozen.pb")
    by_name, by_alias = (typed(f"{task} frozen.pb", tmp_path) for task in ("graph-nodes", "show-model"))
    assert (by_name.returncode, by_name.stderr) == (0, "")
    assert by_name.stdout == by_alias.stdout
    document = json.loads(typed("graph-nodes frozen.pb --json", tmp_path).stdout)
    assert [node["name"] for node in document["nodes"]] == ["x", "t", "big", "product", "scores", "Const", "texts"]
    assert document["next"] in by_name.stdout


def test_the_command_that_it_names_as_the_next_one_makes_a_servable(graphs: Path, tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").write_bytes((graphs / "frozen.pb").read_bytes())
    said = json.loads(typed("graph-nodes frozen.pb --json", tmp_path).stdout)["next"]
    made = typed(said.replace("./inv ", "", 1), tmp_path)
    assert made.returncode == 0, made.stderr
    servable = json.loads(typed("graph-nodes models/frozen --json", tmp_path).stdout)
    (signature,) = servable["signatures"].values()
    assert {spec["tensor"] for spec in signature["outputs"].values()} == {"scores:0", "texts:0"}
    assert servable["devices"] == {}


@pytest.mark.skipif(process.find_program("dot") is None, reason="graphviz is not installed")
def test_a_picture_is_drawn_and_said(graphs: Path, tmp_path: Path) -> None:
    done = typed(f"graph-nodes {graphs / 'loops.pb'} --picture loops.svg", tmp_path)
    assert "the picture is in loops.svg" in done.stdout
    assert "NextIteration" in (tmp_path / "loops.svg").read_text(encoding="utf-8")
    refused = typed(f"graph-nodes {graphs / 'loops.pb'} --picture loops.png", tmp_path)
    assert refused.returncode == 2
    assert "--picture loops.html" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("graph-nodes", 2, "graph-nodes needs MODEL"),
        ("graph-nodes nothing.pb", 2, "nothing.pb could not be read"),
        ("graph-nodes frozen.pb --limit many", 2, "--limit must be a whole number"),
        ("graph-nodes frozen.pb --ops Relu", 2, "--op"),
        ("graph-nodes .", 2, "./inv graph-nodes frozen.pb"),
        ("graph-nodes cut.pb", 2, "is damaged at byte"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_type(
    graphs: Path, tmp_path: Path, words: str, code: int, said: str
) -> None:
    data = (graphs / "frozen.pb").read_bytes()
    (tmp_path / "frozen.pb").write_bytes(data)
    (tmp_path / "cut.pb").write_bytes(data[:5000])
    if words.endswith(" ."):
        (tmp_path / "cut.pb").unlink()
    done = typed(words, tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
