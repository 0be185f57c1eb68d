"""The operators of TensorFlow 1.15.0 as data."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from npu_serving.models import operator_definitions
from npu_serving.models.operator_definitions import is_later_operator, later_attributes, operator_definition

# Prints each operator of the real registry as NAME, inputs, outputs, attributes; libraries of contrib are not loaded.
REGISTERED = """
import json
from tensorflow.core.framework import op_def_pb2
from tensorflow.python import pywrap_tensorflow as c
ops = op_def_pb2.OpList()
ops.ParseFromString(c.TF_GetBuffer(c.TF_GetAllOpList()))
sides = lambda op: [[[a.name, a.number_attr, a.type_list_attr, a.type_attr, a.is_ref] for a in side]
                    for side in (op.input_arg, op.output_arg)]
print(json.dumps({op.name: [*sides(op), [[a.name, a.type, a.HasField("default_value")] for a in op.attr],
                            op.is_stateful] for op in ops.op}))
"""


def test_the_operators_are_those_that_tensorflow_registers() -> None:
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        pytest.skip("NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15.0")
    argv = [python, "-W", "ignore", "-c", REGISTERED]
    real = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    ours = {}
    for name in json.loads(Path(operator_definitions.__file__).with_suffix(".json").read_bytes()):
        definition = operator_definition(name)
        assert definition is not None
        if definition.is_contrib:
            continue
        sides = [
            [
                [
                    argument.name,
                    argument.number,
                    argument.type_list,
                    argument.data_type if argument.data_type in definition.attributes else "",
                    argument.is_reference,
                ]
                for argument in side
            ]
            for side in (definition.inputs, definition.outputs)
        ]
        attributes = [[each.name, each.kind, each.has_default] for each in definition.attributes.values()]
        ours[name] = [*sides, attributes, definition.is_stateful]
    assert ours == real


def test_an_operator_has_its_tensors_and_its_attributes_with_their_defaults() -> None:
    convolution, parse = operator_definition("Conv2D"), operator_definition("ParseExample")
    assert convolution is not None and parse is not None
    assert [argument.data_type for argument in convolution.inputs] == ["T", "T"]
    assert convolution.attributes["dilations"].default == [1, 1, 1, 1]
    assert convolution.attributes["padding"].allowed == ("SAME", "VALID", "EXPLICIT")
    assert not convolution.attributes["strides"].has_default
    assert (parse.inputs[2].number, parse.inputs[2].data_type) == ("Nsparse", "string")
    assert parse.inputs[4].type_list == "Tdense"
    assign = operator_definition("Assign")
    assert assign is not None and assign.outputs[0].is_reference


def test_what_later_releases_added_is_told_from_what_nobody_knows() -> None:
    assert operator_definition("BatchMatMulV3") is None and is_later_operator("BatchMatMulV3")
    assert operator_definition("NobodyKnowsIt") is None and not is_later_operator("NobodyKnowsIt")
    assert later_attributes("MaxPool")["explicit_paddings"].default == []
    assert later_attributes("FusedBatchNormV3")["exponential_avg_factor"].default == 1.0
    assert not later_attributes("Identity")
