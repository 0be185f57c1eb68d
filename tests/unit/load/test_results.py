"""Runs as they are kept."""

from __future__ import annotations

import json

from load_runs import level, run

from npu_serving.documents import JSON, parse_document
from npu_serving.load.results import FORMAT, LoadRun, MarkedEvent, ThresholdResult


def test_a_run_is_read_back_as_it_was_written() -> None:
    kept = run(
        level(events=(MarkedEvent(3.0, "change begun"),), errors={"busy": 3}),
        level(rate=200.0, seed=2),
        best=1,
        thresholds=(ThresholdResult("p99>20ms", 0, 12.5, "12.5 ms", False),),
        golden={"compared": 10, "differ": 0},
    )
    text = json.dumps(kept.to_json(), allow_nan=False)
    assert parse_document(text, LoadRun, where="x.json", syntax=JSON, format=FORMAT) == kept
