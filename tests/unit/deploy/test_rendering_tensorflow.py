"""The files of a deployment as TensorFlow 1.15.0 reads them, with the published protos of its serving API.

NPU_SERVING_TENSORFLOW_PYTHON names a Python 3.7 that has tensorflow==1.15.0 and tensorflow-serving-api==1.15.0.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.rendering import rendered_files
from npu_serving.settings import PROJECT_ROOT

PYTHON = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON", "")
DEPLOYMENT = """
version: 1
models:
- {name: "it's", base_path: "/m/a'b\\"c {d}\\n", versions: [1, 2], labels: {stable: 1}}
- {name: own, base_path: /m/own, versions: all, npu: {mix_compile_mode: true, in_out_pair: "[[['a'],['b']]]"}}
- {name: cpu, base_path: s3://bucket/cpu, versions: {latest: 2}, npu: false, batching: false}
npu: {precision_mode_v2: fp16}
cpu: {intra_op_threads: 2, inter_op_threads: 3}
"""

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="TensorFlow 1.15.0 is for Python 3.7, and NPU_SERVING_TENSORFLOW_PYTHON names none"
)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("deployment")
    file = directory / "deployment.yaml"
    file.write_text(DEPLOYMENT)
    for name, rendered in rendered_files(read_deployment(file), Path("/etc/npu-serving")).items():
        (directory / name).write_text(rendered.text)
    script = PROJECT_ROOT / "tests/support/read_by_tensorflow.py"
    clean = {"PATH": os.environ["PATH"]}  # no PYTHONPATH of ours
    done = subprocess.run([PYTHON, script, directory], env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_models_with_their_paths_versions_and_labels_are_those_that_were_written(read: dict[str, Any]) -> None:
    first, own, cpu = read["models"]
    assert (first["name"], first["base_path"]) == ("it's", "/m/a'b\"c {d}\n")
    assert first["model_version_policy"] == {"specific": {"versions": ["1", "2"]}}
    assert first["version_labels"] == {"stable": "1"}
    assert own["model_version_policy"] == {"all": {}}
    assert cpu["model_version_policy"] == {"latest": {"num_versions": 2}}
    assert len({model["model_platform"] for model in (first, own, cpu)}) == 3


def test_sessions_are_made_of_the_options_that_were_written(read: dict[str, Any]) -> None:
    rewriting = [each.get("graph_options", {}).get("rewrite_options", {}) for each in read["sessions"]]
    optimizers = [each["custom_optimizers"][0] for each in rewriting if "custom_optimizers" in each]
    assert [each["name"] for each in optimizers] == ["NpuOptimizer"] * 2
    assert len(rewriting) == 3  # and one for the CPU
    (options,) = (each["parameter_map"] for each in optimizers if "in_out_pair" in each["parameter_map"])
    assert options["use_off_line"] == options["mix_compile_mode"] == {"b": True}
    assert options["graph_run_mode"] == {"i": "0"}
    assert base64.b64decode(options["in_out_pair"]["s"]) == b"[[['a'],['b']]]"
    for each in rewriting:
        if "custom_optimizers" in each:
            assert (each["remapping"], each["memory_optimization"]) == ("OFF", "NO_MEM_OPT")
    assert all(each["intra_op_parallelism_threads"] == 2 for each in read["sessions"])
