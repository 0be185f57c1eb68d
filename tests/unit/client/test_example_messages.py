"""Classify, Regress and MultiInference, held against protobuf."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client import example_messages
from npu_serving.client.example_messages import (
    read_classification,
    read_multi_inference,
    read_regression,
    write_examples_request,
    write_multi_inference_request,
)
from npu_serving.client.example_types import CLASSIFY, REGRESS, ScoredLabel
from npu_serving.client.model_spec import ModelSpec
from npu_serving.errors import RequestError
from npu_serving.wire_bytes import MalformedMessageError, bytes_field

SERVING = "tensorflow.serving."
SPEC = ModelSpec("m", 2, signature_name="s")
single = st.floats(width=32, allow_nan=False)
whole = st.integers(-(2**63), 2**63 - 1)
features = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.lists(single, min_size=1, max_size=3),
        st.lists(whole, min_size=1, max_size=3),
        st.lists(st.binary(max_size=5), min_size=1, max_size=3),
        single,
        whole,
        st.binary(max_size=5),
        st.booleans(),
    ),
    max_size=3,
)


def read(example: Any) -> dict[str, Any]:
    """The values of a tf.Example, by name."""
    found = {}
    for name, feature in example.features.feature.items():
        kinds = [kind for kind in ("bytes_list", "float_list", "int64_list") if feature.HasField(kind)]
        found[name] = [value for kind in kinds for value in getattr(feature, kind).value]
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@given(st.lists(features, max_size=3), st.none() | features)
def test_protobuf_reads_the_examples_that_are_written(examples: list[dict[str, Any]], context: Any) -> None:
    written = write_examples_request(SPEC, examples, context)
    for name in ("ClassificationRequest", "RegressionRequest"):
        theirs = message_class(SERVING + name).FromString(written)
        assert (theirs.model_spec.name, theirs.model_spec.version.value) == ("m", 2)
        has = theirs.input.example_list if context is None else theirs.input.example_list_with_context
        expected = [{name: listed(value) for name, value in example.items()} for example in examples]
        assert [read(example) for example in has.examples] == expected
        if context is not None:
            assert read(has.context) == {name: listed(value) for name, value in context.items()}


def test_arrays_texts_and_nothing_at_all_are_features_too() -> None:
    given_features = {
        "array": np.array([[1, 2], [3, 4]], np.int16),
        "half": np.array([0.5], np.float16),
        "texts": ["\u4e2d", b"\xff\0"],
        "none": [],
        "empty": np.zeros((0, 3), np.float32),
    }
    theirs = message_class(SERVING + "ClassificationRequest").FromString(write_examples_request(SPEC, [given_features]))
    (example,) = theirs.input.example_list.examples
    expected = {
        "array": [1, 2, 3, 4],
        "half": [0.5],
        "texts": ["\u4e2d".encode(), b"\xff\0"],
        "none": [],
        "empty": [],
    }
    assert read(example) == expected
    assert not example.features.feature["none"].ByteSize()  # a feature that a server takes for one that is left out


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 1e39], "float32"),
        ([1 << 63], "more than an int64"),
        ([1, "a"], "not bytes or str"),
        ([1j], "complex128"),
        ([[1], [1, 2]], "inhomogeneous"),
        (None, "NoneType"),
        ("\udc80", "surrogates"),
    ],
)
def test_what_no_feature_holds_is_refused_with_its_name_and_its_example(value: object, said: str) -> None:
    with pytest.raises(RequestError, match=r"The feature 'x' of examples\[1\]") as caught:
        write_examples_request(SPEC, [{}, {"x": value}])
    assert said in caught.value.what


def test_several_tasks_are_asked_of_the_same_examples() -> None:
    tasks = [(SPEC, CLASSIFY), (ModelSpec("m", label="stable"), REGRESS)]
    theirs = message_class(SERVING + "MultiInferenceRequest").FromString(
        write_multi_inference_request(tasks, [{"x": 1}])
    )
    assert [(task.model_spec.version_label, task.method_name) for task in theirs.tasks] == [
        ("", CLASSIFY),
        ("stable", REGRESS),
    ]
    assert [read(example) for example in theirs.input.example_list.examples] == [{"x": [1]}]


def classification(of: Any) -> None:
    for classes in ([("cat", 0.5), ("\u732b", 0.25)], []):
        found = of.classifications.add()
        for label, score in classes:
            found.classes.add(label=label, score=score)


CLASSES = ((ScoredLabel("cat", 0.5), ScoredLabel("\u732b", 0.25)), ())


def test_classes_values_and_both_are_read() -> None:
    answer = message_class(SERVING + "ClassificationResponse")()
    answer.model_spec.name = "m"
    classification(answer.result)
    assert read_classification(memoryview(answer.SerializeToString())) == (ModelSpec("m"), CLASSES)
    of_values = message_class(SERVING + "RegressionResponse")()
    of_values.model_spec.version.value = 7
    for value in (0.5, 0, -1):
        of_values.result.regressions.add(value=value)
    spec, values = read_regression(memoryview(of_values.SerializeToString()))
    assert (spec.version, values.dtype.name, values.tolist()) == (7, "float32", [0.5, 0, -1])
    both = message_class(SERVING + "MultiInferenceResponse")()
    for each, result in (("a", answer.result), ("b", of_values.result)):
        entry = both.results.add()
        entry.model_spec.name = each
        (entry.classification_result if each == "a" else entry.regression_result).CopyFrom(result)
    first, second = read_multi_inference(memoryview(both.SerializeToString()))
    assert (first.spec.name, first.classes, first.values) == ("a", CLASSES, None)
    assert second.classes is None
    assert second.values is not None
    assert second.values.tolist() == [0.5, 0, -1]


def test_a_label_that_is_not_utf8_is_read_with_its_bytes() -> None:
    answer = bytes_field(1, bytes_field(1, bytes_field(1, bytes_field(1, b"\xc3\xa8"[:1]))))
    _, (((label),),) = read_classification(memoryview(answer))
    assert label.label.encode("utf-8", "surrogateescape") == b"\xc3"


def test_more_classes_than_are_read_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(example_messages, "MOST_ENTRIES", 3)
    for read_it in (read_classification, read_regression):
        with pytest.raises(MalformedMessageError, match="more than 3"):
            read_it(memoryview(bytes_field(1, bytes_field(1, b"") * 4)))
    with pytest.raises(MalformedMessageError, match="more than 3"):
        read_classification(memoryview(bytes_field(1, bytes_field(1, bytes_field(1, b"") * 4))))
    with pytest.raises(MalformedMessageError, match="more than 3"):
        read_multi_inference(memoryview(bytes_field(1, b"") * 4))


@given(st.binary(max_size=60))
def test_damaged_answers_are_refused_and_raise_nothing_else(noise: bytes) -> None:
    for data in (
        noise,
        bytes_field(1, noise),
        bytes_field(1, bytes_field(2, noise)),
        bytes_field(1, bytes_field(1, noise)),
    ):
        for read_it in (read_classification, read_regression, read_multi_inference):
            try:
                read_it(memoryview(data))
            except MalformedMessageError:
                continue
