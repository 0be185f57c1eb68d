"""The flags of convert-om: table 6-5 of the guide, its exclusions, and the options that are passed on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.conversion.om_request import (
    TYPE_NAMES,
    ChosenTensor,
    OmRequest,
    OutputTypes,
    check_request,
    new_inputs,
    new_outputs,
    om_options,
    output_types,
    passed_options,
    type_named,
)
from npu_serving.errors import RequestError


def refusal_of(request: OmRequest) -> RequestError:
    with pytest.raises(RequestError) as caught:
        check_request(request)
        passed_options(request)
    return caught.value


def test_the_chip_and_tuning_exclude_each_other() -> None:
    error = refusal_of(OmRequest(soc_version="Ascend910B4", profiling="1"))
    assert error.what == "--soc-version and --profiling exclude each other."


def test_tuning_is_1_or_2() -> None:
    assert "1 tunes sub-graphs, 2 tunes operators" in refusal_of(OmRequest(profiling="3")).cause
    check_request(OmRequest(profiling="2"))


@pytest.mark.parametrize("name", ["out_nodes", "is_input_adjust_hw_layout", "is-output-adjust-hw-layout"])
def test_the_three_options_that_the_guide_refuses_are_refused_with_what_takes_their_place(name: str) -> None:
    error = refusal_of(OmRequest(atc_args=(f"--{name}=true",)))
    assert "can't be passed on" in error.what
    assert ("--new-output-nodes" in error.cure) == (name == "out_nodes")


@pytest.mark.parametrize("name", sorted(om_options().fixed))
def test_options_that_the_task_sets_itself_are_refused(name: str) -> None:
    assert refusal_of(OmRequest(atc_args=(f"--{name}=5",))).cause == om_options().fixed[name]


@pytest.mark.parametrize("name", om_options().flags)
def test_an_option_that_is_a_flag_here_leads_to_the_flag(name: str) -> None:
    assert refusal_of(OmRequest(aoe_args=(f"--{name}=a;b",), profiling="1")).cure == f'--{name.replace("_", "-")}="a;b"'


def test_options_are_passed_on_with_their_dashes_as_the_compiler_spells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("aipp.cfg").write_text("")
    typed = ("--precision_mode=force_fp16", "insert-op-conf=aipp.cfg", "-log=info")
    assert [option.word for option in passed_options(OmRequest(atc_args=typed))] == [
        "--precision_mode=force_fp16",
        f"--insert_op_conf={tmp_path}/aipp.cfg",
        "--log=info",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("--out_nodes=y", "--out-nodes=y", "-out_nodes=y", "out_nodes=y", " --out_nodes=y", "--out_nodes =y"),
        *("--out_nodes y", "--out-nodes y", "--out_nodes y --x=1", "--out_nodes = y "),
    ],
)
def test_an_option_that_is_refused_is_so_in_every_spelling(text: str) -> None:
    error = refusal_of(OmRequest(atc_args=(text,)))
    assert (error.what, "--new-output-nodes" in error.cure) == ("--out_nodes can't be passed on.", True)


@pytest.mark.parametrize(
    "text", ["--precision_mode", "", "=x", "--a=", "--a b", "--a b=c", "--a=b\n--out_nodes=y", "é=1"]
)
def test_an_option_without_a_value_is_refused(text: str) -> None:
    assert "--atc-arg" in refusal_of(OmRequest(atc_args=(text,))).what


def test_an_option_with_a_space_before_its_value_is_shown_as_it_is_meant() -> None:
    assert refusal_of(OmRequest(atc_args=("--log debug",))).cure == "--atc-arg=--log=debug"


def test_the_options_of_the_other_compiler_have_no_effect_and_are_refused() -> None:
    assert refusal_of(OmRequest(aoe_args=("log=info",))).cure == "give it as --atc-arg=--log=info"
    assert refusal_of(OmRequest(profiling="1", atc_args=("log=info",))).cure == "give it as --aoe-arg=--log=info"


def test_the_guides_method_name_with_a_slash_is_corrected() -> None:
    error = refusal_of(OmRequest(method_name="/tensorflow/serving/predict"))
    assert error.cure == "--method-name tensorflow/serving/predict"


def test_new_inputs_are_read_as_the_guide_writes_them() -> None:
    text = "embedding:DT_FLOAT:bert/embedding/word_embeddings:0;add:DT_INT32:bert/embedding/add"
    assert new_inputs(text) == (
        ChosenTensor("embedding", "bert/embedding/word_embeddings:0", "float32"),
        ChosenTensor("add", "bert/embedding/add:0", "int32"),
    )
    assert new_outputs("loss:loss/Softmax:0; p:q:1") == (
        ChosenTensor("loss", "loss/Softmax:0"),
        ChosenTensor("p", "q:1"),
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("DT_INT", "DT_INT32 (or DT_INT64)"),
        ("DT_FLOAT32", "DT_FLOAT"),
        ("float32", "DT_FLOAT"),
        ("DT_FLOAT16", "DT_HALF"),
        ("dt_float", "DT_FLOAT"),
        ("int64", "DT_INT64"),
        ("DT_STR", "DT_STRING"),
        ("DT_BOOLEAN", "DT_BOOL"),
    ],
)
def test_a_type_that_does_not_exist_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(RequestError) as caught:
        type_named(typed, "--new-input-nodes")
    assert caught.value.cure == f"write {meant}"
    assert meant.split()[0] in TYPE_NAMES


@pytest.mark.parametrize("text", ["a", "a:DT_FLOAT", "a:DT_FLOAT:", ":DT_FLOAT:x", ";"])
def test_new_inputs_that_can_t_be_read_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="can't be read"):
        new_inputs(text)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="twice"):
        new_outputs("a:x;a:y")


def test_output_types_are_of_all_or_of_single_tensors() -> None:
    assert output_types("FP16", ["a:0"]).of("a:0") == "float16"
    some = output_types("a:0:FP16;b:1:UINT8", ["a:0", "b:1", "c:0"])
    assert [some.of(tensor) for tensor in ("a:0", "b:1", "c:0")] == ["float16", "uint8", ""]
    assert output_types("", ["a:0"]) == OutputTypes()


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("FP17", "write FP16"),
        ("DT_FLOAT16", "write FP16"),
        ("node1:0:FP16", "--output-type a:0:FP16"),
        ("fp32", "write FP32"),
    ],
)
def test_an_output_type_that_does_not_exist_is_answered_with_what_does(text: str, cure: str) -> None:
    with pytest.raises(RequestError) as caught:
        output_types(text, ["a:0"])
    assert caught.value.cure == cure


@given(st.text(max_size=30))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    for read in (new_inputs, new_outputs, lambda words: output_types(words, ["a:0"])):
        try:
            read(text)
        except RequestError as error:
            assert error.what and error.cure
