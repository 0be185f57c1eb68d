"""The features of a script: which go together, and what each is for."""

from __future__ import annotations

import itertools

import pytest

from npu_serving.errors import RequestError
from npu_serving.options.catalogue import session_options
from npu_serving.scripts.features import (
    SOURCES,
    chosen_features,
    list_features,
    refuse_other_flags,
    script_features,
    source_of,
)


def test_the_session_is_always_there_and_the_order_is_that_of_the_table() -> None:
    assert [feature.name for feature in chosen_features(["dump", "profiling"])] == ["session", "profiling", "dump"]


def test_a_mistyped_feature_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(RequestError) as caught:
        chosen_features(["mixed-precison"])
    assert caught.value.cure == "--feature mixed-precision"


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("gears", "mixed-computing", "do not work in mixed computing"),
        ("subgraph-gears", "gears", "only the gears of the whole graph count"),
        ("images", "dataset", "where the inputs come from"),
        ("weight-update", "images", "for each set of weights"),
    ],
)
def test_features_that_exclude_each_other_are_refused_with_the_rule(first: str, second: str, why: str) -> None:
    for names in itertools.permutations((first, second)):
        with pytest.raises(RequestError) as caught:
            chosen_features(names)
        assert why in caught.value.cause


def test_the_kind_of_the_model_follows_from_the_file_then_from_features() -> None:
    assert source_of(chosen_features([]), None) == "pb"
    assert source_of(chosen_features([]), "savedmodel") == "savedmodel"
    assert source_of(chosen_features(["savedmodel"]), None) == "savedmodel"
    assert source_of(chosen_features(["weight-update"]), None) == "checkpoint"
    with pytest.raises(RequestError, match="does not fit --model"):
        source_of(chosen_features(["checkpoint"]), "pb")
    with pytest.raises(RequestError, match="exclude each other"):
        source_of(chosen_features(["checkpoint", "pb"]), None)


@pytest.mark.parametrize("source", ["checkpoint", "savedmodel"])
def test_keep_dtypes_is_for_a_graph_that_was_imported_from_a_frozen_one_only(source: str) -> None:
    with pytest.raises(RequestError) as caught:
        source_of(chosen_features(["keep-dtypes"]), source)  # type: ignore[arg-type]
    assert "imported from a frozen graph (the guide, 7.2)" in caught.value.cause


def test_new_weights_need_variables_which_a_frozen_graph_does_not_have() -> None:
    with pytest.raises(RequestError) as caught:
        source_of(chosen_features(["weight-update"]), "pb")
    assert "has no variables" in caught.value.cause


def test_a_flag_of_a_feature_that_was_not_chosen_is_refused() -> None:
    with pytest.raises(RequestError, match="without the feature keep-dtypes"):
        refuse_other_flags(chosen_features(["dump"]), {"keep": ("a",)})
    refuse_other_flags(chosen_features(["keep-dtypes"]), {"keep": ("a",), "part": ()})


def test_the_list_has_every_feature_with_what_it_sets() -> None:
    shown = {feature["name"]: feature for feature in list_features().to_json()["features"]}  # type: ignore[attr-defined]
    assert set(shown) == set(script_features()) >= set(SOURCES)
    assert shown["mixed-precision"]["options"] == {"precision_mode_v2": "mixed_float16"}
    text = list_features().text()
    assert "Not beside gears: gears do not work in mixed computing" in text
    assert "With it: --option dynamic_dims=VALUE" in text


def test_what_features_set_and_need_are_session_options() -> None:
    for feature in script_features().values():
        assert set(feature.session_options) | set(feature.needs) <= set(session_options())
