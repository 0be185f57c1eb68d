"""What proves a model: its golden requests, and zeros where the shapes are known; where not, it is said why."""

from __future__ import annotations

import dataclasses

import pytest

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import PredictRequest
from npu_serving.client.model_types import ModelMetadata, Signature, TensorInfo
from npu_serving.serving.first_request import PREDICT, answered_text, first_requests, zeros_for

X = TensorInfo("x", "DT_FLOAT", (-1, 2))
GOLDEN = GoldenRequest("g", "m", PredictRequest("instances", [1.0]), [2.5])


def signature(*inputs: TensorInfo, name: str = "serving_default", method: str = PREDICT) -> Signature:
    return Signature(name, method, inputs, ())


def metadata(*signatures: Signature) -> ModelMetadata:
    return ModelMetadata("m", 1, signatures)


def test_zeros_have_the_shapes_and_kinds_of_the_inputs_and_one_row_where_that_is_open() -> None:
    first = zeros_for(
        signature(
            TensorInfo("ids", "DT_INT32", (-1, 2)),
            TensorInfo("scale", "DT_FLOAT", ()),
            TensorInfo("on", "DT_BOOL", (1,)),
            TensorInfo("text", "DT_STRING", (-1,)),
            name="only",
        )
    )
    values = {"ids": [[0, 0]], "scale": 0.0, "on": [False], "text": [""]}
    assert first.request == PredictRequest("inputs", values, "only")
    assert not first.needs_grpc
    assert zeros_for(signature(TensorInfo("x", "DT_HALF", (1,)))).needs_grpc, "the REST API takes no such input"


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (TensorInfo("x", "DT_FLOAT", None), "the shape of its input is not known (x: DT_FLOAT of any rank)"),
        (TensorInfo("x", "DT_FLOAT", (-1, -1)), "the shape of its input is not known"),
        (TensorInfo("x", "DT_COMPLEX64", (1,)), "no request can give its input (x: DT_COMPLEX64 [1])"),
        (TensorInfo("x", "DT_FLOAT", (1, 1 << 20, 1 << 20)), "a request would have 1099511627776 values"),
    ],
)
def test_what_can_not_be_asked_is_said(tensor: TensorInfo, why: str) -> None:
    first = zeros_for(signature(tensor))
    assert first.request is None
    assert why in first.why_not


def test_without_a_default_signature_or_inputs_nothing_is_asked() -> None:
    assert "no inputs" in zeros_for(signature()).why_not
    (first,) = first_requests(metadata(signature(name="a", method="x"), signature(name="b", method="x")), ())
    assert "no signature serving_default" in first.why_not


def test_each_signature_for_predictions_is_asked_and_only_the_default_one_has_to_answer() -> None:
    several = metadata(
        signature(X, name="classify", method="tensorflow/serving/classify"), signature(X, name="embed"), signature(X)
    )
    found = list(first_requests(several, ()))
    assert [(first.signature, first.is_needed) for first in found] == [("embed", False), ("serving_default", True)]
    (only,) = first_requests(metadata(signature(X, name="a", method="x")), ())
    assert (only.signature, only.is_needed) == ("a", True)


def test_all_golden_requests_go_first_and_zeros_to_the_signatures_that_none_of_them_asks() -> None:
    embed = dataclasses.replace(GOLDEN, name="e", request=PredictRequest("instances", [1.0], "embed"))
    both = metadata(signature(X, name="embed"), signature(X))
    found = list(first_requests(both, (GOLDEN, embed, GOLDEN)))
    assert [first.golden for first in found] == [GOLDEN, embed, GOLDEN]
    assert answered_text(found) == "its 3 golden requests"
    found = list(first_requests(both, (embed,)))
    assert [(first.golden, first.signature) for first in found] == [(embed, "embed"), (None, "serving_default")]
    assert answered_text(found) == "its golden request, zeros to serving_default"
    assert answered_text(found[1:]) == "zeros"
    assert answered_text([]) == ""


def test_a_golden_request_for_a_version_that_is_not_served_blocks_nothing_and_proves_nothing() -> None:
    old = dataclasses.replace(GOLDEN, version=1)
    found = list(first_requests(metadata(signature(X)), (old,), {2}))
    assert [(first.golden, first.is_needed, bool(first.request)) for first in found] == [
        (old, False, False),
        (None, True, True),
    ]
    assert "version 1, which the golden request g asks, is not served" in found[0].why_not
    assert next(iter(first_requests(metadata(signature(X)), (old,)))).request is not None, "it isn't known"
