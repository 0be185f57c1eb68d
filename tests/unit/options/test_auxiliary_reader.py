"""A file that somebody wrote for a session option is read as CANN reads it, or refused with every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from npu_serving.errors import DocumentError, FileAccessError
from npu_serving.options.auxiliary_files import (
    AUXILIARY_FILES,
    CacheLimits,
    CacheSettings,
    CustomDtypes,
    ImplementationModes,
    ListChanges,
    MixedPrecisionLists,
    OperatorDtypes,
)
from npu_serving.options.auxiliary_reader import read_auxiliary_file


def read(directory: Path, option: str, text: str) -> object:
    file = directory / AUXILIARY_FILES[option].name
    file.write_text(text, encoding="utf-8")
    return read_auxiliary_file(option, file)


def test_the_guides_comments_in_json_are_read(tmp_path: Path) -> None:
    text = """{
      "black-list": {                  // black list
        "to-remove": [ "Xlog1py" ],    // becomes grey
        "to-add": [ "Matmul", "Cast" ]
      },
      "white-list": {
        "to-remove": [ "Conv2D" ],
        "to-add": [ "Bias" ]
      }
    }"""
    wanted = MixedPrecisionLists(ListChanges(("Matmul", "Cast"), ("Xlog1py",)), ListChanges(("Bias",), ("Conv2D",)))
    assert read(tmp_path, "modify_mixlist", text) == wanted


def test_the_guides_samples_are_read(tmp_path: Path) -> None:
    by_name = "# by name\na/Relu::InputDtype:float16,int8,OutputDtype:float16,int8\n"
    dtypes = f"{by_name}\n# by type\nOpType::Relu:InputDtype:int8,OutputDtype:int8\n"
    two = ("float16", "int8")
    wanted = CustomDtypes({"a/Relu": OperatorDtypes(two, two)}, {"Relu": OperatorDtypes(("int8",), ("int8",))})
    assert read(tmp_path, "customize_dtypes", dtypes) == wanted
    cache = "[op_compiler_cache]\n# MB\nascend_max_op_cache_size=500\nascend_remain_cache_size_ratio=80\n"
    assert read(tmp_path, "op_compiler_cache_dir", cache) == CacheSettings(CacheLimits(500, 80))
    assert read(tmp_path, "op_debug_config", "op_debug_config = ccec_O0,ccec_g,oom\n") == ("ccec_O0", "ccec_g", "oom")
    nodes = "conv1;fc1;conv2_2/x1;fc2;conv5_32/x2;fc6"
    assert read(tmp_path, "compress_weight_conf", nodes) == tuple(nodes.split(";"))
    switched = '{ "Switch":{ "GraphFusion":{ "ALL":"off" }, "UBFusion":{ "ALL":"off" } } }'
    assert read(tmp_path, "fusion_switch_file", switched)


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        (
            "modify_mixlist",
            '{"black-list": {"to-add": ["A"]},\n "white-list": {"to-add": ["A"]}}',
            r":2:28: white-list.to-add\[0\]: A is in to-add of black-list as well",
        ),
        ("modify_mixlist", '{"black-list": {"to-add": ["A"],\n"to-remove": ["A"]}}', ":2:15: .*A is in to-add of the"),
        ("modify_mixlist", '{"black-list": {"to-add": ["A", "A"]}}', r"to-add\[1\]: A is there twice"),
        ("modify_mixlist", '{"blacklist": {}}', "unknown key; did you mean black-list?"),
        ("modify_mixlist", '{"black-list": {"to-add": ["A" "B"]}}', r":1:\d+: "),
        ("modify_mixlist", "{black-list: {to-add: [A]}}", r":1:2: "),
        ("fusion_switch_file", '{"GraphFusion": {"ALL": "off"}}', "unknown key"),
        ("fusion_switch_file", '{"Switch": {"GraphFusion": {"ALL": "of"}}}', "must be one of on, off"),
        ("customize_dtypes", "# a\na:InputDtype:float16,OutputDtype:float16\n", ":2:1: must be NAME::InputDtype"),
        ("customize_dtypes", "a::InputDtype:FLOAT16,OutputDtype:float16\n", ":1:1: by_name.a.inputs.*data type"),
        ("customize_dtypes", "a::InputDtype:int8,OutputDtype:\n", "by_name.a.outputs"),
        ("customize_dtypes", "OpType::InputDtype:int8,OutputDtype:int8\n", "read as an entry by type"),
        ("customize_dtypes", 2 * "a::InputDtype:int8,OutputDtype:int8\n", ":2:1: a has an entry already, in line 1"),
        ("op_precision_mode", "[ByOpType]\nA=fast\n", ":2:1: ByOpType.A: must be one of high_precision"),
        ("op_precision_mode", "[byoptype]\nA=high_precision\n", ":1:1: byoptype: unknown key; did you mean ByOpType?"),
        ("op_precision_mode", "[ByOpType]\nA\n", ":2:1: must be NAME=VALUE"),
        ("op_precision_mode", "[ByOpType]\nA=high_precision\nA=high_precision\n", ":3:1: A has a value already"),
        ("op_debug_config", "op_debug_config = oom,ccec_00\n", "ccec_O0"),
        ("op_debug_config", "", "must have 1 item or more"),
        ("op_debug_config", "debug = oom\n", "must be op_debug_config = WORD,WORD"),
        ("op_debug_config", "op_debug_config = oom\nother\n", ":2:1: only the line"),
        ("compress_weight_conf", "conv1; fc1", "without blanks"),
        ("compress_weight_conf", "", "must have 1 item or more"),
        ("compress_weight_conf", "a,b", "must be the name of an operator"),
        ("op_compiler_cache_dir", "ascend_max_op_cache_size=500\n", "before the first section"),
        (
            "op_compiler_cache_dir",
            "[op_compiler_cache]\nascend_max_op_cache_size=500\nascend_remain_cache_size_ratio=0\n",
            ":3:1: .*from 1 to 100",
        ),
    ],
)
def test_every_mistake_is_named_with_its_line(tmp_path: Path, option: str, text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        read(tmp_path, option, text)


def test_all_mistakes_are_there_at_once(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, "op_precision_mode", "x\n[ByOpType]\nA=fast\n[Other]\n")
    assert [line.split(": ")[0].rpartition("/")[2] for line in caught.value.what.splitlines()] == [
        "op_precision.ini:1:1",
        "op_precision.ini:3:1",
        "op_precision.ini:4:1",
    ]


def test_what_is_no_such_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    file = tmp_path / "ops_info.json"
    with pytest.raises(FileAccessError):
        read_auxiliary_file("modify_mixlist", file)
    with file.open("wb") as large:
        large.truncate(20 * 1024 * 1024)
    with pytest.raises(DocumentError, match="is far too large"):
        read_auxiliary_file("modify_mixlist", file)
    file.write_bytes(b'{"black-list": {"to-add": ["\xff"]}}')
    with pytest.raises(DocumentError, match="UTF-8"):
        read_auxiliary_file("modify_mixlist", file)
    with pytest.raises(FileAccessError):
        read_auxiliary_file("modify_mixlist", tmp_path)


@settings(deadline=None)
@given(some.sampled_from(sorted(AUXILIARY_FILES)), some.text(alphabet='ab:,=;[]{}"/\\#\n /Opt', max_size=60))
def test_no_text_brings_anything_but_a_value_or_its_error(
    tmp_path_factory: pytest.TempPathFactory, option: str, text: str
) -> None:
    try:
        read(tmp_path_factory.getbasetemp(), option, text)
    except DocumentError as error:
        assert AUXILIARY_FILES[option].name in error.what


def test_implementations_before_the_first_section_are_by_type_as_cann_reads_them(tmp_path: Path) -> None:
    modes = read(tmp_path, "op_precision_mode", "GatherV2=high_performance\n[ByNodeName]\na/b=high_precision\n")
    assert modes == ImplementationModes({"GatherV2": "high_performance"}, {"a/b": "high_precision"})
