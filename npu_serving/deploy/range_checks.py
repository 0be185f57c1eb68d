"""in_out_pair and iterations_per_loop against the nodes of a model.

For names that the model lacks, the adapter silently takes the whole graph.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import GraphContent, MetaGraph
from npu_serving.options.asked_options import EFFECT, ENDS_THE_PROCESS, FAILS_THE_RUN
from npu_serving.options.in_out_pair import FLAG, MIXED, OPTION, read_pairs
from npu_serving.shown_text import in_a_line

KIND = "in-out-pair"
LOOP = "iterations_per_loop"
_SHOWN = 5
_ONE_SHOT = "OneShotIterator"
_MOST_COMPARED = 20_000  # nodes; among more, the search for the nearest name would take seconds


def check_ranges(options: Mapping[str, object], graph: MetaGraph, where: str) -> Iterator[Finding]:
    """Names of first and last operators that the graph does not have; `where` is the place of the options in the file.

    The form of the option, and what it goes together with, is judged with all other options.
    """
    value = options.get(OPTION)
    names = _names(value) if isinstance(value, str) else []
    if not names:
        return
    nodes = graph.graph.by_name
    unknown = [name for name in names if name not in nodes]
    if not unknown:
        return
    known = list(nodes) if len(nodes) < _MOST_COMPARED else []
    near = {name: difflib.get_close_matches(name.rpartition(":")[0] or name, known, n=1) for name in unknown[:5]}
    details = tuple(
        f"{in_a_line(name)}" + (f": perhaps {in_a_line(found[0])}" if found else "") for name, found in near.items()
    )
    are_all = len(unknown) == len(names)
    effect = "the whole graph would be taken, as if the option were not there" if are_all else "they would be ignored"
    what = f"{OPTION} names {len(unknown)} of {len(names)} operators that the model does not have: {effect}."
    cure = "write the names of nodes, without :0"
    yield Finding(what, cure, PROBLEM if are_all else WARNING, KIND, f"{where}.{OPTION}", details=details)


def check_sunk_ranges(
    options: Mapping[str, object], graph: MetaGraph, is_taken: Callable[[str], bool], where: str
) -> Iterator[Finding]:
    """Operators on the way from a first to the last operators of a range that is to run on the NPU and can't.

    `is_taken` says of an operator whether the adapter gives it to the NPU; of all others it refuses the range, and with
    it every run (FindCandidatesByInOutPair() in its om_partition_subgraphs_pass.cc).
    """
    value = options.get(OPTION)
    if not isinstance(value, str) or options.get(MIXED) is not True or options.get(FLAG, True) is not True:
        return
    nodes = graph.graph.by_name
    found = dict.fromkeys(
        name
        for pair in read_pairs(value)
        for first in pair.firsts
        for name in _between(graph.graph, first, pair.lasts)
        if not is_taken(nodes[name].operator)
    )
    if found:
        count = "an operator" if len(found) == 1 else f"{len(found)} operators"
        yield Finding(
            f"{OPTION} takes in {count} that CANN's list does not have: {EFFECT[FAILS_THE_RUN]}.",
            f"choose a range without it, or set {FLAG} to false, which keeps the range on the CPU",
            kind=KIND,
            where=f"{where}.{OPTION}",
            details=tuple(f"{in_a_line(name)} ({in_a_line(nodes[name].operator)})" for name in [*found][:_SHOWN]),
        )


def check_iterations(options: Mapping[str, object], graph: MetaGraph, where: str) -> Iterator[Finding]:
    """A loop of several iterations in a graph that reads its data by a OneShotIterator."""
    count = options.get(LOOP, 1)
    if isinstance(count, int) and count > 1 and _ONE_SHOT in graph.graph.operators:
        what = f"{LOOP} is {count}, and the model has a {_ONE_SHOT}: {EFFECT[ENDS_THE_PROCESS]}."
        yield Finding(what, f"leave {LOOP} out", kind=KIND, where=f"{where}.{LOOP}")


def _between(graph: GraphContent, first: str, lasts: Iterable[str]) -> list[str]:
    """The nodes on all ways from the first to the last ones, with these; none where one of them is not there."""
    wanted = [*lasts]
    if any(name not in graph.by_name for name in (first, *wanted)):
        return []
    before = _reached(wanted, {name: node.inputs for name, node in graph.by_name.items()})
    after: dict[str, list[str]] = {}
    for name in before:
        for needed in graph.by_name[name].inputs:
            after.setdefault(needed, []).append(name)
    return sorted(_reached([first], after) & before)


def _reached(starts: list[str], steps: Mapping[str, Iterable[str]]) -> set[str]:
    waiting, seen = [*starts], set(starts)
    while waiting:
        new = [name for name in steps.get(waiting.pop(), ()) if name not in seen]
        seen.update(new)
        waiting += new
    return seen


def _names(text: str) -> list[str]:
    return [name for pair in read_pairs(text) for name in (*pair.firsts, *pair.lasts)]
