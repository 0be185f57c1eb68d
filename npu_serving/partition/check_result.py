"""check_result.tf.json, which TF Adapter writes when its last graph is unloaded, held against what was foreseen.

It names the nodes whose operators are not in CANN's list, and nothing else: not the grey ones, nor what a rule on
loops, variables or strings has left to the CPU (SaveUnsupportedInfo() of its generate_report.cc, IsNpuSupported() of
its npu_ops_identifier.cc). Without such a node it writes no file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import table
from npu_serving.errors import RequestError
from npu_serving.models.graph_def import GraphDef
from npu_serving.partition.npu_rules import NOT_LISTED
from npu_serving.partition.plan import Division
from npu_serving.shown_text import in_a_line

REASONS: Mapping[int, str] = {1: "not defined", 2: "grey", 3: "a matter of the scene", 4: "not supported"}
"""What the numbers of reasons mean (ReasonCode of generate_report.h)."""
_OF_THE_RUN = frozenset(("_Arg", "_Retval"))
"""Operators that a session puts in for what is fed and fetched."""
_SHOWN = 20


@dataclass(frozen=True)
class ReportedNode:
    """A node that the adapter has left to the CPU: its operator, the number of the reason, and the adapter's words."""

    name: str
    operator: str
    code: int
    message: str


def read_check_result(path: Path) -> tuple[ReportedNode, ...]:
    """The nodes of the file. RequestError for a file of another kind; FileAccessError."""
    try:
        document = json.loads(fsutil.read_bytes(path))
    except (ValueError, RecursionError):
        raise _no_result(path, "it is not JSON, or ends within it") from None
    rows = document.get("op") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise _no_result(path, 'it has no list "op"')
    found = []
    for place, row in enumerate(rows):
        reason = row.get("not_support_reason") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "type")):
            raise _no_result(path, f"entry {place + 1} has no name and type of a node")
        code = reason.get("code") if isinstance(reason, dict) else 0
        message = reason.get("message") if isinstance(reason, dict) else ""
        if not row.get("is_support"):
            number = code if isinstance(code, int) else 0
            found.append(ReportedNode(row["name"], row["type"], number, message if isinstance(message, str) else ""))
    return tuple(found)


def _no_result(path: Path, why: str) -> RequestError:
    return RequestError(
        f"{path} is not a check_result.tf.json: {why}.",
        cause="another file was named, or the server was ended while it was written",
        cure="name the file that the adapter has left in the server's directory: ./inv status shows the server",
    )


@dataclass(frozen=True)
class Comparison:
    """What the adapter has reported beside what was foreseen, by operator, for nodes of this model.

    `elsewhere` counts what it has reported of nodes that the model has not: of another model, or made by TensorFlow.
    """

    file: Path
    agreed: Mapping[str, int]
    only_reported: tuple[ReportedNode, ...]
    only_foreseen: Mapping[str, int]
    elsewhere: Mapping[str, int]

    @property
    def agrees(self) -> bool:
        """Whether the adapter has left no node of the model to the CPU for its operator that was meant for the NPU."""
        return not self.only_reported

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "file": str(self.file),
            "agrees": self.agrees,
            "agreed": dict(self.agreed),
            "only_reported": [
                {"name": node.name, "operator": node.operator, "code": node.code, "message": node.message}
                for node in self.only_reported
            ],
            "only_foreseen": dict(self.only_foreseen),
            "elsewhere": dict(self.elsewhere),
        }

    def text(self) -> str:
        """In a few lines, with the nodes where it went otherwise."""
        lines = [f"{self.file}, which the adapter wrote after it ran:"]
        if self.agreed:
            lines.append(f"  as foreseen, on the CPU: {_counted(self.agreed)}")
        if self.only_reported:
            lines.append("  meant for the NPU, and left to the CPU all the same: the server has read another list")
            rows = [
                (f"    {in_a_line(node.name)}", in_a_line(node.operator), _reason(node))
                for node in self.only_reported[:_SHOWN]
            ]
            lines.append(table(rows))
            if len(self.only_reported) > _SHOWN:
                lines.append(f"    and {len(self.only_reported) - _SHOWN} more")
        if self.only_foreseen:
            lines.append(
                "  foreseen for the CPU, and not reported, as they are not in the list or not asked for yet: "
                + _counted(self.only_foreseen)
            )
        if self.elsewhere:
            lines.append(
                f"  nodes that this model has not, of another one or made by TensorFlow: {_counted(self.elsewhere)}"
            )
        if len(lines) == 1:
            lines.append("  nothing that concerns this model")
        return "\n".join(lines)


def compared(file: Path, reported: tuple[ReportedNode, ...], division: Division, graph: GraphDef) -> Comparison:
    """The reported nodes against the division; `graph` has the nodes that other signatures run as well."""
    run = division.graph.numbers
    hindered = division.sides.hindrances
    agreed: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    others: list[ReportedNode] = []
    for node in reported:
        number = run.get(node.name)
        if number is not None and number in hindered:
            agreed[node.operator] += 1
        elif number is not None and number not in division.sides.constants:
            others.append(node)
        elif node.operator not in _OF_THE_RUN and number is None and node.name not in graph.by_name:
            elsewhere[node.operator] += 1
    names = {node.name for node in reported}
    foreseen = Counter(
        division.graph.nodes[number].op
        for number, hindrance in hindered.items()
        if hindrance.code == NOT_LISTED and division.graph.names[number] not in names
    )
    return Comparison(file, _sorted(agreed), tuple(others), _sorted(foreseen), _sorted(elsewhere))


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counted(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{in_a_line(name)} ({count})" for name, count in [*counts.items()][:_SHOWN])
    return shown + (f" and {len(counts) - _SHOWN} more operators" if len(counts) > _SHOWN else "")


def _reason(node: ReportedNode) -> str:
    return f"{REASONS.get(node.code, f'reason {node.code}')}: {in_a_line(node.message)}"
