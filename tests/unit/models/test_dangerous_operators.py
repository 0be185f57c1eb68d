"""The table of operators that reach beyond a graph."""

from __future__ import annotations

from npu_serving.models.dangerous_operators import dangerous_among, dangerous_operators


def test_the_operators_that_saved_model_cli_scan_knows_are_in_the_table() -> None:
    assert {"ReadFile", "WriteFile", "PrintV2"} <= set(dangerous_operators().files)


def test_only_those_that_a_graph_has_are_named() -> None:
    found = dangerous_among(["Add", "PyFunc", "WriteFile"])
    assert (list(found.files), list(found.python)) == (["WriteFile"], ["PyFunc"])
