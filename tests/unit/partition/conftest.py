"""Real models of TensorFlow 1.15.0, made once in a session."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from partition_graphs import RealModels

SCRIPT = Path(__file__).resolve().parents[2] / "support" / "partition_models.py"


@pytest.fixture(scope="session")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> RealModels:
    """The models of tests/support/partition_models.py."""
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        pytest.skip("NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15.0")
    directory = tmp_path_factory.mktemp("partition")
    argv = [python, "-W", "ignore", str(SCRIPT), str(directory)]
    made = subprocess.run(argv, capture_output=True, text=True, check=True)
    return RealModels(directory, json.loads(made.stdout.splitlines()[-1]))
