"""The types of operators in CANN's library are those of every file of every chip."""

from __future__ import annotations

import json
from pathlib import Path

from npu_serving.cann.operator_library import (
    BLACK,
    GREY,
    MODES,
    WHITE,
    OperatorParameter,
    implementation_modes,
    operator_in_library,
    operator_library,
)

CONFIG = "built-in/op_impl/ai_core/tbe/config"


def put(opp: Path, chip: str, name: str, text: str) -> Path:
    file = opp / CONFIG / chip / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_types_of_all_files_and_chips_are_found(tmp_path: Path) -> None:
    put(tmp_path, "ascend910", "aic-ascend910-ops-info.json", json.dumps({"Relu": {"input0": {}}}))
    put(tmp_path, "ascend910b", "aic-ascend910b-ops-info-math.json", json.dumps({"Add": {"opFile": {}}}))
    put(tmp_path, "ascend910b", "aic-ascend910b-ops-info-nn.json", json.dumps({"Relu": {"input0": {}}}))
    found = operator_library({"ASCEND_OPP_PATH": str(tmp_path)})
    assert set(found.operators) == {"Relu", "Add"}
    assert {each.chip for each in found.operators["Relu"]} == {"ascend910", "ascend910b"}
    assert found.twice == ()


def test_what_two_files_of_one_chip_describe_is_named_once(tmp_path: Path) -> None:
    text = json.dumps({name: {"precision_reduce": {"flag": "true"}} for name in ("Relu", "Add")})
    files = [put(tmp_path, "ascend910", name, text) for name in ("aic-ascend910-ops-info.json", "backup.json")]
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path)}).twice == (("Relu", *files),)


def test_what_is_no_description_is_passed_over(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", "{", "[" * 100_000, '{"a": 1}', '{"binary": {"path": "x"}}', "\\xff")):
        put(tmp_path, "ascend910", f"{number}.json", text)
    (tmp_path / CONFIG / "ascend910/directory.json").mkdir()
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path)}).operators == {}
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path / "none")}).operators == {}


RELU = {
    "input0": {"dtype": "float16,float,int8", "name": "x", "paramType": "required"},
    "output0": {"dtype": "float16,float,int8", "name": "y", "paramType": "required"},
    "precision_reduce": {"flag": "true"},
}


def test_types_lists_and_data_types_are_those_of_the_file(tmp_path: Path) -> None:
    many = {f"input{number}": {"dtype": "int8", "name": f"i{number}", "paramType": "dynamic"} for number in range(12)}
    chosen = {"input0": {"dtype": "float16", "name": "x"}, "dynamicFormat": {"flag": "true"}}
    written = {
        "Relu": RELU,
        "Exp": {**RELU, "precision_reduce": {"flag": "false"}},
        "Concat": many,
        "Conv2D": chosen,
        "Odd": {"input0": {"dtype": 7, "name": []}, "output0": "y", "precision_reduce": "true"},
    }
    put(tmp_path, "ascend910", "aic-ascend910-ops-info.json", json.dumps(written))
    found = operator_library({"ASCEND_OPP_PATH": str(tmp_path)}).operators
    (relu,) = found["Relu"]
    assert relu.inputs == (OperatorParameter("x", ("float16", "float32", "int8")),)
    assert relu.dtypes_are_known
    assert [found[name][0].listed for name in ("Relu", "Exp", "Concat", "Odd")] == [WHITE, BLACK, GREY, GREY]
    assert [each.name for each in found["Concat"][0].inputs] == [f"i{number}" for number in range(12)]
    assert found["Concat"][0].inputs[0].is_dynamic
    assert not found["Conv2D"][0].dtypes_are_known
    assert not found["Odd"][0].dtypes_are_known
    for name in written:
        assert operator_in_library(tmp_path, name) == found[name]


def test_one_type_is_found_whatever_stands_around_it(tmp_path: Path) -> None:
    text = (
        '{"A": {"attr": "Relu", "Relu": {"value": 1}}, "ReluV2": {"input0": {}}, "Relu" : ' + json.dumps(RELU) + ", x"
    )
    put(tmp_path, "ascend910", "aic-ascend910-ops-info.json", text)
    assert [each.listed for each in operator_in_library(tmp_path, "Relu")] == [WHITE]
    assert operator_in_library(tmp_path, "Rel.") == ()
    assert operator_in_library(tmp_path / "none", "Relu") == ()


def test_implementation_modes_are_read_by_type(tmp_path: Path) -> None:
    assert implementation_modes(tmp_path) is None
    file = tmp_path / MODES
    file.parent.mkdir(parents=True)
    file.write_bytes(
        b"\xef\xbb\xbf# CANN\r\n[ops]\r\nGelu=high_precision,high_performance\r\n Exp = high_precision \n=x\nodd\n"
    )
    assert implementation_modes(tmp_path) == {
        "Gelu": ("high_precision", "high_performance"),
        "Exp": ("high_precision",),
    }
