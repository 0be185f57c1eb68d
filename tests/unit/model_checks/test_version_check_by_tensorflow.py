"""What is said of a faulty model against what TensorFlow 1.15.0 does with it, loaded as a server loads it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from npu_serving.findings import Finding
from npu_serving.model_checks.version_check import check_version

SCRIPT = Path(__file__).resolve().parents[2] / "support" / "faulty_models.py"

SAID = {
    "unknown_op": "does not know the operator NobodyKnowsIt",
    "later_op": "BatchMatMulV3, which a later release has",
    "unknown_op_in_function": "would load the model, and requests of serving_default would fail",
    "attribute_default": "has the attribute explicit_paddings, which TensorFlow 1.15.0 does not know",
    "attribute_filled": "has the attribute explicit_paddings, which TensorFlow 1.15.0 does not know",
    "attribute_factor": "has the attribute exponential_avg_factor",
    "attribute_in_function": "(in the function pool) (MaxPool) has the attribute explicit_paddings",
    "attribute_missing": "lacks the attribute strides: the server would load the model",
    "attribute_missing_type": "lacks the attribute T: the server could not load the model",
    "attribute_of_another_kind": "of the kind int, and string is needed",
    "attribute_not_allowed": "has ROUND as its attribute padding",
    "type_not_allowed": "takes bool, and its input x is float32",
    "input_missing": "has the input gone, and there is no such node",
    "output_beyond": "has the input x:5, and that node has 1 outputs",
    "input_too_few": "the first request would end the server",
    "input_too_many": "has 3 inputs, and its operator Add takes 2",
    "control_missing": "has the input ^gone",
    "control_before_data": "after one that only runs before it",
    "input_of_another_type": "takes string, and its input x is float32",
    "cycle": "wait for each other in a circle",
    "function_missing": "does not know the operator pool",
    "function_unknown": "calls the function nowhere",
    "two_nodes_of_one_name": "Several nodes have the name y",
    "name_illegal": "takes no node of the name 'a b'",
    "name_empty": "takes no node of the name ''",
    "device_gpu": "bound to the device /device:GPU:0",
    "device_ps": "bound to the device /job:ps/task:0",
    "min_consumer": "needs a reader of the version 1000",
    "bad_consumer": "refuses readers of the version 134",
    "constant_without_value": "lacks the attribute value: the first request would end the server",
    "signature_input_missing": "is gone:0, and the graph has no such node",
    "signature_output_missing": "is gone:0, and the graph has no such node",
    "signature_output_beyond": "y (Add) has no such output",
    "signature_input_type": "says int32, and x:0 is float32",
    "signature_output_type": "says int32, and y:0 is float32",
    "signature_input_computed": "it does not name the input x of the graph",
    "method_unknown": "has the method mine",
    "method_empty": "has no method",
    "method_classify": "only Predict can ask it",
    "tags_other": "no graph with the tags [serve]",
    "index_missing": "variables.index is missing",
    "data_missing": "variables.data-00000-of-00001 is missing",
    "data_short": "and 1 bytes are missing",
    "data_changed": "the checksum of the 24 bytes",
    "index_empty": "doesn't end as the index of a checkpoint does",
    "variable_not_in_checkpoint": "lacks the variable weights_of_old",
    "variable_of_another_type": "has variables of other types than the graph",
    "variable_of_another_shape": "has variables of other shapes than the graph: the server could not load",
    "resource_of_another_shape": "other shapes than the graph, which a server takes in silence",
    "restore_gone": "names the operation save/nowhere to restore",
    "main_op_gone": "names the operation nowhere to run",
    "two_main_ops": "names 2 operations to run",
    "table_not_filled": "Nothing gives the table",
    "variable_not_restored": "Nothing gives the variable",
    "vocabulary_absent": "it is not on this machine, so the server could not load the model",
    "vocabulary_present": "is on this machine, and may not be the one",
    "asset_missing": "The asset words, which vocabulary:0 names, is not in",
    "warm_up_1001": "more than 1000 records",
    "warm_up_double": "gives DT_DOUBLE for the input x, which is float32",
    "warm_up_signature": "asks the signature other, and the model has serving_default",
    "warm_up_input": "gives the inputs z, and serving_default takes x",
    "warm_up_output": "asks for the output z",
    "warm_up_shape": "gives [2, 4] for the input x",
    "warm_up_cut": "its record 2 is cut off",
    "warm_up_unframed": "there is no record at byte 0",
    "warm_up_garbage": "Record 1",
    "warm_up_session_run": "a call of a session",
}
"""What a finding on the model says."""
ONLY_WARNED_OF = {"method_empty"}
"""Models whose requests fail, and that may be meant so: what has no method is not always for requests."""


@dataclass(frozen=True)
class Faulty:
    """The directory of a model, why TensorFlow would not load it, and why a request of each signature fails."""

    directory: Path
    load: str
    asked: Mapping[str, str]

    @property
    def fails(self) -> bool:
        return bool(self.load or any(self.asked.values()))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Faulty]:
    """All models of faulty_models.py, made and tried in one process."""
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        pytest.skip("NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15.0")
    root = tmp_path_factory.mktemp("faulty")
    done = subprocess.run([python, "-W", "ignore", SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts = json.loads(done.stdout.splitlines()[-1])
    return {name: Faulty(root / name / "1", each["load"], each["asked"]) for name, each in verdicts.items()}


def found(model: Faulty) -> tuple[Finding, ...]:
    return check_version(model.directory, with_checksums=True).findings


def test_a_problem_is_found_just_where_tensorflow_fails(faulty: Mapping[str, Faulty]) -> None:
    said = {
        name: any(finding.needs_action for finding in found(model))
        for name, model in faulty.items()
        if name not in ONLY_WARNED_OF
    }
    assert said == {name: model.fails for name, model in faulty.items() if name not in ONLY_WARNED_OF}


def test_what_keeps_a_model_out_is_told_from_what_fails_its_requests(faulty: Mapping[str, Faulty]) -> None:
    out = ("not load", "keep the server from loading", "no graph with the tags", "damaged")
    for name, model in faulty.items():
        problems = [finding.what for finding in found(model) if finding.needs_action]
        if model.fails and name not in ONLY_WARNED_OF:
            assert any(text in what for what in problems for text in out) == bool(model.load), (name, problems)


def test_a_good_model_has_no_finding_at_all(faulty: Mapping[str, Faulty]) -> None:
    good = {name: model for name, model in faulty.items() if name.startswith("good") or name == "vocabulary_asset"}
    assert len(good) > 5
    assert {name: found(model) for name, model in good.items()} == dict.fromkeys(good, ())


def test_each_fault_is_named(faulty: Mapping[str, Faulty]) -> None:
    assert set(SAID) <= set(faulty)
    missing = {name: found(faulty[name]) for name, text in SAID.items() if not said_of(faulty[name], text)}
    assert missing == {}


def said_of(model: Faulty, text: str) -> bool:
    return any(text in finding.what for finding in found(model))


def test_sizes_alone_show_a_file_that_is_too_short_and_not_one_that_was_changed(faulty: Mapping[str, Faulty]) -> None:
    short = check_version(faulty["data_short"].directory).findings
    assert "has 23 bytes, and the variables in it need 24" in short[0].what
    assert check_version(faulty["data_changed"].directory).findings == ()


def test_an_attribute_at_its_default_value_is_cured_by_the_conversion_and_another_value_is_not(
    faulty: Mapping[str, Faulty],
) -> None:
    cures = {
        name: next(finding.cure for finding in found(faulty[name]) if finding.kind == "attribute")
        for name in ("attribute_default", "attribute_factor", "attribute_in_function", "attribute_filled")
    }
    assert [name for name, cure in cures.items() if "./inv convert-pb" in cure] == list(cures)[:3]
