"""`convert-pb` of graphs that TensorFlow 1.15.0 made: what it writes is loaded there, and answers as the graphs did."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typed_tasks import typed

from npu_serving.console import Silent
from npu_serving.conversion.convert_pb import ConversionPlan, ConversionRequest, convert, plan_conversion
from npu_serving.errors import ModelFileError, NpuServingError, RequestError
from npu_serving.models.graph_def import read_graph_def_file
from npu_serving.models.saved_model import read_saved_model
from npu_serving.models.tensor_shapes import TensorShapes
from npu_serving.models.tensor_types import TensorTypes

MAKER = Path(__file__).resolve().parents[1] / "support" / "convertible_models.py"
WORDS = "words.txt"


class World:
    """The graphs, with the values that they were fed and answered."""

    def __init__(self, python: str, root: Path) -> None:
        self.python, self.root = python, root
        self._said("make")
        self.cases = json.loads((root / "cases.json").read_text())

    def _said(self, word: str) -> str:
        argv = [self.python, "-W", "ignore", str(MAKER), word, str(self.root)]
        ran = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def request(self, name: str, file: str = "", output: str = "", **wishes: Any) -> ConversionRequest:
        place = self.root / "converted" / (output or name)
        return ConversionRequest(self.root / (file or f"{name}.pb"), place, **wishes)

    def converted(self, name: str, file: str = "", output: str = "", **wishes: Any) -> ConversionPlan:
        plan = plan_conversion(self.request(name, file, output, **wishes), Silent())
        convert(plan, Silent())
        return plan

    def answers(self) -> dict[str, Any]:
        """What TensorFlow answers for each that was converted."""
        return json.loads(self._said("run").splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        pytest.skip("NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15.0")
    return World(python, tmp_path_factory.mktemp("convertible"))


CONVERSIONS: dict[str, dict[str, Any]] = {
    "classifier": {"outputs": ("probabilities;best",)},
    "classifier--text": {"file": "classifier.pbtxt", "outputs": ("probabilities,best",)},
    "classifier--one_size": {"inputs": ("image:0[2,8,8,3]",), "outputs": ("probabilities:0;class=best",)},
    "classifier--rows": {"batch_size": 2, "outputs": ("probabilities",), "signature": "images"},
    "classifier--devices": {"keep_devices": True, "outputs": ("probabilities",)},
    "unpruned": {"outputs": ("probabilities;best",)},
    "several": {"outputs": ("out/replaced;scaled;top:1;values=top:0;lengths",)},
    "several--named": {
        "inputs": ("t=words:0[-1]; n=in/numbers:0[-1,2];scale",),
        "outputs": ("scaled:0[-1,2]",),
        "method_name": "predict",
    },
    "several--inner": {"inputs": ("words",), "outputs": ("lengths:0;",)},
    "control_flow_v1": {},
    "control_flow_v2": {"outputs": ("y",)},
    "control_flow_v1--fixed": {"constants": {"positive": "false"}},
    "functions": {"outputs": ("total;size",)},
    "later_defaults": {"outputs": ("total;size",)},
    "tables": {"outputs": ("ids;values",)},
    "training_branch": {"constants": {"is_training": "false"}},
    "big": {},
    "big--variables": {"weights_as_variables": True},
    "by_reference--meta": {"file": "by_reference/model.ckpt.meta", "outputs": ("y",)},
    "by_reference--rows": {"file": "by_reference/model.ckpt.meta", "outputs": ("y",), "batch_size": 3},
    "resources": {"file": "resources/model.ckpt.meta", "outputs": ("y",)},
    "in_parts": {"file": "in_parts/model.ckpt.meta", "outputs": ("y",)},
    "three_signatures": {"file": "three_signatures"},
    "three_signatures--one": {"file": "three_signatures", "inputs": ("w=words",), "outputs": ("vectors",)},
}


@pytest.fixture(scope="module")
def plans(world: World) -> dict[str, ConversionPlan]:
    """All that is converted, by name."""
    found = {}
    for name, wishes in CONVERSIONS.items():
        given = dict(wishes)
        given["method"] = given.pop("method_name", "")
        found[name] = world.converted(name.partition("--")[0], given.pop("file", ""), name, **given)
    return found


@pytest.fixture(scope="module")
def answers(world: World, plans: dict[str, ConversionPlan]) -> dict[str, Any]:
    assert plans
    return world.answers()


@pytest.mark.parametrize("name", [name for name in CONVERSIONS if name != "classifier--devices"])
def test_what_is_converted_is_loaded_by_tensorflow_and_answers_as_the_graph_did(
    world: World, answers: dict[str, Any], name: str
) -> None:
    found = answers[name]
    assert "error" not in found, found["error"]
    expected = world.cases[name.partition("--")[0]]["answers"]
    for outputs in found["signatures"].values():
        for answer in outputs.values():
            wanted = expected[answer["tensor"]]
            if np.asarray(wanted).dtype.kind in "fiu":
                np.testing.assert_allclose(answer["value"], wanted, rtol=1e-6)
            else:
                assert answer["value"] == wanted


def test_signatures_have_the_keys_types_and_shapes_that_were_asked_for(plans: dict[str, ConversionPlan]) -> None:
    def shown(name: str, signature: str = "serving_default") -> dict[str, str]:
        (graph,) = read_saved_model(plans[name].directory / "saved_model.pb")
        found = graph.signatures[signature]
        assert found.method_name == "tensorflow/serving/predict" and graph.tags == {"serve"}
        return {key: spec.describe() for side in (found.inputs, found.outputs) for key, spec in side.items()}

    assert shown("classifier") == {
        "image": "float32 [?, 8, 8, 3]",
        "probabilities": "float32 [?, 5]",
        "best": "int32 [?]",
    }
    assert shown("classifier--text") == shown("classifier")
    assert shown("classifier--one_size") == {
        "image:0": "float32 [2, 8, 8, 3]",
        "probabilities:0": "float32 [2, 5]",
        "class": "int32 [2]",
    }
    assert shown("classifier--rows", "images") == {"image": "float32 [2, 8, 8, 3]", "probabilities": "float32 [2, 5]"}
    assert shown("several")["top:1"] == "int32 [?, 1]"
    assert shown("several--named") == {
        "t": "string [?]",
        "n": "int64 [?, 2]",
        "scale": "float32 []",
        "scaled:0": "float32 [?, 2]",
    }
    assert list(shown("control_flow_v1--fixed")) == ["x", "y"]


def test_only_what_the_outputs_need_is_kept_and_what_went_is_said(plans: dict[str, ConversionPlan]) -> None:
    assert plans["unpruned"].left_out > 100
    assert f"left out: {plans['unpruned'].left_out:,} nodes that the outputs don't need" in plans["unpruned"].notes
    assert len(plans["unpruned"].nodes) == len(plans["classifier"].nodes)
    assert not {"Switch", "Merge", "AssignSub"} & {node.op for node in plans["training_branch"].nodes}
    assert not [node.name for node in plans["control_flow_v1--fixed"].nodes if node.name.startswith("cond/Switch")]
    assert [function.name for function in plans["functions"].functions if "unused" in function.name] == []


def test_device_placements_go_unless_they_are_to_stay(
    plans: dict[str, ConversionPlan], answers: dict[str, Any]
) -> None:
    def devices(name: str) -> set[str]:
        kept = {node.name for node in plans[name].nodes}
        assert any(node.device for node in plans[name].source.graph.nodes if node.name in kept)
        inner = [node for function in plans[name].functions for node in function.nodes]
        return {node.device for node in (*plans[name].nodes, *inner)} - {""}

    assert devices("classifier") == set()
    assert plans["classifier"].edits.devices["/device:GPU:0"] > 10
    assert devices("classifier--devices") == {"/device:GPU:0"}
    assert "was explicitly assigned to /device:GPU:0" in answers["classifier--devices"]["error"]
    assert plans["functions"].edits.devices and {
        node.device for function in plans["functions"].functions for node in function.nodes
    } == {""}


def test_attributes_of_later_releases_go_at_their_defaults_and_are_refused_with_other_values(
    world: World, plans: dict[str, ConversionPlan]
) -> None:
    assert set(plans["later_defaults"].edits.later) == {"MaxPool.explicit_paddings"}
    request = world.request("later_values", outputs=("total",))
    with pytest.raises(ModelFileError) as refused:
        plan_conversion(request, Silent())
    assert "The node pool in the function __inference_inner_" in refused.value.what
    assert "explicit_paddings = [0, 0, 1, 1, 1, 1, 0, 0], which TensorFlow 1.15.0 does not know" in refused.value.what


def test_tables_are_filled_when_the_model_is_loaded_and_their_files_go_along(
    world: World, plans: dict[str, ConversionPlan], answers: dict[str, Any]
) -> None:
    assert answers["tables"]["assets"] == [WORDS]
    assert plans["tables"].main_op == "fill_tables_when_loaded"
    with pytest.raises(RequestError, match=r"The table .* would be empty"):
        plan_conversion(world.request("tables_lost"), Silent())


def test_a_checkpoint_gives_constants_of_the_batch_size_asked_for_and_a_saved_model_keeps_its_signatures(
    plans: dict[str, ConversionPlan], answers: dict[str, Any]
) -> None:
    signature = plans["by_reference--rows"].signatures["serving_default"]
    assert [spec.shape for spec in (signature.inputs["x"], signature.outputs["y"])] == [(3, 6), (3, 4)]
    assert not {node.op for name in ("by_reference--meta", "resources", "in_parts") for node in plans[name].nodes} & {
        "VariableV2",
        "VarHandleOp",
    }
    assert set(answers["three_signatures"]["signatures"]) == {"serving_default", "ids", "vectors"}
    assert answers["three_signatures"]["assets"] == [WORDS] == answers["three_signatures--one"]["assets"]


def test_large_constants_become_variables_and_the_graph_is_small(plans: dict[str, ConversionPlan]) -> None:
    plan = plans["big--variables"]
    assert plan.weights is not None
    assert set(plan.weights.constants) == {
        "first/variable",
        "variable/second/variable",
        "ids/variable",
        "late/variable",
    }
    assert plan.size_bytes < 10_000 < plan.weights.size_bytes == 4 * 300 * 200 + 8 * (2 * 200 * 100 + 20_000)
    files = sorted(path.name for path in (plan.directory / "variables").iterdir())
    assert files == ["variables.data-00000-of-00001", "variables.index"]


def test_a_tables_file_that_is_elsewhere_is_named(world: World, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pb"
    moved.write_bytes(
        (world.root / "tables.pb").read_bytes().replace(str(world.root).encode(), b"/" * len(str(world.root)))
    )
    request = replace(world.request("tables", outputs=("ids",)), source=moved, output=tmp_path / "m")
    with pytest.raises(RequestError, match="is not there, from which") as refused:
        plan_conversion(request, Silent())
    flag, _, node = refused.value.cure.partition(",")[0].partition(" ")
    assert flag == "--asset"
    given = replace(request, assets={node.partition("=")[0]: world.root / WORDS})
    assert list(plan_conversion(given, Silent()).assets.values()) == [world.root / WORDS]
    beside = tmp_path / WORDS
    beside.write_text((world.root / WORDS).read_text())
    assert list(plan_conversion(request, Silent()).assets.values()) == [beside]


def test_a_branch_of_training_is_named_with_what_leaves_it_out(world: World) -> None:
    with pytest.raises(ModelFileError, match=r"AssignSub.* would change a variable") as refused:
        plan_conversion(world.request("training_branch", inputs=("x;is_training",), outputs=("y",)), Silent())
    assert refused.value.cure.startswith("--constant is_training=false")


@pytest.mark.parametrize(
    ("name", "wishes", "said", "cure"),
    [
        ("several", {}, "does not follow from the graph: 5 are taken by nothing", '--outputs "out/replaced:0;scaled:0'),
        ("several", {"outputs": ("out/replace",)}, "no node 'out/replace'", "name out/replaced:0"),
        ("several", {"outputs": ("numbers",)}, "no node 'numbers'", "name in/numbers:0"),
        ("several", {"outputs": ("top:7",)}, "top:7 does not exist: top (TopKV2) has 2 outputs", "name top:0"),
        (
            "several",
            {"inputs": ("in/numbers",), "outputs": ("scaled",)},
            "need the placeholder scale, which is not an input",
            '--inputs "in/numbers:0;scale:0"',
        ),
        (
            "several",
            {"inputs": ("scale:0[2,2];in/numbers",), "outputs": ("scaled",)},
            "scale:0 has 0 dimensions in the graph, []",
            '--inputs "scale:0=scale:0[]"',
        ),
        (
            "several",
            {"outputs": ("top:1[-1,9]",)},
            "top:1 has the shape [-1,1] in the graph, not [-1,9]",
            '--outputs "top:1=top:1[-1,1]"',
        ),
        (
            "several",
            {"outputs": ("scaled",), "method": "classify"},
            "For classify the input has to have",
            "give the keys",
        ),
        ("several", {"outputs": ("scaled",), "method": "ask"}, "--method-name can't be ask", "use predict"),
        (
            "by_reference",
            {"outputs": ("y",)},
            "need variables, such as layer/weights",
            "convert the .meta file of the checkpoint",
        ),
        (
            "classifier",
            {"outputs": ("probabilities",), "tags": ("serve",)},
            "--tag would have no effect",
            "leave out --tag",
        ),
        ("classifier", {"outputs": ("quite_another",)}, "no node 'quite_another'", "./inv graph-nodes /"),
        ("classifier", {"constants": {"imag": "1"}}, "no node 'imag'", "name image:0"),
        ("classifier", {"constants": {"best": "1"}}, "best is a ArgMax, not a placeholder", "name a placeholder"),
        ("training_branch", {"constants": {"is_training": "7"}}, "is of the type bool", "--constant is_training=true"),
    ],
)
def test_what_can_not_be_is_refused_with_what_to_type(
    world: World, name: str, wishes: dict[str, Any], said: str, cure: str
) -> None:
    with pytest.raises(NpuServingError) as refused:
        plan_conversion(world.request(name, output="never", **wishes), Silent())
    assert said in refused.value.what
    assert refused.value.cure.startswith(cure)
    assert not (world.root / "converted" / "never").exists()


@pytest.mark.parametrize(
    ("flag", "wish"), [("--signature", {"signature": "ids"}), ("--method-name", {"method": "predict"})]
)
def test_what_would_have_no_effect_on_signatures_that_are_kept_is_refused(
    world: World, flag: str, wish: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match=f"{flag} would have no effect") as refused:
        plan_conversion(world.request("three_signatures", "three_signatures", **wish), Silent())
    assert refused.value.cure == f"leave out {flag}, or make one signature: add --inputs and --outputs"


def test_types_are_those_that_tensorflow_finds_and_no_shape_contradicts_its_own(world: World) -> None:
    known = right = 0
    for name, case in world.cases.items():
        if not case["tensors"]:
            continue
        graph = read_graph_def_file(world.root / f"{name}.pb")
        types, shapes = TensorTypes(graph), TensorShapes(graph)
        for tensor, (data_type, shape) in case["tensors"].items():
            assert types.type_of(tensor) == data_type, (name, tensor)
            ours = shapes.shape_of(tensor)
            if shape is None:
                continue
            known += 1
            right += ours is not None and list(ours) == shape
            if ours is not None:
                fits = len(ours) == len(shape) and all(-1 in pair or len(set(pair)) == 1 for pair in zip(ours, shape))
                assert fits, (name, tensor, ours, shape)
    assert right > 0.85 * known > 200


def test_the_task_does_it_with_a_plan_that_is_what_is_done(world: World, tmp_path: Path) -> None:
    words = ["convert-pb", str(world.root / "classifier.pb"), "--output", str(tmp_path / "models" / "classifier")]
    words += ["--outputs", "probabilities;best", "--json"]
    planned, done = typed(*words, "--dry-run"), typed(*words)
    assert (planned.code, done.code) == (0, 0), done
    assert {**planned.document, "next": done.document["next"]} == done.document
    assert done.document["directory"] == str(tmp_path / "models" / "classifier" / "1")
    size = (tmp_path / "models" / "classifier" / "1" / "saved_model.pb").stat().st_size
    assert abs(size - done.document["saved_model_bytes"]) < 500
    assert done.document["next"][0] == f"./inv check-model {tmp_path / 'models' / 'classifier'}"
    wrong = typed("convert-pb", str(world.root / "classifier.pb"))
    assert wrong.code == 2 and "./inv convert-pb" in wrong.said
