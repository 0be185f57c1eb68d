"""Types, data types, modes and lists of a deployment's files, against the library of the CANN that would read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npu_serving.cann.operator_library import CONFIG, MODES, OperatorLibrary, operator_library
from npu_serving.deploy.library_checks import KEPT, check_against_library, check_kept_dtypes, keeping_option
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.options.auxiliary_files import (
    CustomDtypes,
    ImplementationModes,
    ListChanges,
    MixedPrecisionLists,
    OperatorDtypes,
)


def entry(*inputs: str, output: str = "float16,float", listed: str = "", **more: Any) -> dict[str, Any]:
    parameters = {f"input{number}": {"dtype": dtypes, "name": "x"} for number, dtypes in enumerate(inputs)}
    flag = {"precision_reduce": {"flag": listed}} if listed else {}
    return {**parameters, "output0": {"dtype": output, "name": "y"}, **flag, **more}


OPERATORS = {
    "Relu": entry("float16,float,int8", output="float16,float,int8", listed="true"),
    "Exp": entry("float16,float", listed="false"),
    "Add": entry("float16,float", "float16,float"),
    "Conv2D": entry("float16", "float16", dynamicFormat={"flag": "true"}),
    "Concat": entry() | {"input0": {"dtype": "float16,float", "paramType": "dynamic"}},
}


@pytest.fixture
def library(tmp_path: Path) -> OperatorLibrary:
    for chip in ("ascend310", "ascend910"):
        file = tmp_path / CONFIG / chip / f"aic-{chip}-ops-info.json"
        file.parent.mkdir(parents=True)
        operators = OPERATORS if chip == "ascend910" else {**OPERATORS, "Relu": entry("float16", output="float16")}
        file.write_text(json.dumps(operators))
    (tmp_path / MODES).parent.mkdir(parents=True)
    (tmp_path / MODES).write_text("Exp=high_precision,high_performance\n")
    return operator_library({"ASCEND_OPP_PATH": str(tmp_path)})


def dtypes(inputs: str, outputs: str, name: str = "Relu") -> CustomDtypes:
    return CustomDtypes(by_type={name: OperatorDtypes(tuple(inputs.split()), tuple(outputs.split()))})


@pytest.mark.parametrize(
    ("content", "severity", "part"),
    [
        (dtypes("float32", "float32"), "", ""),
        (dtypes("int8", "int8"), "", ""),
        (dtypes("float", "float"), "", ""),
        (dtypes("bfloat16", "bfloat16"), PROBLEM, "bfloat16 for its input 0, which takes"),
        (dtypes("float16", "int32"), PROBLEM, "int32 for its output 0"),
        (dtypes("float16 int8", "float16"), WARNING, "2 data types for inputs, of which it has 1"),
        (dtypes("float32", "float16", "Exp"), WARNING, "a combination that it does not have"),
        (dtypes("float32 float16", "float32", "Add"), WARNING, "a combination that it does not have"),
        (dtypes("float32", "float32", "Add"), "", ""),
        (dtypes("int64 int64", "int64", "Conv2D"), "", ""),  # a program chooses them
        (dtypes("float16 float16 float16", "float16", "Concat"), "", ""),
        (dtypes("float16 int8", "float16", "Concat"), PROBLEM, "int8 for its input 1"),
        (dtypes("float16", "float16", "relu"), WARNING, "of the type relu"),
        (ImplementationModes({"Exp": "high_precision"}), "", ""),
        (ImplementationModes({"Exp": "keep_fp16"}), WARNING, "CANN has only high_precision, high_performance for it"),
        (ImplementationModes({"Relu": "high_performance"}), "", ""),
        (ImplementationModes({"Relu": "high_precision"}), WARNING, "CANN has only high_performance for it"),
        (MixedPrecisionLists(ListChanges(("Relu",)), ListChanges((), ("Relu",))), "", ""),
        (MixedPrecisionLists(ListChanges(("Exp",))), NOTE, "adds Exp to black-list, which CANN has it on already"),
        (MixedPrecisionLists(ListChanges((), ("Exp",))), "", ""),
        (MixedPrecisionLists(ListChanges((), ("Add",))), WARNING, "out of black-list, and CANN has it on the grey one"),
        (MixedPrecisionLists(white_list=ListChanges((), ("Exp",))), WARNING, "CANN has it on the black one"),
        (MixedPrecisionLists(white_list=ListChanges(("Relu",))), "", ""),  # grey on one of the chips
    ],
)
def test_what_the_library_does_not_have_is_found(
    library: OperatorLibrary, content: Any, severity: str, part: str
) -> None:
    found: list[Finding] = list(check_against_library("the_option", content, library))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(part in finding.what and finding.cure for finding in found)


@pytest.mark.parametrize(
    "content",
    [
        dtypes("bfloat16", "bfloat16"),
        ImplementationModes({"Relu": "high_precision"}),
        MixedPrecisionLists(ListChanges((), ("A",))),
    ],
)
def test_without_a_library_nothing_is_said(tmp_path: Path, content: Any) -> None:
    assert list(check_against_library("o", content, operator_library({"ASCEND_OPP_PATH": str(tmp_path)}))) == []


def test_an_operator_that_is_for_float16_alone_can_t_keep_float32(tmp_path: Path) -> None:
    file = tmp_path / CONFIG / "ascend310/aic-ascend310-ops-info.json"
    file.parent.mkdir(parents=True)
    half = entry("float16,int8", output="float16,int8")
    chosen = {**half, "dynamicFormat": {"flag": "true"}}
    file.write_text(json.dumps({"Half": half, "Both": OPERATORS["Exp"], "Chosen": chosen, "Int": entry("int32")}))
    library = operator_library({"ASCEND_OPP_PATH": str(tmp_path)})
    (found,) = check_kept_dtypes("precision_mode", ["Half", "Both", "Chosen", "Int", "Other"], library)
    assert (found.kind, found.severity, found.details) == (KEPT, WARNING, ("Half",))
    assert list(check_kept_dtypes("precision_mode", ["Both", "Chosen"], library)) == []
    assert keeping_option({"precision_mode": "must_keep_origin_dtype"}) == "precision_mode"
    assert keeping_option({"precision_mode_v2": "origin"}) == "precision_mode_v2"
    assert keeping_option({"precision_mode_v2": "fp16"}) == ""
