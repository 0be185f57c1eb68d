"""How much of a model would run on the NPU, by the lists of operators that the adapter would read: a forecast.

What really ran there, the adapter itself says, after the first request.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from npu_serving.cann.operator_list import COMPUTES_NOTHING, OperatorLists
from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.deploy.range_checks import check_sunk_ranges
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import GraphContent, ModelSignature
from npu_serving.options.in_out_pair import MIXED
from npu_serving.shown_text import in_a_line

KIND = "npu-share"
_SHOWN = 8


@dataclass(frozen=True)
class NpuShare:
    """Of the nodes that a signature's requests run, how many may run on the NPU, and which operators may not."""

    signature: str
    nodes: int
    on_cpu: Mapping[str, int]

    @property
    def on_npu(self) -> int:
        """How many nodes the adapter may give to the NPU."""
        return self.nodes - sum(self.on_cpu.values())

    def to_json(self) -> dict[str, object]:
        """The numbers."""
        return {"signature": self.signature, "nodes": self.nodes, "on_npu": self.on_npu, "on_cpu": dict(self.on_cpu)}

    def text(self) -> str:
        """The share in a line, with the operators that are left to the CPU, the most frequent first."""
        percent = 100 * self.on_npu / self.nodes if self.nodes else 0.0
        left = sorted(self.on_cpu.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{in_a_line(name)} ({count})" for name, count in left[:_SHOWN])
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        rest = f"; on the CPU: {shown}{more}" if left else ""
        return f"{in_a_line(self.signature)}: {percent:.1f} % of {self.nodes} nodes may run on the NPU{rest}"


def share_of(
    name: str, signature: ModelSignature, graph: GraphContent, lists: OperatorLists, *, mixed: bool
) -> NpuShare:
    """What of that signature's requests would run on the NPU."""
    run = {operator: count for operator, count in graph.run_by(signature).items() if operator not in COMPUTES_NOTHING}
    on_cpu = {operator: count for operator, count in run.items() if not lists.taken(operator, mixed=mixed)}
    return NpuShare(name, sum(run.values()), on_cpu)


def shares_of(model: CheckedModel, lists: OperatorLists) -> dict[int, tuple[NpuShare, ...]]:
    """The shares of all signatures, by version; nothing for a model that the CPU is to serve."""
    if model.options is None:
        return {}
    mixed = model.options.get(MIXED) is True
    return {
        version.number: tuple(
            share_of(name, signature, version.graph.graph, lists, mixed=mixed)
            for name, signature in sorted(version.graph.signatures.items())
            if signature.is_for_requests
        )
        for version in model.versions
        if version.graph is not None
    }


def share_findings(model: CheckedModel, shares: Mapping[int, tuple[NpuShare, ...]]) -> Iterator[Finding]:
    """Models of which nothing would run on the NPU that they are meant for."""
    for version, of_version in shares.items():
        counted = [share for share in of_version if share.nodes]
        none = [share for share in counted if not share.on_npu]
        if not none:
            continue
        names = ", ".join(in_a_line(share.signature) for share in none)
        what = f"No operator of {model.name}, version {version}, that {names} runs is in CANN's list"
        yield Finding(
            f"{what}: the CPU would silently serve it.",
            "write npu: false for the model if that is meant, or convert it to operators that the list has",
            PROBLEM if len(none) == len(counted) else WARNING,
            KIND,
            model.base_path,
        )


def sunk_range_findings(model: CheckedModel, lists: OperatorLists, where: str) -> Iterator[Finding]:
    """Ranges that are to run on the NPU, with operators that do not; `where` is the place of the model's options."""

    def is_taken(functions: Mapping[str, object], operator: str) -> bool:
        return operator in COMPUTES_NOTHING or operator in functions or lists.taken(operator, mixed=True)

    for graph in (version.graph for version in model.versions if version.graph is not None):
        of_graph = functools.partial(is_taken, graph.graph.functions)
        yield from check_sunk_ranges(model.options or {}, graph, of_graph, where)
