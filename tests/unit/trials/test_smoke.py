"""smoke: when an answer counts as the NPU's."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.asking.npu_signs import NpuSigns
from npu_serving.errors import ServerError
from npu_serving.trials.smoke import check_compiled


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NpuSigns(), NpuSigns(compiled=1)),
        (NpuSigns(compiled=1), NpuSigns(compiled=2)),
        (NpuSigns(compiled=1, warmed_up=True), NpuSigns(compiled=1, warmed_up=True)),
    ],
)
def test_what_was_compiled_with_the_request_or_by_the_warm_up_is_the_npus(before: NpuSigns, after: NpuSigns) -> None:
    check_compiled(before, after, Path("/log"))


@pytest.mark.parametrize("signs", [NpuSigns(), NpuSigns(warmed_up=True), NpuSigns(compiled=2)])
def test_an_answer_without_a_graph_compiled_for_it_is_the_cpus(signs: NpuSigns) -> None:
    with pytest.raises(ServerError, match=r"the CPU computed it.*\(/log\)") as caught:
        check_compiled(signs, signs, Path("/log"))
    assert "./inv cann-info" in caught.value.cure
