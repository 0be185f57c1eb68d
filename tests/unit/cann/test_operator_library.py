"""The types of operators in CANN's library are those of every file of every chip."""

from __future__ import annotations

import json
from pathlib import Path

from npu_serving.cann.operator_library import operator_library

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
    assert found.types == {"Relu", "Add"}
    assert found.twice == ()


def test_what_two_files_of_one_chip_describe_is_named_once(tmp_path: Path) -> None:
    text = json.dumps({name: {"precision_reduce": {"flag": "true"}} for name in ("Relu", "Add")})
    files = [put(tmp_path, "ascend910", name, text) for name in ("aic-ascend910-ops-info.json", "backup.json")]
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path)}).twice == (("Relu", *files),)


def test_what_is_no_description_is_passed_over(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", "{", "[" * 100_000, '{"a": 1}', '{"binary": {"path": "x"}}', "\\xff")):
        put(tmp_path, "ascend910", f"{number}.json", text)
    (tmp_path / CONFIG / "ascend910/directory.json").mkdir()
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path)}).types == frozenset()
    assert operator_library({"ASCEND_OPP_PATH": str(tmp_path / "none")}).types == frozenset()
