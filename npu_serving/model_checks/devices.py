"""Nodes that are bound to a device which a server does not have: it has no soft placement, and refuses the model.

A server has /job:localhost/replica:0/task:0/device:CPU:0; the graph of what runs on the NPU names no device for
it (the adapter takes nodes over). TensorFlow 1.15.0 ignores the devices within functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from npu_serving.findings import PROBLEM, Finding
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import conversion_of, listed
from npu_serving.models.graph_def import NodeDef
from npu_serving.shown_text import in_a_line

DEVICE = "device"
_OWN = re.compile(
    r"(?:/job:(?:localhost|\*))?(?:/replica:(?:0|\*))?(?:/task:(?:0|\*))?(?:/(?:device:)?(?:cpu|CPU):(?:0|\*)|/device:\*)?/?"
)


def check_devices(model: ExaminedGraph) -> Iterator[Finding]:
    """The devices that nodes are bound to and a server lacks, each with its nodes."""
    found: dict[str, list[NodeDef]] = {}
    for node in model.graph.nodes:
        if node.device and not _OWN.fullmatch(node.device):
            found.setdefault(node.device, []).append(node)
    for device, nodes in sorted(found.items()):
        names = [in_a_line(node.name) for node in nodes]
        bound = f"{len(names)} nodes ({listed(names)}) are" if len(names) > 1 else f"The node {names[0]} is"
        what = f"{bound} bound to the device {in_a_line(device)}, which a server does not have"
        yield model.finding(
            f"{what}: it could not load the model (Cannot assign a device).",
            conversion_of(model.directory),
            PROBLEM,
            DEVICE,
            names,
        )
