"""`./inv convert-pb` of a frozen graph of 500 MB and 50,000 nodes beside `cat FILE | sha256sum`: whole processes."""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from graph_nodes import CONSTANTS, NODES, SIZE, seconds, write_graph

from npu_serving.settings import PROJECT_ROOT

ROUNDS = 5
LIMIT, MEMORY_MB = 3.0, 300


def main() -> None:
    with tempfile.TemporaryDirectory(dir=PROJECT_ROOT) as name:
        place = Path(name)
        graph, models = place / "frozen.pb", place / "models"
        write_graph(graph, NODES, CONSTANTS, SIZE)
        ours = [str(PROJECT_ROOT / "inv"), "convert-pb", str(graph), "--output", str(models / "m")]
        rival = ["sh", "-c", f"cat {shlex.quote(str(graph))} | sha256sum"]
        times: dict[str, list[float]] = {"convert-pb": [], "cat | sha256sum": []}
        memory = 0
        for _ in range(ROUNDS):
            for what, argv in (("convert-pb", ours), ("cat | sha256sum", rival)):
                taken, most, _ = seconds(argv)
                times[what].append(taken)
                memory = max(memory, most if argv is ours else 0)
            shutil.rmtree(models)
        size_mb = graph.stat().st_size >> 20
    found = {what: statistics.median(each) for what, each in times.items()}
    ratio = found["convert-pb"] / found["cat | sha256sum"]
    print("| ours | | rival | | ratio | memory |\n| --- | --- | --- | --- | --- | --- |")
    print(
        f"| convert-pb, {size_mb} MB, {NODES:,} nodes | {found['convert-pb']:.2f} s "
        f"| cat FILE \\| sha256sum | {found['cat | sha256sum']:.2f} s | {ratio:.2f} | {memory} MB |"
    )
    sys.exit(1 if ratio > LIMIT or memory > MEMORY_MB else 0)


if __name__ == "__main__":
    main()
