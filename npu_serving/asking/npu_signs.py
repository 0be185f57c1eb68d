"""What a running server says of the NPU: the only sure signs, since the CPU silently gives the same answers.

TF Adapter prints a line at INFO for each graph that it has had compiled (tf_adapter/kernels/geop_npu.cc, every release
from 2022 to 9.0.0), and writes what it left to the CPU into check_result.tf.json in the server's working directory when
its last graph is unloaded (tf_adapter/util/generate_report.cc); where it left nothing, there is no such file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LOG_LEVEL_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
LEVEL_OF_THE_SIGN = "0"  # INFO
CHECK_RESULT = "check_result.tf.json"

_COMPILED = re.compile("The model has been compiled on the Ascend AI processor")
_WARMED_UP = re.compile(r"Number of warmup records read: [1-9]")
_LONGEST = 64 << 20  # bytes


@dataclass
class NpuSigns:
    """What was seen so far in a server's output, line by line."""

    compiled: int = 0
    """How many graphs were compiled for the NPU."""
    warmed_up: bool = False
    """Whether recorded requests were sent through a model while it was loaded."""

    def add(self, line: str) -> bool:
        """Takes a line; whether it has changed anything."""
        before = (self.compiled, self.warmed_up)
        self.compiled += _COMPILED.search(line) is not None
        self.warmed_up = self.warmed_up or _WARMED_UP.search(line) is not None
        return before != (self.compiled, self.warmed_up)


def signs_in(output: str) -> NpuSigns:
    """The signs in all that a server has printed."""
    signs = NpuSigns()
    for line in output.splitlines():
        signs.add(line)
    return signs


def compiled_since(before: NpuSigns, after: NpuSigns) -> bool:
    """Whether the model that has answered for the first time between the two was compiled for the NPU.

    Each signature's graph is compiled when it is first run: with the request, or before it with the recorded ones that
    warm a model up. What is compiled while a model is loaded otherwise is its restoring, and proves nothing.
    """
    return after.compiled > before.compiled or (before.compiled > 0 and before.warmed_up)


def left_to_the_cpu(directory: Path, since: float) -> str:
    """What the adapter of a server that was started at that time (seconds since the epoch) there has left to the CPU.

    "" where it has written nothing since, or nothing that can be read.
    """
    path = directory / CHECK_RESULT
    try:
        if not path.is_file() or path.stat().st_mtime < since:
            return ""
        with path.open("rb") as file:
            document = json.loads(file.read(_LONGEST))
    except (OSError, ValueError, RecursionError):
        return ""
    nodes = document.get("op") if isinstance(document, dict) else None
    rows = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    types = Counter(str(node.get("type", "?")) for node in rows if not node.get("is_support"))
    if not types:
        return ""
    named = ", ".join(f"{name} ({count})" for name, count in sorted(types.items(), key=lambda item: -item[1])[:5])
    more = ", ..." if len(types) > 5 else ""
    return f"the adapter has left {sum(types.values())} nodes to the CPU: {named}{more} ({path})"
