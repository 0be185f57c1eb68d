"""Zeros are sent where the shapes are known; where they are not, it is said why."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.client.answers import ModelMetadata, Signature, TensorInfo
from npu_serving.client.request import PredictRequest
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.serving.first_request import GOLDEN, ZEROS, golden_of_model, zeros_for
from npu_serving.serving.golden_request import GoldenRequest


def metadata(*inputs: TensorInfo, name: str = "serving_default") -> ModelMetadata:
    return ModelMetadata("m", 1, (Signature(name, "p", inputs, ()),))


def test_zeros_have_the_shapes_and_kinds_of_the_inputs_and_one_row_where_that_is_open() -> None:
    first = zeros_for(
        metadata(
            TensorInfo("ids", "DT_INT32", (-1, 2)),
            TensorInfo("scale", "DT_FLOAT", ()),
            TensorInfo("on", "DT_BOOL", (1,)),
            TensorInfo("text", "DT_STRING", (-1,)),
            name="only",
        )
    )
    assert first.kind == ZEROS
    values = {"ids": [[0, 0]], "scale": 0.0, "on": [False], "text": [""]}
    assert first.request == PredictRequest("inputs", values, "only")


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (TensorInfo("x", "DT_FLOAT", None), "the shape of its input is not known (x: DT_FLOAT of any rank)"),
        (TensorInfo("x", "DT_FLOAT", (-1, -1)), "the shape of its input is not known"),
        (TensorInfo("x", "DT_HALF", (1,)), "the REST API does not take its input (x: DT_HALF [1])"),
        (TensorInfo("x", "DT_FLOAT", (-1, 1 << 20, 1 << 20)), "a request would have 1099511627776 values"),
    ],
)
def test_what_can_not_be_asked_is_said(tensor: TensorInfo, why: str) -> None:
    first = zeros_for(metadata(tensor))
    assert first.request is None
    assert why in first.why_not


def test_without_a_default_signature_or_inputs_nothing_is_asked() -> None:
    one = Signature("a", "p", (), ())
    assert "no inputs" in zeros_for(metadata()).why_not
    two = ModelMetadata("m", 1, (one, Signature("b", "p", (), ())))
    assert "no signature serving_default" in zeros_for(two).why_not


def test_a_golden_request_is_for_the_model_it_was_recorded_of_only() -> None:
    request = PredictRequest("instances", [1.0])
    golden = GoldenRequest(Path("/models/m"), "m", None, request, [2.5], 0.001, "b")
    found = golden_of_model(ServedModel("m", "/models/m"), golden)
    assert found is not None
    assert (found.request, found.kind) == (request, GOLDEN)
    assert golden_of_model(ServedModel("m", "/other/m"), golden) is None
    assert golden_of_model(ServedModel("n", "/models/m"), golden) is None
    assert golden_of_model(ServedModel("m", "/models/m"), None) is None
