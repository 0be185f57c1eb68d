"""examples/client/ from end to end: it makes its model, images and labels, and real TensorFlow 1.15.0 answers."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tensorflow_server import TensorFlowServer

from npu_serving.asking.golden_files import read_golden_requests
from npu_serving.asking.model_service import reload_models

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "client"


@dataclasses.dataclass(frozen=True)
class Listed:
    name: str
    base_path: str
    platform: str = "tensorflow"
    versions: int | tuple[int, ...] | Literal["all"] = 1
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, tensorflow_process: TensorFlowServer) -> Iterator[Path]:
    """What the script makes, its model served."""
    directory = tmp_path_factory.mktemp("example")
    made = run([sys.executable, str(EXAMPLE / "make_example.py"), str(directory)], ROOT)
    assert made.startswith("25 images, their labels, the model and its deployment.yaml are in ")
    others = [Listed(place.name, str(place)) for place in sorted(tensorflow_process.models.iterdir())]
    served = [*others, Listed("colours", str(directory / "models" / "colours"))]
    for models in (served, others):
        reload_models(tensorflow_process.grpc_url, models, timeout_s=60, while_waiting=lambda: None)
        if models is served:
            yield directory


def run(words: list[str], directory: Path) -> str:
    environment = {**os.environ, "NPU_SERVING_VENV": sys.prefix}
    done = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_say_the_colour_of_one_image_and_of_all(
    example: Path, tensorflow_server: TensorFlowServer
) -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    one, every = re.findall(r"^    \.\./\.\./inv (predict .*)$", page, re.MULTILINE)
    server = ["--url", tensorflow_server.rest_url]
    lines = run([str(ROOT / "inv"), *shlex.split(one), *server], example).splitlines()
    assert lines[1].split()[-2] == "red"
    said = run([str(ROOT / "inv"), *shlex.split(every), *server], example)
    assert "25 images in 4 batches of 8, the last one filled up by 7 that are not counted" in said
    assert "top-1 100.00% (25 of 25)" in said
    assert re.search(r"the others [\d.,]+ images per second \(17 in ", said)


def test_over_grpc_the_answers_are_the_same_and_one_is_kept_as_a_golden_request(
    example: Path, tensorflow_server: TensorFlowServer, tmp_path: Path
) -> None:
    deployment = tmp_path / "deployment.yaml"
    text = (example / "deployment.yaml").read_text(encoding="utf-8")
    deployment.write_text(f"{text}golden: {tmp_path / 'golden'}\n", encoding="utf-8")
    image = str(example / "images" / "blue_1.png")
    words = [str(ROOT / "inv"), "predict", "colours", "--deployment", str(deployment), "--request", image]
    more = ["--json", "--save-golden", "blue"]
    by_rest = json.loads(run([*words, "--url", tensorflow_server.rest_url, "--json"], tmp_path))
    by_grpc = json.loads(run([*words, "--url", tensorflow_server.grpc_url, *more], tmp_path))
    assert np.allclose(by_rest["outputs"]["scores"], by_grpc["outputs"]["scores"])
    assert by_grpc["golden"] == str(tmp_path / "golden" / "blue.json")
    (golden,) = read_golden_requests(tmp_path / "golden").sound()
    assert (golden.name, golden.model, golden.api) == ("blue", "colours", "grpc")
    assert golden.model_base_path == str(example / "models" / "colours")
    assert golden.difference(by_grpc["outputs"]["scores"]) == ""
