"""Servables of convert-om in TensorFlow 1.15.0, with a LoadAndExecuteOm that computes what the stand-in for ATC kept.

They answer what the models answer, which TensorFlow itself has made (tests/support/tensorflow_om_models.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from om_compilers import make_cann_with_compilers
from tensorflow_server import KEPT, PYTHON, made_by_tensorflow

from npu_serving.cann.install import find_installation
from npu_serving.console import Silent
from npu_serving.conversion.convert_om import ConvertedOm, convert_om, plan_conversion
from npu_serving.conversion.om_request import OmRequest
from npu_serving.errors import MissingToolError, ModelFileError, RequestError
from npu_serving.settings import Settings

SUPPORT = Path(__file__).resolve().parents[2] / "support"
CHIP = "Ascend910B4"
F, I32 = "float32", "int32"
IMAGE = [[[[(x + y + c) / 7 for c in range(3)] for x in range(8)] for y in range(8)] for _ in range(2)]

CASES: dict[str, tuple[str, dict[str, str], dict[str, list[Any]]]] = {
    # name: (model, flags, what is sent)
    "plain": (
        "plain",
        {"input_shape": "images:2,4"},
        {"images": [F, [[1, 2, 3, 4], [5, 6, 7, 8]]], "scale": [I32, 3], "unused": [F, [0]]},
    ),
    "resource variables and parts": ("resources", {"input_shape": "x:2,8,8,3"}, {"x": [F, IMAGE]}),
    "batch gears": ("resources", {"dynamic_batch_size": "1,2,4"}, {"x": [F, IMAGE]}),
    "a signature": ("signatures", {"signature": "third", "input_shape": "x:2,3"}, {"x": [F, [[1, 2, 3], [4, 5, 6]]]}),
    "an output that is its input": ("signatures", {"signature": "echo", "input_shape": "x:2"}, {"x": [F, [3, 5]]}),
    "a default": ("default", {"input_shape": "x:1,2"}, {"x": [F, [[1, 2]]]}),
    "a condition": ("conditional", {}, {"x": [F, -3]}),
    "a loop": ("looped", {}, {"n": [I32, 5]}),
}


def converted(place: Path, model: Path, flags: dict[str, str], python: Path | None = None) -> ConvertedOm:
    request = {"soc_version": CHIP, **flags}
    signature = request.pop("signature", "")
    cann = place / "cann"
    if not cann.exists():
        make_cann_with_compilers(cann)
    settings = Settings(build_root=place / "build")
    plan = plan_conversion(
        settings,
        find_installation(str(cann)),
        model,
        place / "out" / model.name,
        OmRequest(**request),  # type: ignore[arg-type]
        signature=signature,
        python=python,
    )
    return convert_om(settings, plan, Silent())


@pytest.fixture(scope="module")
def models() -> Path:
    return made_by_tensorflow("tensorflow_om_models.py")


@pytest.fixture(scope="module")
def library(models: Path) -> Path:
    """The operator LoadAndExecuteOm for TensorFlow 1.15.0, compiled once for each wording of it."""
    assert models.exists()
    source = SUPPORT / "load_and_execute_om.cc"
    made = KEPT / f"load-and-execute-om-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not made.exists():
        asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        tree = Path(subprocess.check_output([PYTHON, "-c", asked], text=True).strip()) / "tensorflow_core"
        part = made.with_suffix(f".{os.getpid()}")
        words = [
            "g++",
            "-std=c++11",
            "-shared",
            "-fPIC",
            "-D_GLIBCXX_USE_CXX11_ABI=0",
            f"-I{tree}/include",
            str(source),
        ]
        subprocess.run([*words, "-o", str(part), f"-L{tree}", "-l:libtensorflow_framework.so.1"], check=True)
        part.rename(made)
    return made


@pytest.fixture(scope="module")
def answers(models: Path, library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """What each model answers, and then its servable; and the servable of `plain` to a batch of one."""
    place = tmp_path_factory.mktemp("oms")
    requests, made = [], {}
    for name, (model, flags, inputs) in CASES.items():
        made[name] = converted(place, models / model, flags).directory
        signature = flags.get("signature", "serving_default")
        asked = {"signature": signature, "inputs": inputs}
        requests.append({"model": str(models / model / "1"), "served": False, **asked})
        requests.append({"model": str(made[name]), "served": True, **asked})
    small = {**CASES["plain"][2], "images": [F, [[1, 2, 3, 4]]]}
    requests.append({"model": str(made["plain"]), "served": True, "inputs": small})
    words = [PYTHON, str(SUPPORT / "tensorflow_om_answers.py"), str(library), json.dumps(requests)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    pairs = dict(zip(CASES, zip(found[0::2], found[1::2])))
    return {**pairs, "too small": (None, found[-1])}


@pytest.mark.parametrize("name", CASES)
def test_the_servable_answers_what_the_model_answers(answers: dict[str, tuple[Any, Any]], name: str) -> None:
    before, after = answers[name]
    assert "error" not in before
    assert set(after) == set(before)
    for output, (data_type, value) in before.items():
        assert after[output][0] == data_type
        assert _close(after[output][1], value)


def _close(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_close, found, wanted))
    return bool(found == pytest.approx(wanted, rel=1e-6))


def test_a_batch_of_another_size_than_the_om_has_is_refused_and_not_answered_with_old_values(
    answers: dict[str, tuple[Any, Any]],
) -> None:
    assert "is not compatible with expected shape [2,4]" in answers["too small"][1]["error"]
    assert "x_as_the_om_was_compiled" in answers["too small"][1]["error"]


def test_strings_are_refused_and_the_part_behind_them_is_not(models: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        converted(tmp_path, models / "texts", {"input_shape": "t:3"})
    assert "t is of the type string" in caught.value.what
    assert "--new-input-nodes" in caught.value.cure
    part = {"new_input_nodes": "n:DT_FLOAT:numbers:0", "new_output_nodes": "d:doubled", "input_shape": "n:3"}
    assert converted(tmp_path, models / "texts", part).directory.is_dir()


def test_the_single_outputs_of_a_node_can_be_inputs(models: Path, tmp_path: Path) -> None:
    flags = {
        "new_input_nodes": "a:DT_FLOAT:parts;b:DT_FLOAT:parts:1;c:DT_FLOAT:parts:2",
        "input_shape": "a:4,2;b:4,2;c:4,2",
    }
    made = converted(tmp_path, models / "split", flags)
    assert [each.node for each in made.plan.model.signature.inputs] == ["parts_0", "parts_1", "parts_2"]


def test_functions_need_a_tensorflow_in_which_cann_makes_graphs_of_them(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        converted(tmp_path, models / "functions", {})
    assert "--tensorflow-python" in caught.value.cure
    assert "disable_control_flow_v2" in caught.value.cure
    assert not (tmp_path / "out").exists()
    assert converted(tmp_path, models / "functions", {}, Path(PYTHON)).directory.is_dir()


def test_the_users_tensorflow_freezes_to_the_same_graph(models: Path, tmp_path: Path) -> None:
    """But for the order of attributes and nodes: the values are compared by the stand-in's om."""
    flags = {"input_shape": "images:2,4"}
    theirs = converted(tmp_path, models / "plain", flags, Path(PYTHON))
    assert theirs.record["variables_frozen_by"] == "TensorFlow 1.15.0"
    ours = converted(tmp_path, models / "plain", flags)
    assert theirs.record["signature"] == ours.record["signature"]
    assert theirs.record["compiler"]["command"] == ours.record["compiler"]["command"]  # type: ignore[index]


def test_a_python_without_tensorflow_1_15_is_refused(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\necho \'{"version": "2.21.0", "error": ""}\'\n')
    other.chmod(0o755)
    with pytest.raises(MissingToolError) as caught:
        converted(tmp_path, models / "plain", {"input_shape": "images:2,4"}, other)
    assert "has TensorFlow 2.21.0, and 1.15 is needed" in caught.value.what
    other.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(MissingToolError, match="did not run TensorFlow"):
        converted(tmp_path, models / "plain", {"input_shape": "images:2,4"}, other)
