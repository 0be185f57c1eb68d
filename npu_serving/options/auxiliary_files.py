"""The files that session options name, such as ops_info.json: what may stand in each, and how it is written.

In a deployment.yaml the content may stand in place of the path; then the file is written beside the platform config.
A file that somebody else wrote is read into the same classes by auxiliary_reader.py. TF Adapter opens none of them, it
hands the paths on: a mistake in one shows when a graph is compiled, or never.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Callable, Literal, Union

from npu_serving.documents import Rule
from npu_serving.writers import npu_files

_Problem = tuple[Union[str, tuple[Union[str, int], ...]], str]

OperatorType = Annotated[
    str, Rule(pattern="[A-Za-z][A-Za-z0-9_]*", expected="the type of an operator, such as SoftmaxV2")
]
NodeName = Annotated[
    str, Rule(pattern=r"[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]*", expected="the name of an operator, such as block1/conv2")
]
Dtype = Annotated[str, Rule(pattern="[a-z][a-z0-9_]*", expected="a data type, such as float16")]
FusionPass = Annotated[
    str, Rule(pattern="[A-Za-z][A-Za-z0-9_]*", expected="ALL or a fusion, such as SoftmaxFusionPass")
]
ImplementationMode = Literal[
    "high_precision",
    "high_performance",
    "support_out_of_bound_index",
    "enable_float_32_execution",
    "enable_hi_float_32_execution",
    "keep_fp16",
    "super_performance",
]
DebugWords = Annotated[
    tuple[Literal["oom", "dump_bin", "dump_cce", "dump_loc", "ccec_O0", "ccec_g"], ...],
    Rule(fewest=1, expected="a list of words, such as oom"),
]
CompressedNodes = Annotated[tuple[NodeName, ...], Rule(fewest=1, expected="a list of operators' names")]


@dataclass(frozen=True)
class ListChanges:
    """What is changed in one of the lists of mixed precision."""

    to_add: tuple[OperatorType, ...] = field(
        default=(), metadata={"key": "to-add", "help": "types that come into it, out of whatever list they were in"}
    )
    to_remove: tuple[OperatorType, ...] = field(
        default=(), metadata={"key": "to-remove", "help": "types that become grey, and then do as the one before them"}
    )

    def problems(self) -> Iterator[_Problem]:
        """What CANN does with it is nowhere defined."""
        for key, types in (("to-add", self.to_add), ("to-remove", self.to_remove)):
            for index, name in enumerate(types):
                if name in types[:index]:
                    yield (key, index), f"{name} is there twice"
        for index, name in enumerate(self.to_remove):
            if name in self.to_add:
                yield ("to-remove", index), f"{name} is in to-add of the same list as well: keep one of the two"


@dataclass(frozen=True)
class MixedPrecisionLists:
    """ops_info.json: changes to the lists by which mixed precision decides what computes in float16."""

    black_list: ListChanges = field(
        default=ListChanges(), metadata={"key": "black-list", "help": "of operators that stay in float32"}
    )
    white_list: ListChanges = field(
        default=ListChanges(), metadata={"key": "white-list", "help": "of operators that may compute in float16"}
    )

    def problems(self) -> Iterator[_Problem]:
        """An operator that would be in both lists."""
        for index, name in enumerate(self.white_list.to_add):
            if name in self.black_list.to_add:
                yield ("white-list", "to-add", index), f"{name} is in to-add of black-list as well: keep one of the two"


@dataclass(frozen=True)
class OperatorDtypes:
    """The data types of one operator."""

    inputs: Annotated[tuple[Dtype, ...], Rule(fewest=1)] = field(metadata={"help": "one for each input"})
    outputs: Annotated[tuple[Dtype, ...], Rule(fewest=1)] = field(metadata={"help": "one for each output"})


@dataclass(frozen=True)
class CustomDtypes:
    """customize_dtypes.cfg: the precision of single operators; an entry by name counts over one by type."""

    by_name: Mapping[NodeName, OperatorDtypes] = field(
        default_factory=dict, metadata={"help": "by the operator's name, which fusion may change"}
    )
    by_type: Mapping[OperatorType, OperatorDtypes] = field(
        default_factory=dict, metadata={"help": "by its type in Ascend IR"}
    )

    def problems(self) -> Iterator[_Problem]:
        """A name that means an entry by type in the file."""
        if "OpType" in self.by_name:
            yield ("by_name", "OpType"), "would be read as an entry by type: write it under by_type"


@dataclass(frozen=True)
class FusionGroups:
    """The fusions that are switched, by the stage that they belong to."""

    graph_fusion: Mapping[FusionPass, Literal["on", "off"]] = field(
        default_factory=dict, metadata={"key": "GraphFusion", "help": "fusions in the graph; ALL means all that may be"}
    )
    ub_fusion: Mapping[FusionPass, Literal["on", "off"]] = field(
        default_factory=dict, metadata={"key": "UBFusion", "help": "fusions in the unified buffer; ALL likewise"}
    )


@dataclass(frozen=True)
class FusionSwitches:
    """fusion_switch.cfg: fusions of operators that are switched off or on."""

    switch: FusionGroups = field(metadata={"key": "Switch", "help": "all of them"})


@dataclass(frozen=True)
class ImplementationModes:
    """op_precision.ini: which implementation operators take; an entry by name counts over one by type."""

    by_type: Mapping[OperatorType, ImplementationMode] = field(
        default_factory=dict, metadata={"key": "ByOpType", "help": "by the operator's type"}
    )
    by_name: Mapping[NodeName, ImplementationMode] = field(
        default_factory=dict, metadata={"key": "ByNodeName", "help": "by its name"}
    )


@dataclass(frozen=True)
class CacheLimits:
    """The section of op_cache.ini, by which the cache of compiled operators is kept small."""

    size: Annotated[int, Rule(minimum=1)] = field(metadata={"key": "ascend_max_op_cache_size"})
    ratio: Annotated[int, Rule(minimum=1, maximum=100)] = field(metadata={"key": "ascend_remain_cache_size_ratio"})


@dataclass(frozen=True)
class CacheSettings:
    """op_cache.ini, in the directory that op_compiler_cache_dir names."""

    limits: CacheLimits = field(metadata={"key": "op_compiler_cache"})


@dataclass(frozen=True)
class LimitedCache:
    """A cache of compiled operators with its limits, which op_cache.ini says in its directory, for all who use that."""

    directory: Annotated[str, Rule(pattern=r"/[^\x00-\x1f\x7f]*", expected="an absolute path")] = field(
        metadata={"help": "where compiled operators are kept"}
    )
    size: Annotated[int, Rule(minimum=1, maximum=2**31 - 1)] = field(
        metadata={"key": "ascend_max_op_cache_size", "help": "how large it may become for each chip, in MB"}
    )
    ratio: Annotated[int, Rule(minimum=1, maximum=100)] = field(
        metadata={"key": "ascend_remain_cache_size_ratio", "help": "how much of it is kept then, in percent"}
    )


@dataclass(frozen=True)
class AuxiliaryFile:
    """The file of an option: what it is called where we write it, what may stand in it, and in which syntax."""

    name: str
    content: Any
    """The type of what stands in it."""
    syntax: Literal["json", "dtypes", "ini", "debug", "nodes"]
    written: Callable[[Any], str] | None = None
    """Its text; None for a file that is only read."""
    first_section: str = ""
    """The one that lines before the first section belong to, where CANN reads such lines."""
    stated: Any = None
    """The type of what may stand in a deployment for it, where that is another one."""


AuxiliaryContent = Union[
    MixedPrecisionLists, CustomDtypes, FusionSwitches, ImplementationModes, LimitedCache, tuple[str, ...]
]


def _lists_text(lists: MixedPrecisionLists) -> str:
    of_each = {"black-list": lists.black_list, "white-list": lists.white_list}
    changes = {
        name: {key: list(types) for key, types in (("to-add", each.to_add), ("to-remove", each.to_remove)) if types}
        for name, each in of_each.items()
    }
    return npu_files.json_file({name: each for name, each in changes.items() if each})


def _dtypes_text(dtypes: CustomDtypes) -> str:
    return "".join(
        npu_files.dtypes_line(name, each.inputs, each.outputs, by_type=by_type)
        for by_type, entries in ((False, dtypes.by_name), (True, dtypes.by_type))
        for name, each in entries.items()
    )


def _switches_text(switches: FusionSwitches) -> str:
    groups = {"GraphFusion": dict(switches.switch.graph_fusion), "UBFusion": dict(switches.switch.ub_fusion)}
    return npu_files.json_file({"Switch": {name: rules for name, rules in groups.items() if rules}})


def _modes_text(modes: ImplementationModes) -> str:
    return npu_files.ini_file({"ByOpType": modes.by_type, "ByNodeName": modes.by_name})


def _limits_text(cache: LimitedCache) -> str:
    limits = {"ascend_max_op_cache_size": str(cache.size), "ascend_remain_cache_size_ratio": str(cache.ratio)}
    return npu_files.ini_file({"op_compiler_cache": limits})


AUXILIARY_FILES: Mapping[str, AuxiliaryFile] = {
    "modify_mixlist": AuxiliaryFile("ops_info.json", MixedPrecisionLists, "json", _lists_text),
    "customize_dtypes": AuxiliaryFile("customize_dtypes.cfg", CustomDtypes, "dtypes", _dtypes_text),
    "fusion_switch_file": AuxiliaryFile("fusion_switch.cfg", FusionSwitches, "json", _switches_text),
    "op_precision_mode": AuxiliaryFile("op_precision.ini", ImplementationModes, "ini", _modes_text, "ByOpType"),
    "op_debug_config": AuxiliaryFile("op_debug.cfg", DebugWords, "debug", npu_files.debug_line),
    "compress_weight_conf": AuxiliaryFile("compress_weight_nodes.cfg", CompressedNodes, "nodes", npu_files.nodes_line),
    "op_compiler_cache_dir": AuxiliaryFile("op_cache.ini", CacheSettings, "ini", _limits_text, stated=LimitedCache),
}
"""By the session option that names them; op_cache.ini stands in the directory that its option names.

Without the file of aoe_config_file: that option is for training, and refused.
"""
WRITTEN_FILES: Mapping[str, AuxiliaryFile] = {
    option: file for option, file in AUXILIARY_FILES.items() if file.written is not None
}
"""Those whose content may stand in a deployment."""


def auxiliary_text(option: str, content: AuxiliaryContent) -> str:
    """The text of the file that the option names, with that content."""
    written = WRITTEN_FILES[option].written
    assert written is not None
    return written(content)
