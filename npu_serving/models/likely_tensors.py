"""Which tensors of a graph that has no signature are probably its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Iterable

from npu_serving.errors import ModelFileError
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.tensor_types import count_of, output_runs

FED = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
"""Operators of nodes that a request is to fill."""
_SOURCES = ("IteratorGetNext", "QueueDequeueManyV2", "QueueDequeueUpToV2", "QueueDequeueV2", "ParseExample")
"""Where the data of a graph comes from that was written for training, and has no placeholder."""
# What stands at the end of a graph and answers nothing: what is only run, saved, trained, looked at.
_NO_ANSWER = frozenset(
    [
        "Abort",
        "Assert",
        "Assign",
        "AssignAdd",
        "AssignAddVariableOp",
        "AssignSub",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "CloseSummaryWriter",
        "Const",
        "ControlTrigger",
        "DestroyResourceOp",
        "FlushSummaryWriter",
        "HashTable",
        "HashTableV2",
        "ImportEvent",
        "InitializeTable",
        "InitializeTableV2",
        "InitializeTableFromTextFile",
        "InitializeTableFromTextFileV2",
        "IsVariableInitialized",
        "LookupTableImport",
        "LookupTableImportV2",
        "LookupTableInsert",
        "LookupTableInsertV2",
        "LoopCond",
        "MakeIterator",
        "MergeSummary",
        "MergeV2Checkpoints",
        "MutableHashTable",
        "MutableHashTableV2",
        "NextIteration",
        "NoOp",
        "Placeholder",
        "PlaceholderV2",
        "Print",
        "PrintV2",
        "QueueCloseV2",
        "QueueEnqueueManyV2",
        "QueueEnqueueV2",
        "ReadVariableOp",
        "RefNextIteration",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "Save",
        "SaveSlices",
        "SaveV2",
        "ShardedFilename",
        "ShardedFilespec",
        "StackPushV2",
        "SummaryWriter",
        "TemporaryVariable",
        "VarHandleOp",
        "VarIsInitializedOp",
        "Variable",
        "VariableV2",
        "WriteFile",
    ]
)
_OF_A_SAVER = frozenset(
    [
        "Identity",
        "MergeV2Checkpoints",
        "Placeholder",
        "PlaceholderWithDefault",
        "Restore",
        "RestoreV2",
        "Save",
        "SaveV2",
        "ShardedFilename",
        "StringJoin",
    ]
)
"""The operators that the name of a Saver's file goes to."""
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_OF_LOOPS = ("Exit", "RefExit", "Switch", "Merge")
_MOST = 20  # tensors of one node: more are a batch of parts, not outputs
_GRADIENTS = "/gradients/"  # the scope that tf.gradients makes
_NOT_CONSUMING = frozenset(["Print", "PrintV2", "MergeSummary", "WriteFile"])


def likely_inputs(graph: GraphDef) -> list[str]:
    """The tensors, such as x:0, of the placeholders that something uses; without any, of what reads a data set.

    The name of the file that a Saver gets is left out.
    """
    users: dict[str, set[str]] = {node.name: set() for node in graph.nodes if node.op in FED}
    names = {form: name for name in users for form in (name, f"{name}:0", f"^{name}")}
    for node in graph.nodes:
        for each in node.inputs:
            if each in names:
                users[names[each]].add(node.op)
    fed = [node for node in graph.nodes if node.op in FED and users[node.name] and not _is_file_name(node, users)]
    found = fed or [node for node in graph.nodes if node.op in _SOURCES]
    return [f"{node.name}:0" for node in found]


def likely_outputs(graph: GraphDef) -> list[str]:
    """The tensors NODE:NUMBER that no other node takes, of nodes that answer something: not Assert, NoOp, Save.

    What a summary or a printer takes counts as not taken. What loops, conditions and gradients leave behind counts only
    where there is nothing else.
    """
    taken = {
        each
        for node in graph.nodes
        if node.op not in _NOT_CONSUMING and not node.op.endswith(("Summary", "SummaryV2"))
        for each in node.inputs
    }
    taken |= {each.rpartition(":")[0] for each in taken if ":" in each}
    found: list[str] = []
    left_behind: list[str] = []
    for node in graph.nodes:
        if node.name not in taken and _answers(node, graph):
            (left_behind if _is_left_behind(node, graph) else found).extend(_tensors(node, graph))
    return found or left_behind


def _tensors(node: NodeDef, graph: GraphDef) -> list[str]:
    """The outputs of a node; the first, where TensorFlow 1.15.0 does not know the operator."""
    try:
        runs = output_runs(node, graph.functions)
    except ModelFileError:
        return []  # an attribute is missing: whoever checks the graph says so
    count = 1 if runs is None else count_of(runs)
    is_answer = count <= _MOST and not any(run.is_reference for run in runs or ())
    return [f"{node.name}:{number}" for number in range(count)] if is_answer else []


def _is_left_behind(node: NodeDef, graph: GraphDef) -> bool:
    if node.op in _OF_LOOPS or _GRADIENTS in f"/{node.name}":
        return True
    source = graph.by_name.get(node_of(node.inputs[0])) if node.inputs else None
    # One of the two nodes by which the branches of a condition wait for their turn.
    return node.op == "Identity" and source is not None and source.op == "Switch"


def placeholders(nodes: Iterable[NodeDef]) -> list[NodeDef]:
    """Those that have to be given a value; PlaceholderWithDefault has one."""
    return [node for node in nodes if node.op in FED and node.op != "PlaceholderWithDefault"]


def node_of(tensor: str) -> str:
    """The node of an input, NODE, NODE:OUTPUT or ^NODE."""
    return tensor.lstrip("^").partition(":")[0]


def _is_file_name(node: NodeDef, users: dict[str, set[str]]) -> bool:
    """Whether a placeholder is the name of a Saver's file, which only saving and restoring need."""
    value = node.value("dtype")
    is_text = value is not None and value.value == "string"
    return is_text and node.op == "PlaceholderWithDefault" and users[node.name] <= _OF_A_SAVER


def _answers(node: NodeDef, graph: GraphDef) -> bool:
    source = graph.by_name.get(node_of(node.inputs[0])) if node.op == "Identity" and node.inputs else None
    if source is not None and (source.op in _VARIABLES or source.op == "PlaceholderWithDefault"):
        return False  # a variable as it is read, or the name of a Saver's file
    training = node.op.startswith(
        ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply", "Scatter", "Resource")
    )
    return node.op not in _NO_ANSWER and node.op not in FED and not training and not node.op.endswith("Summary")
