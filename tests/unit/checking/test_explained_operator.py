"""`explain OPERATOR`: what the installed CANN says of it, what is known without one, and what a mistyped one means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cann_trees import make_cann

from npu_serving.cann.operator_library import CONFIG, MODES
from npu_serving.checking.explained_operator import ExplainedOperators, explain_name
from npu_serving.errors import RequestError
from npu_serving.options.explaining import ExplainedEntries
from npu_serving.settings import Settings


def relu(flag: str, dtypes: str) -> dict[str, object]:
    return {
        "input0": {"dtype": dtypes, "name": "x", "paramType": "required"},
        "output0": {"dtype": dtypes, "name": "y", "paramType": "required"},
        "precision_reduce": {"flag": flag},
    }


@pytest.fixture(autouse=True)
def nothing_of_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASCEND_OPP_PATH", str(tmp_path / "gone"))
    monkeypatch.delenv("ASCEND_CUSTOM_OPP_PATH", raising=False)


@pytest.fixture
def cann(tmp_path: Path) -> Settings:
    root = make_cann(tmp_path / "Ascend")
    opp = root / "ascend-toolkit/latest/opp"
    listed = {"Relu": {}, "Gray": {"isGray": True}, "MapDataset": {}, "Sum": {}}
    (opp / "built-in/framework/tensorflow/npu_supported_ops.json").write_text(json.dumps(listed))
    for chip, flag in (("ascend910", "true"), ("ascend910b", "true"), ("ascend310", "false")):
        file = opp / CONFIG / chip / f"aic-{chip}-ops-info.json"
        file.parent.mkdir(parents=True)
        chosen = {**relu("true", "float"), "dynamicFormat": {"flag": "true"}}
        file.write_text(json.dumps({"Relu": relu(flag, "float16,float"), "Conv2DIr": chosen}))
    (opp / MODES).parent.mkdir(parents=True)
    (opp / MODES).write_text("Relu=high_precision,high_performance\n")
    return Settings(cann_root=str(root))


def the_operator(settings: Settings, name: str) -> str:
    found = explain_name(settings, name)
    assert isinstance(found, ExplainedOperators)
    return " ".join(found.text().split())


def test_an_operator_has_its_list_types_modes_and_chips(cann: Settings) -> None:
    said = the_operator(cann, "Relu")
    assert said.startswith("Relu (operator) The adapter gives it to the NPU. on the NPU: it is in ")
    assert "on the NPU with mix_compile_mode: yes" in said
    assert "ascend910, ascend910b: white: with mixed precision it computes in float16" in said
    assert "ascend310: black: with mixed precision it stays in float32" in said
    assert "inputs x (float16 | float32); outputs y (float16 | float32)" in said
    assert "implementation modes, for op_precision_mode: high_precision, high_performance" in said
    assert "looked up in: CANN 6.3.RC2: " in said
    assert "modify_mixlist: {black-list: {to-add: [Relu]}}" in said


def test_the_json_has_the_same(cann: Settings) -> None:
    shown = json.loads(json.dumps(explain_name(cann, "Relu").to_json()))
    (entry,) = shown["entries"]
    assert (shown["exact"], entry["family"], entry["on_npu"]) == (True, "operator", True)
    assert {each["chip"]: each["mixed_precision_list"] for each in entry["library"]} == {
        "ascend310": "black",
        "ascend910": "white",
        "ascend910b": "white",
    }
    assert entry["library"][0]["inputs"] == [{"name": "x", "dtypes": ["float16", "float32"], "any_number": False}]
    assert entry["implementation_modes"] == ["high_precision", "high_performance"]


def test_what_the_adapter_leaves_to_the_cpu_says_why(cann: Settings) -> None:
    assert "on the NPU with mix_compile_mode: no: it is marked isGray" in the_operator(cann, "Gray")
    dataset = the_operator(cann, "MapDataset")
    assert "The adapter leaves it to the CPU" in dataset
    assert "never: the adapter leaves datasets" in dataset
    of_ir = the_operator(cann, "Conv2DIr")
    assert "A type of Ascend IR, into which operators of TensorFlow are compiled for the NPU." in of_ir
    assert "does not have it, nor does a list of custom operators; an operator of TensorFlow of that name" in of_ir
    assert explain_name(cann, "Conv2DIr").to_json()["entries"][0]["on_npu"] is None  # type: ignore[index]
    assert "chosen by a program of CANN's" in of_ir
    assert "compiled into one of another name, or runs on the AI CPU" in the_operator(cann, "Sum")
    assert "it reads any file that the server's user may read" in the_operator(cann, "ReadFile")
    assert "it can't run: calls a Python function" in the_operator(cann, "PyFunc")


def test_modes_that_are_not_known_are_not_called_the_default(cann: Settings) -> None:
    assert "for op_precision_mode: high_performance only" in the_operator(cann, "Conv2DIr")
    (Path(cann.cann_root) / "ascend-toolkit/latest/opp" / MODES).unlink()
    assert "for op_precision_mode: not known: " in the_operator(cann, "Conv2DIr")


def test_the_list_of_a_custom_operator_is_named(
    cann: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = tmp_path / "mine/framework/tensorflow/npu_supported_ops.json"
    custom.parent.mkdir(parents=True)
    custom.write_text('{"MyOwn": {}}')
    monkeypatch.setenv("ASCEND_CUSTOM_OPP_PATH", str(tmp_path / "mine"))
    assert f"on the NPU: it is in {custom}" in the_operator(cann, "MyOwn")


@pytest.mark.parametrize(
    ("name", "meant"), [("relu", "Relu"), ("RELU", "Relu"), ("Reluu", "Relu"), ("conv2dIR", "Conv2DIr")]
)
def test_a_name_that_is_nearly_an_operator_finds_it(cann: Settings, name: str, meant: str) -> None:
    said = the_operator(cann, name)
    assert said.startswith(f"Nothing is called '{name}'. The nearest is: {meant} (operator)")


@pytest.mark.parametrize("name", ["precision_mode_v2", "--port", "混合精度", "profiling", "dump", "precison_mode"])
def test_options_and_their_words_come_first(cann: Settings, name: str) -> None:
    assert isinstance(explain_name(cann, name), ExplainedEntries)


def test_without_cann_what_is_known_is_said_and_the_rest_has_a_cure(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    nothing = Settings(cann_root=str(tmp_path / "empty"))
    said = the_operator(nothing, "ReadFile")
    assert "Whether it runs on the NPU is not known here: no CANN is found." in said
    assert "it reads any file" in said
    assert "next: ./inv cann-info" in said
    assert "it runs where the operators beside it run" in the_operator(nothing, "Const")
    with pytest.raises(RequestError, match="no CANN to look an operator up in") as caught:
        explain_name(nothing, "MatMulV2")
    assert "./inv cann-info" in caught.value.cure
    with pytest.raises(RequestError, match=r"is found by 'qqqqzzz'\."):
        explain_name(nothing, "qqqqzzz")
