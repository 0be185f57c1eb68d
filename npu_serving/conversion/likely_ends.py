"""The inputs and outputs that a graph most likely has: placeholders, and the tensors that nothing in it takes."""

from __future__ import annotations

from collections.abc import Iterable

from npu_serving.conversion.needed_nodes import input_node
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.tensor_types import count_of, output_runs

PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
"""What has to be given a value; PlaceholderWithDefault has one."""
_NO_RESULT = {"Const", "VariableV2", "VarHandleOp", "Variable", "RestoreV2", "ShardedFilename", "MergeV2Checkpoints"}
_NO_RESULT |= {"HistogramSummary", "ScalarSummary", "MergeSummary", "ImageSummary", "TensorSummaryV2", *PLACEHOLDERS}
_OF_LOOPS = ("Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond", "Switch", "Merge")
_MOST = 20  # tensors of one node: more are a batch of parts, not outputs


def likely_outputs(graph: GraphDef) -> list[str]:
    """The tensors NODE:NUMBER of the nodes with results that no other node takes, in the order of the graph.

    Loops and conditions leave nodes of their own behind, which are left out where there are others.
    """
    taken = {input_node(each) for node in graph.nodes for each in node.inputs}
    found: list[str] = []
    left_by_loops: list[str] = []
    for node in graph.nodes:
        if node.name in taken or node.op in _NO_RESULT:
            continue
        runs = output_runs(node, graph.functions)
        count = 0 if runs is None else count_of(runs)
        if 0 < count <= _MOST and not any(run.is_reference for run in runs or ()):
            of_this = [f"{node.name}:{number}" for number in range(count)]
            if node.op in _OF_LOOPS or _is_pivot(graph, node):
                left_by_loops += of_this
            else:
                found += of_this
    return found or left_by_loops


def _is_pivot(graph: GraphDef, node: NodeDef) -> bool:
    """Whether it is one of the two by which the branches of a condition wait for their turn."""
    return node.op == "Identity" and graph.by_name[input_node(node.inputs[0])].op == "Switch"


def placeholders(nodes: Iterable[NodeDef]) -> list[NodeDef]:
    """Those that have to be given a value."""
    return [node for node in nodes if node.op in PLACEHOLDERS]
