"""Which nodes of a graph TF Adapter leaves to the CPU in mixed computing, and why: its rules, by its source.

FindNpuSupportCandidates() of its om_partition_subgraphs_pass.cc, in 6.3.RC2 and, but for strings, which 9.0 lets pass
between the two sides, in 9.0.0. The numbers of the reasons are those of its check_result.tf.json (generate_report.h).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from npu_serving.cann.operator_list import OperatorLists
from npu_serving.models.graph_def import NodeDef
from npu_serving.partition.run_graph import FED, RunGraph

NOT_LISTED, GREY, SCENARIO, NEVER = 1, 2, 3, 4
"""The kinds of reasons, as the adapter numbers them."""
CONSTANT = "Const"
VARIABLES = frozenset(("VariableV2", "Variable", "VarHandleOp"))

_HANDLE = "VarHandleOp"
_EXCLUDED, _MAY_BE_LARGE = "_without_npu_compile", "_op_max_size"
_TIES = frozenset(("string", "resource"))
_ENTER = frozenset(("Enter", "RefEnter"))
_EXIT = frozenset(("Exit", "RefExit"))


@dataclass(frozen=True)
class Hindrance:
    """Why a node stays on the CPU: the kind of the reason, and the reason for people."""

    code: int
    why: str


@dataclass(frozen=True)
class Sides:
    """What is in the way of each node, by number; nothing for those that the NPU computes. Constants go along.

    `loops` has the outermost loop of each node that is in one.
    """

    hindrances: Mapping[int, Hindrance]
    constants: frozenset[int]
    loops: Mapping[int, str]


def sides_of(graph: RunGraph, lists: OperatorLists, *, variables_on_host: bool = False) -> Sides:
    """Where the adapter would have each node computed; `variables_on_host` is whether variable_placement is Host."""
    if any(node.op == "OutfeedDequeueOp" for node in graph.nodes):
        everywhere = Hindrance(SCENARIO, "a graph that fetches from an outfeed runs on the CPU")
        return Sides(dict.fromkeys(range(len(graph.nodes)), everywhere), frozenset(), {})
    judge = _Judge(graph, lists, variables_on_host)
    constants = frozenset(number for number, node in enumerate(graph.nodes) if node.op == CONSTANT)
    found = {
        number: hindrance
        for number, node in enumerate(graph.nodes)
        if number not in constants and (hindrance := judge.of(number, node)) is not None
    }
    loops, parents = _loops(graph)
    _keep_loops_whole(found, constants, loops, parents, graph)
    _spread(found, graph, constants)
    outermost = {number: _outermost(name, parents) for number, name in loops.items()}
    return Sides(found, constants, outermost)


class _Judge:
    """What is wrong with a node by itself."""

    def __init__(self, graph: RunGraph, lists: OperatorLists, variables_on_host: bool) -> None:
        self._graph, self._lists, self._on_host = graph, lists, variables_on_host
        self._of_function = functools.lru_cache(maxsize=None)(self._hindrance_in)

    def of(self, number: int, node: NodeDef) -> Hindrance | None:
        for called in node.calls:
            inner = self._of_function(called)
            if inner:
                return Hindrance(SCENARIO, f"its function {called} has {inner}")
        found = self._of_operator(node)
        if found is not None:
            return found
        if self._on_host and node.op in VARIABLES:
            return Hindrance(SCENARIO, "variable_placement is Host")
        return self._of_resources(number, node)

    def _of_operator(self, node: NodeDef) -> Hindrance | None:
        excluded = node.value(_EXCLUDED) if _EXCLUDED in node.attributes else None
        if excluded is not None and excluded.value is True:
            return Hindrance(SCENARIO, "it was marked for the CPU by npu_bridge (without_npu_compile_scope)")
        if node.op in self._graph.functions:
            inner = self._of_function(node.op)
            return Hindrance(SCENARIO, f"the function has {inner}") if inner else None
        return _of_name(node.op, self._lists)

    def _hindrance_in(self, name: str) -> str:
        """What the NPU can't compute in a function and those that it calls; "" for nothing."""
        seen, waiting = {name}, [name]
        while waiting:
            function = self._graph.functions.get(waiting.pop())
            if function is None:
                return "no body"
            for node in function.nodes:
                is_own = node.op == CONSTANT or node.op in self._graph.functions
                if not is_own and _of_name(node.op, self._lists) is not None:
                    return node.op
                new = [each for each in (*node.calls, node.op) if each in self._graph.functions and each not in seen]
                seen.update(new)
                waiting += new
        return ""

    def _of_resources(self, number: int, node: NodeDef) -> Hindrance | None:
        """Of resources only variables go to the NPU; the first one that a node has counts."""
        for each in self._graph.inputs[number]:
            if each.data_type == "resource":
                source = self._graph.nodes[each.node].op if each.node != FED else "what is fed"
                return None if source == _HANDLE else Hindrance(SCENARIO, f"it uses a resource of {source}")
        if node.op != _HANDLE and "resource" in self._graph.output_types(number):
            return Hindrance(SCENARIO, "it makes a resource other than a variable")
        return None


def _of_name(operator: str, lists: OperatorLists) -> Hindrance | None:
    if lists.never_taken(operator):
        return Hindrance(NEVER, "the adapter never gives it to the NPU")
    if operator not in lists.names:
        return Hindrance(NOT_LISTED, "CANN's list does not have it")
    if operator in lists.gray:
        return Hindrance(GREY, "grey: mixed computing leaves it to the CPU")
    return None


def _loops(graph: RunGraph) -> tuple[dict[int, str], dict[str, str]]:
    """The innermost loop that each node is in, and the loop around each loop, "" for none.

    A loop (a frame, in TensorFlow's words) is entered by Enter, which is in it, and left by Exit, which is too.
    """
    loops: dict[int, str] = {}
    parents: dict[str, str] = {}
    waits = [sum(each.node != FED for each in inputs) for inputs in graph.inputs]
    waiting = [number for number, count in enumerate(waits) if not count]
    seen = set(waiting)
    while waiting:
        number = waiting.pop()
        node, within = graph.nodes[number], loops.get(number, "")
        if node.op in _EXIT:
            within = parents.get(within, "")
        for other in graph.after[number]:
            if other in seen:
                continue
            waits[other] -= 1
            if waits[other] > 0 and graph.nodes[other].op not in ("Merge", "RefMerge"):
                if within and graph.nodes[other].op not in _ENTER:
                    loops[other] = within
                continue
            seen.add(other)
            waiting.append(other)
            following = graph.nodes[other]
            if following.op in _ENTER:
                value = following.value("frame_name")
                name = value.value.decode("utf-8", "replace") if value is not None and value.kind == "string" else "?"
                loops[other] = name
                if name != within:
                    parents.setdefault(name, within)
            elif within:
                loops[other] = within
    return loops, parents


def _outermost(name: str, parents: Mapping[str, str]) -> str:
    seen: set[str] = set()
    while parents.get(name) and name not in seen:
        seen.add(name)
        name = parents[name]
    return name


def _keep_loops_whole(
    found: dict[int, Hindrance],
    constants: Iterable[int],
    loops: Mapping[int, str],
    parents: Mapping[str, str],
    graph: RunGraph,
) -> None:
    """A loop with a node that the NPU can't compute stays on the CPU, and so do those around it."""
    because: dict[str, int] = {}
    for number in sorted(found):
        name = loops.get(number, "")
        while name and name not in because:
            because[name] = number
            name = parents.get(name, "")
    for number, name in loops.items():
        if name in because and number not in found and number not in constants:
            culprit = graph.nodes[because[name]]
            found[number] = Hindrance(SCENARIO, f"its loop has {culprit.op}, which stays on the CPU")


def _spread(found: dict[int, Hindrance], graph: RunGraph, constants: frozenset[int]) -> None:
    """A node that shares a variable by reference, a string or a resource with one on the CPU stays there too."""
    outputs = _uses(graph)
    waiting: list[int] = []

    def leave(number: int, beside: int, what: str) -> None:
        if number not in found and number not in constants:
            found[number] = Hindrance(
                SCENARIO, f"it shares {what} with {graph.nodes[beside].op}, which stays on the CPU"
            )
            waiting.append(number)

    for number, inputs in enumerate(graph.inputs):
        kinds = _TIES.intersection(each.data_type for each in inputs if each.node == FED)
        if number in graph.fetched:
            kinds |= _TIES.intersection(graph.output_types(number))
        if kinds and number not in found and number not in constants:
            found[number] = Hindrance(SCENARIO, f"a {min(kinds)} is fed to it or fetched from it")
    waiting += sorted(found)
    while waiting:
        number = waiting.pop()
        node = graph.nodes[number]
        for other, kind, is_reference in outputs[number]:
            following = graph.nodes[other]
            if is_reference:
                leave(other, number, "a variable")
            elif kind in _TIES and _MAY_BE_LARGE not in following.attributes and following.op != "Assert":
                leave(other, number, f"a {kind}")
        for each in graph.inputs[number]:
            if each.node == FED or each.is_control:
                continue
            if each.is_reference:
                leave(each.node, number, "a variable")
            elif each.data_type in _TIES and _MAY_BE_LARGE not in node.attributes:
                leave(each.node, number, f"a {each.data_type}")


def _uses(graph: RunGraph) -> Sequence[Sequence[tuple[int, str, bool]]]:
    """Who uses the values of each node, with the type that it takes them as."""
    found: list[list[tuple[int, str, bool]]] = [[] for _ in graph.nodes]
    for number, inputs in enumerate(graph.inputs):
        for each in inputs:
            if each.node != FED and not each.is_control:
                found[each.node].append((number, each.data_type, each.is_reference))
    return found
