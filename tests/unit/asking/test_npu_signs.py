"""The only sure signs of the NPU, in the wording of the adapter and of the server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npu_serving.asking.npu_signs import CHECK_RESULT, left_to_the_cpu, signs_in

LINE = (
    "2026-01-01 00:00:00.000001: I tf_adapter/kernels/geop_npu.cc:996] The model has been compiled on the Ascend AI "
    "processor, current graph id is: {}"
)
OLDEST = "I tf_adapter/x.cc:799] The model has been compiled on the Ascend AI processor, current graph id is:1"


def test_each_compiled_graph_is_counted_whatever_the_release_writes_behind_it() -> None:
    assert signs_in("\n".join([LINE.format(1), "something else", LINE.format(2), OLDEST])).compiled == 3
    assert signs_in("The model has been loaded").compiled == 0


@pytest.mark.parametrize(("records", "warm"), [("0", False), ("7", True), ("1000", True)])
def test_a_warm_up_counts_only_with_records(records: str, warm: bool) -> None:
    line = f"Finished reading warmup data for model at /m/1. Number of warmup records read: {records}."
    assert signs_in(line).warmed_up is warm


def _write(path: Path, *nodes: tuple[str, str]) -> None:
    reason = {"code": 1, "message": "This op is not exsit on npu."}
    rows = [{"name": n, "type": t, "is_support": False, "not_support_reason": reason} for n, t in nodes]
    path.write_text(json.dumps({"op": rows}))


def test_what_the_adapter_left_to_the_cpu_is_read_from_its_report_of_this_start(tmp_path: Path) -> None:
    path = tmp_path / CHECK_RESULT
    assert left_to_the_cpu(tmp_path, 0) == ""
    _write(path, ("a", "Where"), ("b", "Where"), ("c", "Unique"))
    assert "3 nodes to the CPU: Where (2), Unique (1)" in left_to_the_cpu(tmp_path, 0)
    os.utime(path, (1000, 1000))
    assert left_to_the_cpu(tmp_path, 1001) == "", "it is another server's"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"op": 7}', '{"op": [7, {}]}', "[" * 100_000])
def test_a_report_that_is_none_says_nothing_worse(tmp_path: Path, content: str) -> None:
    (tmp_path / CHECK_RESULT).write_text(content)
    assert left_to_the_cpu(tmp_path, 0) in (
        "",
        f"the adapter has left 1 nodes to the CPU: ? (1) ({tmp_path}/{CHECK_RESULT})",
    )
