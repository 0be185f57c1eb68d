"""Scores of classes: which output has them, the best ones, and whether the right one is among them."""

from __future__ import annotations

import numpy as np
import pytest

from npu_serving.asking.class_scores import best_classes, hits, rows_of_scores, scores_output
from npu_serving.asking.label_files import Labels
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError


def _signature(*outputs: TensorInfo) -> Signature:
    return Signature("s", "", (), outputs)


def test_the_output_with_one_real_number_for_each_class_has_the_scores() -> None:
    scores, classes = TensorInfo("scores", "DT_FLOAT", (-1, 1, 1, 5)), TensorInfo("classes", "DT_INT64", (-1,))
    assert scores_output(_signature(classes, scores), "") == "scores"
    assert scores_output(_signature(classes, scores), "classes") == "classes"
    other = TensorInfo("other", "DT_HALF", (-1, 5))
    with pytest.raises(RequestError, match=r"More than one of the outputs \(scores, other\)"):
        scores_output(_signature(scores, other), "")
    with pytest.raises(RequestError, match="None of the outputs"):
        scores_output(_signature(classes), "")
    with pytest.raises(RequestError, match="has no output 'none'"):
        scores_output(_signature(scores), "none")


def test_dimensions_of_one_within_a_row_are_left_out_and_others_refused() -> None:
    assert rows_of_scores("y", np.zeros((2, 1, 3, 1), np.float16)).shape == (2, 3)
    assert rows_of_scores("y", np.zeros(2)).shape == (2, 1)
    for wrong in (np.zeros((2, 3, 3)), np.float64(1.0), np.array([["a"]], object)):
        with pytest.raises(RequestError, match="has no scores of classes"):
            rows_of_scores("y", np.asarray(wrong))


def test_the_best_classes_come_highest_first_of_equal_ones_the_lower_number_and_nan_last() -> None:
    scores = np.array([[0.1, 0.9, np.nan, 0.9], [3.0, 2.0, 1.0, -np.inf]])
    found = best_classes(scores, 3, Labels({1: "one"}))
    assert [[each.number for each in row] for row in found] == [[1, 3, 0], [0, 1, 2]]
    assert (found[0][0].name, found[0][1].name, found[0][0].score) == ("one", "", 0.9)


def test_a_right_class_with_the_score_of_the_last_of_the_best_is_among_them_and_one_of_nan_is_not() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [np.nan, 0.5, 0.1], [0.3, 0.2, 0.1]])
    assert hits(scores, [0, 1, 0, 2], 1).tolist() == [True, True, False, False]
    assert hits(scores, [0, 1, 0, 2], 2).tolist() == [True, True, False, False]
    assert hits(scores, [2, 2, 2, 2], 3).tolist() == [True, True, True, True]
