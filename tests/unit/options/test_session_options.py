"""Which options are written besides the caller's, and which are refused."""

from __future__ import annotations

import pytest

from npu_serving.errors import RequestError
from npu_serving.options.session_options import complete_options


def test_what_a_server_needs_stands_before_what_is_asked_for() -> None:
    made = complete_options({"mix_compile_mode": True})
    assert list(made.items()) == [
        ("graph_run_mode", 0),
        ("use_off_line", True),
        ("precision_mode_v2", "fp16"),
        ("mix_compile_mode", True),
    ]


@pytest.mark.parametrize("chosen", [{"precision_mode": "force_fp32"}, {"precision_mode_v2": "origin"}])
def test_a_precision_that_is_chosen_is_the_only_one(chosen: dict[str, str]) -> None:
    assert complete_options(dict(chosen)) == {"graph_run_mode": 0, "use_off_line": True, **chosen}


@pytest.mark.parametrize(
    "options", [{"graph_run_mode": 1}, {"use_off_line": 1}, {"graph_run_mode": False}, {"use_off_line": False}]
)
def test_what_a_server_needs_can_not_be_otherwise(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="can't be"):
        complete_options(dict(options))


def test_both_precisions_and_a_name_that_is_not_one_are_refused() -> None:
    with pytest.raises(RequestError, match="cannot be combined"):
        complete_options({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"})
    with pytest.raises(RequestError, match="not a valid name"):
        complete_options({"a b": 1})
