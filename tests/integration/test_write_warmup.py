"""`write-warmup`, typed as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import model_messages as wire
import pytest

from npu_serving.models.warm_up_file import WARM_UP_FILE, records_in

ROOT = Path(__file__).resolve().parents[2]
NPU = {"input_shape": "x:-1,3", "dynamic_dims": "1;2", "dynamic_node_type": 1}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "resnet" / "1"
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(wire.simple_model({"x": [-1, 3]}))
    document = {"version": 1, "models": [{"name": "resnet", "base_path": str(directory.parent)}], "npu": NPU}
    (tmp_path / "deployment.yaml").write_text(json.dumps(document))
    (tmp_path / "request.json").write_text("[[1, 2, 3]]")
    return directory.parent


def _write(model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "inv", "write-warmup", str(model), *words],
        cwd=ROOT,
        env={**os.environ, "NPU_SERVING_VENV": sys.prefix},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dry_run_promises_what_is_written_then(model: Path) -> None:
    request = ["--request", str(model.parent / "request.json")]
    file = model / "1" / WARM_UP_FILE
    dry = _write(model, *request, "--dry-run", "--json")
    assert (dry.returncode, file.exists()) == (0, False), dry.stderr
    done = _write(model, *request, "--json")
    assert json.loads(done.stdout) == {**json.loads(dry.stdout), "written": True}
    assert len(list(records_in(file))) == 1
    gears = [*request, "--deployment", str(model.parent / "deployment.yaml")]
    for refused in (_write(model, *gears), _write(model, *gears, "--dry-run")):
        assert refused.returncode == 2
        assert "--force" in refused.stderr
    forced = _write(model, *gears, "--force")
    assert "x [2, 3]" in forced.stdout
    assert len(list(records_in(file))) == 2
    assert "is up to date" in _write(model, *gears).stdout


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "at least one request"),
        (["--request", "[[1, 2]]"], "has the shape [1, 2]"),
        (["--request", "[[1, 2, 3]]", "--signature", "none"], "has no signature 'none'"),
        (["--request", "[[1, 2, 3]]", "--version", "2"], "has no version 2"),
        (["--request", "nothing.json"], "neither JSON nor an existing file"),
        (["--request", "[[1, 2, 3]]", "--set", "server.port=1"], "--set and --overlay are for a deployment file"),
        (["--request", "[[1, 2, 3]]", "--deployment", "deployment.yaml", "--tag", "gpu"], "--tag would have no effect"),
        (["--request", "[[1, 2, 3]]", "--gear", "1"], "--gear"),
    ],
)
def test_what_is_wrong_ends_with_two_and_a_cure(model: Path, words: list[str], what: str) -> None:
    refused = _write(model, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert what in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Next: " in refused.stderr
    assert not (model / "1" / "assets.extra").exists()
