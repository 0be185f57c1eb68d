"""`convert-om` as it is typed, with stand-ins for CANN's compilers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from om_compilers import calls, make_cann_with_compilers, write_model
from typed_tasks import ROOT, Ended, typed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the model m, and a CANN."""
    make_cann_with_compilers(tmp_path / "cann")
    write_model(tmp_path / "m" / "1")
    return tmp_path


def words(place: Path, *more: str) -> list[str]:
    given = ["convert-om", str(place / "m"), "--output", str(place / "out/m_om"), "--cann-root", str(place / "cann")]
    return [*given, "--soc-version", "Ascend910B4", *more]


def converted(place: Path, *more: str) -> Ended:
    return typed(*words(place, *more), build_root=place)


def test_a_dry_run_shows_the_command_and_does_nothing(place: Path) -> None:
    ended = converted(place, "--input-shape", "images:2,4", "--dry-run")
    assert ended.code == 0
    assert "atc --framework=3 --model=frozen.pb --output=model --soc_version=Ascend910B4" in ended.out
    assert "'--out_nodes=b:0;y:0'" in ended.out
    assert not calls(place / "cann")
    assert not (place / "out").exists()


def test_the_result_is_one_document_and_says_what_was_made(place: Path) -> None:
    ended = converted(place, "--input-shape", "images:?,4", "--json", "--atc-arg=--precision_mode=force_fp16")
    assert ended.code == 0
    assert ended.document["servable"] == str(place / "out/m_om/1")
    assert ended.document["compiler"]["command"][-1] == "--precision_mode=force_fp16"
    assert [finding["what"] for finding in ended.document["findings"]] == [
        "images: sizes that were left open became 1: (1,4)."
    ]
    assert ended.document["om"] == json.loads((place / "out/m_om/1/assets.extra/conversion.json").read_text())["om"]


def test_the_next_step_that_it_names_can_be_typed(place: Path) -> None:
    ended = converted(place, "--input-shape", "images:2,4")
    (line,) = [line for line in ended.out.splitlines() if line.startswith("Next: ")]
    assert line.endswith(f"./inv init-deployment --model m_om={place}/out/m_om")
    checked = typed("check-model", str(place / "out/m_om"), build_root=place)
    assert checked.code == 0, checked
    assert "LoadAndExecuteOm, which the TF Adapter registers" in checked.out
    file = place / "deployment.yaml"
    made = typed("init-deployment", "--model", f"m_om={place}/out/m_om", "--output", str(file), build_root=place)
    assert made.code == 0, made
    assert file.exists()


def test_the_cure_for_a_missing_shape_helps_when_it_is_typed(place: Path) -> None:
    ended = converted(place)
    assert ended.code == 2
    assert 'Next: --input-shape "x:1,4"' in ended.said
    assert converted(place, "--input-shape", "x:1,4").code == 0


def test_an_interrupted_task_ends_the_compiler_and_cleans_up(place: Path) -> None:
    settings = place / "invoke.yaml"
    settings.write_text(json.dumps({"npu_serving": {"build_root": str(place / "build")}}))
    env = {**os.environ, "OM_STAND_IN": "hang", "NPU_SERVING_SETTINGS": str(settings)}
    typed_words = [sys.executable, "-m", "npu_serving", *words(place, "--input-shape", "x:2,4")]
    process = subprocess.Popen(typed_words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not list((place / "build/compiling").rglob("begun")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert list((place / "build/compiling").iterdir()) == []
    assert not (place / "out/m_om").exists()
    assert len(list((place / "build/logs").iterdir())) == 1
