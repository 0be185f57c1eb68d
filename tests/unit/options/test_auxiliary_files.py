"""What is written into the files of session options is what the guide shows, and is read back as it was."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from npu_serving.options.auxiliary_files import (
    WRITTEN_FILES,
    CacheLimits,
    CustomDtypes,
    FusionGroups,
    FusionSwitches,
    ImplementationModes,
    LimitedCache,
    ListChanges,
    MixedPrecisionLists,
    OperatorDtypes,
    auxiliary_text,
)
from npu_serving.options.auxiliary_reader import read_auxiliary_file

TYPES = some.from_regex("[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
NODES = some.from_regex(r"[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]{0,12}", fullmatch=True).filter(lambda name: name != "OpType")
DTYPES = some.lists(some.sampled_from(["float16", "float32", "int8"]), min_size=1, max_size=3).map(tuple)
MODES = some.sampled_from(["high_precision", "high_performance", "support_out_of_bound_index"])
SWITCHES = some.dictionaries(TYPES, some.sampled_from(["on", "off"]), max_size=4)


@some.composite
def lists(draw: some.DrawFn) -> MixedPrecisionLists:
    names = draw(some.lists(TYPES, unique=True, max_size=8))
    parts: list[tuple[str, ...]] = [tuple(names[index::4]) for index in range(4)]
    return MixedPrecisionLists(ListChanges(parts[0], parts[1]), ListChanges(parts[2], parts[3]))


OPERATORS = some.builds(OperatorDtypes, DTYPES, DTYPES)
CONTENTS = some.one_of(
    some.tuples(some.just("modify_mixlist"), lists()),
    some.tuples(
        some.just("customize_dtypes"),
        some.builds(
            CustomDtypes,
            some.dictionaries(NODES, OPERATORS, max_size=3),
            some.dictionaries(TYPES, OPERATORS, max_size=3),
        ),
    ),
    some.tuples(
        some.just("fusion_switch_file"),
        some.builds(FusionSwitches, some.builds(FusionGroups, SWITCHES, SWITCHES)),
    ),
    some.tuples(
        some.just("op_precision_mode"),
        some.builds(
            ImplementationModes,
            some.dictionaries(TYPES, MODES, max_size=3),
            some.dictionaries(NODES, MODES, max_size=3),
        ),
    ),
    some.tuples(
        some.just("op_debug_config"),
        some.lists(some.sampled_from(["oom", "dump_bin", "ccec_O0"]), min_size=1, unique=True).map(tuple),
    ),
    some.tuples(some.just("compress_weight_conf"), some.lists(NODES, min_size=1, max_size=5).map(tuple)),
)


@settings(deadline=None)
@given(CONTENTS)
def test_what_is_written_is_read_back_and_written_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, content: tuple[str, Any]
) -> None:
    option, value = content
    file = tmp_path_factory.getbasetemp() / WRITTEN_FILES[option].name
    text = auxiliary_text(option, value)
    file.write_text(text, encoding="utf-8")
    read = read_auxiliary_file(option, file)
    assert read == value
    assert auxiliary_text(option, read) == text
    assert "//" not in text or option != "modify_mixlist"


def test_the_lists_of_mixed_precision_have_the_keys_of_the_guide() -> None:
    value = MixedPrecisionLists(ListChanges(("Cast",), ("Xlog1py",)), ListChanges(("Bias",), ("Conv2D",)))
    assert json.loads(auxiliary_text("modify_mixlist", value)) == {
        "black-list": {"to-add": ["Cast"], "to-remove": ["Xlog1py"]},
        "white-list": {"to-add": ["Bias"], "to-remove": ["Conv2D"]},
    }


def test_the_switches_stand_in_their_groups() -> None:
    value = FusionSwitches(FusionGroups({"ALL": "off", "SoftmaxFusionPass": "on"}))
    assert json.loads(auxiliary_text("fusion_switch_file", value)) == {
        "Switch": {"GraphFusion": {"ALL": "off", "SoftmaxFusionPass": "on"}}
    }


def test_the_modes_are_read_by_pythons_own_reader() -> None:
    value = ImplementationModes({"SoftmaxV2": "high_precision"}, {"head/gather": "support_out_of_bound_index"})
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=())
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(auxiliary_text("op_precision_mode", value))
    assert {name: dict(parser[name]) for name in parser.sections()} == {
        "ByOpType": {"SoftmaxV2": "high_precision"},
        "ByNodeName": {"head/gather": "support_out_of_bound_index"},
    }


def test_the_other_files_are_lines_of_the_guides_form() -> None:
    dtypes = CustomDtypes(
        {"b/Relu": OperatorDtypes(("float16", "int8"), ("int8",))}, {"Relu": OperatorDtypes(("int8",), ("int8",))}
    )
    assert auxiliary_text("customize_dtypes", dtypes) == (
        "b/Relu::InputDtype:float16,int8,OutputDtype:int8\nOpType::Relu:InputDtype:int8,OutputDtype:int8\n"
    )
    assert auxiliary_text("op_debug_config", ("ccec_O0", "oom")) == "op_debug_config = ccec_O0,oom\n"
    assert auxiliary_text("compress_weight_conf", ("conv1", "b3/conv2")) == "conv1;b3/conv2\n"


def test_the_limits_of_a_cache_are_what_cann_reads(tmp_path: Path) -> None:
    file = tmp_path / "op_cache.ini"
    file.write_text(auxiliary_text("op_compiler_cache_dir", LimitedCache("/c", 2000, 60)))
    assert file.read_text() == (
        "[op_compiler_cache]\nascend_max_op_cache_size=2000\nascend_remain_cache_size_ratio=60\n"
    )
    assert read_auxiliary_file("op_compiler_cache_dir", file).limits == CacheLimits(2000, 60)


def test_each_file_has_the_name_that_explain_gives() -> None:
    names = [file.name for file in WRITTEN_FILES.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]+\.[a-z]+", name) and Path(name).name == name for name in names)
