"""Batching against a model's inputs: requests that it could not put together are named before they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from npu_serving.deploy.batching_checks import check_batching
from npu_serving.deploy.deployment_sections import BatchingOptions
from npu_serving.findings import PROBLEM, WARNING
from npu_serving.models.saved_model import GraphContent, MetaGraph, ModelSignature, TensorSpec

DEFAULTS = BatchingOptions()
Inputs = Mapping[str, "Sequence[int] | None"]


def tensor(name: str, sizes: Sequence[int] | None) -> TensorSpec:
    return TensorSpec(f"{name}:0", "float32", None if sizes is None else tuple(sizes))


def found(*signatures: Inputs, batching: BatchingOptions | None = DEFAULTS) -> list[tuple[str, str]]:
    named = {
        name: ModelSignature(
            {
                key: TensorSpec(f"{key}:0", "float32", None if sizes is None else tuple(sizes))
                for key, sizes in each.items()
            },
            {},
            "",
        )
        for name, each in zip("abc", signatures)
    }
    graph = MetaGraph(frozenset(), "", named, GraphContent({}, {}))
    return [(finding.severity, finding.what) for finding in check_batching(batching, graph, "m", "models.0")]


@pytest.mark.parametrize("sizes", [[-1], [-1, 3], [-1, -1, 5], [-1, 8, 3], None])
def test_inputs_with_room_for_more_rows_or_of_unknown_shape_are_fine(sizes: Sequence[int] | None) -> None:
    assert found({"x": sizes}) == []


def test_without_batching_nothing_is_asked_of_the_inputs() -> None:
    assert found({"x": []}, batching=None) == []


def test_a_scalar_fails_every_request_of_its_signature() -> None:
    ((severity, what),) = found({"x": [-1], "threshold": []})
    assert severity == PROBLEM
    assert "its input threshold is a scalar, and must have at least one dimension" in what


def test_where_another_signature_works_it_is_a_warning() -> None:
    ((severity, what),) = found({"x": [-1]}, {"s": []})
    assert severity == WARNING
    assert "the signature b of m" in what


def test_an_input_of_one_row_can_not_be_put_together_with_others() -> None:
    ((severity, what),) = found({"image": [1, 224, 224, 3]})
    assert severity == PROBLEM
    assert "The input image of m takes one row" in what


def test_a_fixed_number_of_rows_takes_batches_of_that_size_alone() -> None:
    ((severity, what),) = found({"x": [4, -1, -1, 3]})
    assert severity == PROBLEM
    assert "takes 4 rows" in what
    assert found({"x": [4, 3]}, batching=BatchingOptions(max_batch_size=4, allowed_batch_sizes=(4,))) == []
    ((severity, _),) = found({"x": [4, 3]}, batching=BatchingOptions(max_batch_size=8, allowed_batch_sizes=(4, 8)))
    assert severity == PROBLEM


def test_a_first_dimension_that_looks_like_the_height_of_an_image_is_a_warning() -> None:
    ((severity, what),) = found({"x": [-1, -1, 3]})
    assert severity == WARNING
    assert "looks like height, width and channels" in what


def test_what_padding_fills_up_with_is_a_warning() -> None:
    ((severity, what),) = found({"x": [-1, -1]}, batching=BatchingOptions(pad_variable_length_inputs=True))
    assert severity == WARNING
    assert "with the first value of the shorter input, not with zeros" in what
