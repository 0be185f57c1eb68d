"""NpuOptimizer's name and its switch: what the adapter would silently misread is an error here."""

from __future__ import annotations

import pytest

from npu_serving.errors import RequestError
from npu_serving.options.npu_optimizer import OptimizerParameter, asks_for_npu


def switch(kind: str, text: str, name: str = "use_off_line") -> dict[str, OptimizerParameter]:
    return {name: OptimizerParameter(kind, text, "/c.cfg:7")}


@pytest.mark.parametrize(
    "name",
    [
        "npuoptimizer",
        "NPUOptimizer",
        "NpuOptimiser",
        "NpuOptimzer",
        "NpuOptimizer ",
        "Npu_Optimizer",
        "npu",
        "NPUOptimization",
    ],
)
def test_a_name_near_npuoptimizer_is_an_error_because_the_server_would_say_nothing(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        asks_for_npu(name, "/c.cfg:3", {})
    assert caught.value.what.startswith("/c.cfg:3: ")
    assert "served by the CPU" in caught.value.cause
    assert caught.value.cure == 'write name: "NpuOptimizer"'


@pytest.mark.parametrize("name", ["", "GradFusionOptimizer", "constfold", "MyOptimizer", "auto_mixed_precision"])
def test_another_optimizer_is_nobodys_business_here(name: str) -> None:
    assert not asks_for_npu(name, "/c.cfg:3", switch("i", "1"))


@pytest.mark.parametrize(("kind", "text"), [("i", "1"), ("s", '"true"'), ("f", "1.0"), ("type", "DT_BOOL"), ("", "")])
def test_a_switch_of_another_kind_is_an_error_because_it_reads_as_false(kind: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        asks_for_npu("NpuOptimizer", "/c.cfg:3", switch(kind, text))
    assert caught.value.what.startswith("/c.cfg:7: use_off_line")
    assert "takes anything else for false" in caught.value.cause
    assert caught.value.cure == "write value { b: true }"


@pytest.mark.parametrize("key", ["use_offline", "Use_Off_Line", "use_off_lin"])
def test_a_mistyped_switch_is_an_error(key: str) -> None:
    with pytest.raises(RequestError, match=key):
        asks_for_npu("NpuOptimizer", "/c.cfg:3", switch("b", "false", key))


@pytest.mark.parametrize(("text", "on"), [("true", True), ("t", True), ("1", True), ("false", False), ("f", False)])
def test_the_switch_decides_and_is_on_where_it_is_left_out(text: str, on: bool) -> None:
    assert asks_for_npu("NpuOptimizer", "/c.cfg:3", switch("b", text)) is on
    assert asks_for_npu("NpuOptimizer", "/c.cfg:3", {"graph_run_mode": OptimizerParameter("i", "0", "")})
