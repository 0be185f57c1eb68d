"""The nodes of a graph that its outputs need, and what keeps TensorFlow 1.15.0 from importing them.

It checks what its importer does (core/graph/graph_constructor.cc, validate.cc), so that a graph that passes loads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef
from npu_serving.models.operator_definitions import is_later_operator
from npu_serving.models.tensor_types import TensorRun, count_of, input_runs, operator_of, output_runs, split_tensor

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*\Z")
_SHOWN = 5
_PASSED_BACK = ("NextIteration", "RefNextIteration")
AGAIN = "export the model again"


def needed_names(graph: GraphDef, wanted: Iterable[str], cut: Collection[str] = ()) -> set[str]:
    """The nodes that those `wanted` need, they themselves included; nothing behind those that are `cut`.

    ModelFileError where one of them has an input that the graph lacks.
    """
    by_name = graph.by_name
    waiting = list(dict.fromkeys(wanted))
    seen = set(waiting)
    while waiting:
        node = by_name[waiting.pop()]
        if node.name in cut:
            continue
        for each in node.inputs:
            if each in seen:  # as it is written, which for most is the name alone
                continue
            name = input_node(each)
            if name not in seen:
                if name not in by_name:
                    raise ModelFileError(
                        f"The node {node.name} ({node.op}) has the input {each}, which the graph lacks.",
                        cause="the graph was cut, or put together, by hand",
                        cure=f"{AGAIN}, or name {node.name}:0 among --inputs",
                    )
                seen.add(name)
                waiting.append(name)
    return seen


def needed_functions(graph: GraphDef, nodes: Iterable[NodeDef]) -> dict[str, FunctionDef]:
    """The functions that these nodes call, and those that these call."""
    if not graph.functions:
        return {}
    waiting = list(nodes)
    found: set[str] = set()
    while waiting:
        node = waiting.pop()
        for name in (node.op, *node.calls):
            if name in graph.functions and name not in found:
                found.add(name)
                waiting += graph.functions[name].nodes
    return {name: function for name, function in graph.functions.items() if name in found}


def input_node(written: str) -> str:
    """The node that an input of a node names: NODE, NODE:NUMBER or ^NODE."""
    return written.partition(":")[0].lstrip("^")


def refuse_double(nodes: Sequence[NodeDef]) -> None:
    """ModelFileError where two nodes have one name, or a name is one that TensorFlow refuses."""
    counts = Counter(node.name for node in nodes)
    if len(counts) < len(nodes):
        name = next(name for name, count in counts.items() if count > 1)
        raise ModelFileError(
            f"The graph has {counts[name]} nodes named {name}.",
            cause="graphs were put together without a prefix for their names",
            cure=f"{AGAIN}, with names of its own for each part (tf.import_graph_def has the argument name)",
        )
    for node in nodes:
        if not _NAME.match(node.name):
            raise ModelFileError(
                f"The graph has a node named {node.name!r}, which TensorFlow refuses.",
                cause="the file is damaged, or was not written by TensorFlow",
                cure=AGAIN,
            )


def unknown_operators(
    nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef], known: Collection[str]
) -> dict[str, list[str]]:
    """The operators that TensorFlow 1.15.0 does not have, with the nodes of each; not those that are `known`."""
    found: dict[str, list[str]] = {}
    every = [(node.name, node) for node in nodes]
    every += [(f"{node.name} in the function {name}", node) for name, each in functions.items() for node in each.nodes]
    known_ones: dict[str, bool] = dict.fromkeys(known, True)
    for shown, node in every:
        is_known = known_ones.get(node.op)
        if is_known is None:
            is_known = known_ones[node.op] = operator_of(node.op, functions) is not None
        if not is_known:
            found.setdefault(node.op, []).append(shown)
    return found


def refuse_unknown_operators(unknown: Mapping[str, Sequence[str]]) -> None:
    """RequestError where there is one."""
    if not unknown:
        return
    later = [name for name in sorted(unknown) if is_later_operator(name)]
    shown = [f"{name} ({_listed(unknown[name])})" for name in sorted(unknown)]
    raise RequestError(
        f"TensorFlow 1.15.0 has no operator {'; '.join(shown[:_SHOWN])}.",
        cause=f"a later release of TensorFlow wrote the graph, which has {', '.join(later[:_SHOWN])}"
        if later
        else "the operator is one of your own, or of a library that the server would have to be built with",
        cure="export the model by TensorFlow 1.15"
        if later
        else f"--custom-operator {sorted(unknown)[0]} if the server was built with it",
    )


class ImportCheck:
    """What TensorFlow 1.15.0 would refuse of a graph's nodes, one by one."""

    def __init__(self, nodes: Mapping[str, NodeDef], functions: Mapping[str, FunctionDef]) -> None:
        self._nodes, self._functions = nodes, functions
        # Nodes that were read share their attributes where these are the same: most graphs have few kinds of nodes.
        self._known: dict[tuple[str, int, bool], tuple[TensorRun, ...] | None] = {}

    def refuse(self) -> None:
        """ModelFileError for the first thing that can't be imported."""
        of_variables = [each for node in self._nodes.values() if (each := self._checked(node))]
        if of_variables:
            raise ModelFileError(
                f"{_listed(of_variables)} would change a variable, and the graph has a constant there.",
                cause="the graph was frozen with what updates variables in training, as batch normalisation does",
                cure="--constant is_training=false leaves them out, by the name of the placeholder for training",
            )
        refuse_loops(self._nodes)

    def _runs(self, node: NodeDef, *, outputs: bool) -> tuple[TensorRun, ...] | None:
        key = (node.op, id(node.attributes), outputs)
        if key not in self._known:
            self._known[key] = (output_runs if outputs else input_runs)(node, self._functions)
        return self._known[key]

    def _checked(self, node: NodeDef) -> str:
        """Checks the inputs of a node; its name where it wants a variable in place of what it gets."""
        wanted = self._runs(node, outputs=False)
        if wanted is None:
            return ""
        inputs = [each for each in node.inputs if not each.startswith("^")]
        if count_of(wanted) != len(inputs):
            raise ModelFileError(
                f"The node {node.name} ({node.op}) has {len(inputs)} inputs, and its attributes say that there are "
                f"{count_of(wanted)}.",
                cause="the graph was changed by hand, or is of another release of TensorFlow",
                cure=AGAIN,
            )
        place, is_of_a_variable = 0, False
        for run in wanted:
            for at in range(run.count):
                is_reference = self._fits(node, inputs[place + at], run.types[at % len(run.types)])
                is_of_a_variable |= run.is_reference and not is_reference
            place += run.count
        return node.name if is_of_a_variable else ""

    def _fits(self, node: NodeDef, written: str, wanted: str) -> bool:
        """Whether an input refers to a variable. ModelFileError where the tensor is missing, or of another type."""
        name, number = split_tensor(written)
        if name not in self._nodes:  # such as x:-1, which needs the node x
            raise ModelFileError(
                f"The node {node.name} ({node.op}) has the input {written}, which is not of the form NODE:NUMBER.",
                cause="the graph was changed by hand",
                cure=AGAIN,
            )
        runs = self._runs(self._nodes[name], outputs=True)
        if runs is None:
            return True
        rest = number
        for run in runs:
            if rest < run.count:
                found = run.types[rest % len(run.types)]
                if found.replace("_ref", "") != wanted.replace("_ref", ""):
                    is_frozen = wanted == "resource" and self._nodes[name].op == "Const"
                    raise ModelFileError(
                        f"The input {written} of the node {node.name} ({node.op}) is {found}, and {wanted} is needed.",
                        cause="TensorFlow's own freezing makes a constant of a variable, but the functions of "
                        f"{node.op} still want the variable"
                        if is_frozen
                        else "the graph was changed by hand",
                        cure="convert the .meta of the checkpoint, or the SavedModel, that it was frozen from"
                        if is_frozen
                        else AGAIN,
                    )
                return run.is_reference
            rest -= run.count
        raise ModelFileError(
            f"The node {node.name} ({node.op}) has the input {written}, and {name} has {count_of(runs)} outputs.",
            cause="the graph was changed by hand",
            cure=AGAIN,
        )


def refuse_loops(nodes: Mapping[str, NodeDef]) -> None:
    """ModelFileError where nodes wait for each other, but for the loops that while_loop makes."""
    if _is_in_order(nodes):
        return
    waits = dict.fromkeys(nodes, 0)
    then: dict[str, list[str]] = {name: [] for name in nodes}
    for node in nodes.values():
        for each in node.inputs:
            before = input_node(each)
            if nodes[before].op not in _PASSED_BACK:
                waits[node.name] += 1
                then[before].append(node.name)
    ready = [name for name, count in waits.items() if not count]
    done = 0
    while ready:
        name = ready.pop()
        done += 1
        for after in then[name]:
            waits[after] -= 1
            if not waits[after]:
                ready.append(after)
    if done < len(nodes):
        loop = _one_loop(nodes, {name for name, count in waits.items() if count})
        raise ModelFileError(
            f"The nodes {_listed(loop)} wait for each other.",
            cause="the graph was changed by hand: without NextIteration, TensorFlow has no loops",
            cure=AGAIN,
        )


def _is_in_order(nodes: Mapping[str, NodeDef]) -> bool:
    """Whether each node comes after those that it waits for, as nearly always: then none is in a loop."""
    done = {name for name, node in nodes.items() if not node.inputs or node.op in _PASSED_BACK}
    for name, node in nodes.items():
        if not done.issuperset(node.inputs) and not all(input_node(each) in done for each in node.inputs):
            return False
        done.add(name)
    return True


def _one_loop(nodes: Mapping[str, NodeDef], left: set[str]) -> list[str]:
    """The nodes of a loop among those that are left: each of them waits for another of them."""
    path: dict[str, int] = {}
    name = min(left)
    while name not in path:
        path[name] = len(path)
        before = (input_node(each) for each in nodes[name].inputs)
        name = next(each for each in before if each in left and nodes[each].op not in _PASSED_BACK)
    return [each for each, place in path.items() if place >= path[name]]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
