"""`convert-pb` of graphs with variables: TensorFlow 1.15.0 loads what is written, and it answers as the graphs did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pytest
from tensorflow_server import PYTHON, SUPPORT, made_by_tensorflow
from typed_tasks import typed

from npu_serving.console import Silent
from npu_serving.conversion.convert_pb import ConversionPlan, ConversionRequest, convert, plan_conversion
from npu_serving.errors import FileAccessError, ModelFileError, RequestError
from npu_serving.models.checkpoint import open_checkpoint
from npu_serving.models.saved_model import SAVED_MODEL, read_saved_model

CONVERSIONS: dict[str, dict[str, Any]] = {
    "ref": {},
    "ref-rows": {"batch_size": 3},
    "resource": {},
    "parts": {},
    "types": {},
    "control_v1": {},
    "control_v2": {},
    "functions": {},
    "training": {"constants": {"is_training": "false"}},
    "saved": {},
    "saved-signature": {"outputs": ()},
}


@pytest.fixture(scope="module")
def made() -> Path:
    """The graphs and checkpoints of tests/support/tensorflow_variables.py."""
    return made_by_tensorflow("tensorflow_variables.py")


def planned(made: Path, output: Path, name: str, **wishes: Any) -> ConversionPlan:
    place = made / name.partition("-")[0]
    outputs = ";".join(each.replace("|", "/") for each in numpy.load(place / "answers.npz", allow_pickle=True).files)
    source = place / "1" if (place / "1").is_dir() else place / "model.meta"
    return plan_conversion(ConversionRequest(source, output / name, **{"outputs": (outputs,), **wishes}), Silent())


def test_graphs_with_variables_answer_in_tensorflow_as_before(made: Path, tmp_path: Path) -> None:
    for name, wishes in CONVERSIONS.items():
        plan = planned(made, tmp_path, name, **wishes)
        convert(plan, Silent())
        (graph,) = read_saved_model(tmp_path / name / "1" / SAVED_MODEL)
        assert not graph.graph.operators.keys() & {"VariableV2", "VarHandleOp", "ReadVariableOp", "RestoreV2", "SaveV2"}
        assert plan.frozen
    words = [PYTHON, "-W", "ignore", str(SUPPORT / "tensorflow_runs.py"), str(tmp_path), str(made)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    ran = subprocess.run(words, capture_output=True, text=True, check=True, env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert json.loads(ran.stdout.splitlines()[-1]) == dict.fromkeys(CONVERSIONS, "equal")


def test_the_batch_size_of_a_checkpoints_graph_is_the_one_that_is_asked_for(made: Path, tmp_path: Path) -> None:
    plan = planned(made, tmp_path, "ref", batch_size=4)
    (signature,) = plan.signatures.values()
    assert signature.inputs["x"].shape == (4, 60)
    assert signature.outputs["y"].shape == (4, 7, 10, 1)


def test_training_that_the_outputs_wait_for_is_named_with_its_nodes(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"AssignSub"):
        planned(made, tmp_path, "updating")
    with pytest.raises(ModelFileError, match=r"cond/AssignSub \(AssignSub\)"):
        planned(made, tmp_path, "training", inputs=("x;is_training",))


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A checkpoint of its own."""
    return Path(shutil.copytree(made / "ref", tmp_path / "ref"))


@pytest.mark.parametrize("taken", ["model.index", "model.data-00000-of-00001"])
def test_a_checkpoint_without_one_of_its_files_is_refused_and_nothing_is_written(
    copied: Path, tmp_path: Path, taken: str
) -> None:
    (copied / taken).unlink()
    with pytest.raises((RequestError, FileAccessError)) as raised:
        planned(tmp_path, tmp_path / "models", "ref")
    assert str(copied) in str(raised.value)
    assert not (tmp_path / "models").exists()


def test_a_checkpoint_of_the_older_format_is_named_with_the_way_out(tmp_path: Path) -> None:
    older = made_by_tensorflow("tensorflow_checkpoints.py")
    request = ConversionRequest(older / "v1.meta", tmp_path / "models", inputs=("save/Const",), outputs=("v",))
    with pytest.raises(ModelFileError, match="v1 is a checkpoint of the older format V1"):
        plan_conversion(request, Silent())


def test_values_that_are_damaged_are_refused_and_nothing_is_written(copied: Path, tmp_path: Path) -> None:
    data = copied / "model.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[open_checkpoint(copied / "model").extents("dense/w")[0].start + 100] ^= 1
    data.write_bytes(content)
    with pytest.raises(
        ModelFileError, match=r"model\.data-00000-of-00001 is damaged at byte \d+: the checksum .*variable dense/w"
    ):
        planned(tmp_path, tmp_path / "models", "ref")
    assert not (tmp_path / "models").exists()


def test_values_that_are_replaced_before_they_are_copied_stop_the_conversion(copied: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, tmp_path / "models", "ref")
    data = copied / "model.data-00000-of-00001"
    content = data.read_bytes()
    data.unlink()
    data.write_bytes(bytes(len(content)))
    with pytest.raises(ModelFileError, match="was replaced or changed"):
        convert(plan, Silent())
    assert os.listdir(tmp_path / "models") in ([], ["ref"])
    assert not (tmp_path / "models" / "ref" / "1").exists()


def test_a_checkpoints_graph_is_converted_as_a_person_types_it(made: Path, tmp_path: Path) -> None:
    words = ["convert-pb", str(made / "ref" / "model.meta"), "--output", str(tmp_path / "m"), "--outputs", "y"]
    ran = typed(*words, "--dry-run")
    assert "variables made constants: 6" in ran.out
    assert not (tmp_path / "m").exists()
    refused = typed(*words, "--keep-unused")
    assert refused.code == 2 and "leave out --keep-unused" in refused.said
    assert len(typed(*words, "--json").document["frozen_variables"]) == 6
