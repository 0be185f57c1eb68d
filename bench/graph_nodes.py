"""`./inv graph-nodes` of a frozen graph of 500 MB and 50,000 nodes beside TensorFlow 1.15.0's own parse of it.

NPU_SERVING_TENSORFLOW_PYTHON names the Python that has it. TensorFlow's figures: the whole process, which imports it,
reads the file and parses it; and without the import. Then one of 2 GB, just below protobuf's limit, ours alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from npu_serving.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "tests" / "support"))

import model_messages as wire

ROUNDS = 5
LIMIT, MEMORY_MB = 3.0, 300
NODES, CONSTANTS, SIZE = 50_000, 100, 5 << 20
PARSE = """
import sys, time
from tensorflow.core.framework import graph_pb2
began = time.time()
graph = graph_pb2.GraphDef()
graph.ParseFromString(open(sys.argv[1], "rb").read())
names = [node.name for node in graph.node]
print(len(names), time.time() - began)
"""


def seconds(argv: list[str]) -> tuple[float, int, str]:
    """Of the clock and of the most memory in MB, with what was printed."""
    began = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return time.perf_counter() - began, usage.ru_maxrss >> 10, printed


def constant(name: str, size: int) -> bytes:
    content = os.urandom(size)
    value = wire.message(
        8, wire.number(1, wire.FLOAT) + wire.message(2, wire.shape([size // 4])) + wire.message(4, content)
    )
    return wire.node(name, "Const", (), {"dtype": wire.number(6, wire.FLOAT), "value": value})


def write_graph(path: Path, nodes: int, constants: int, size: int) -> None:
    """Layers of a constant, a convolution, a bias and an activation; a few of the constants are large."""
    kind = wire.number(6, wire.FLOAT)
    ones = wire.message(1, wire.message(3, b"\1\1\1\1"))
    form = wire.message(2, "NHWC")
    convolution = {
        "T": kind,
        "strides": ones,
        "dilations": ones,
        "padding": wire.message(2, "SAME"),
        "data_format": form,
    }
    with path.open("wb") as file:
        file.write(wire.message(1, wire.placeholder("x", [-1, 224, 224, 3])))
        last = "x"
        for at in range(nodes // 4):
            scope = f"model/block_{at // 25}/layer_{at}"
            large = at % (nodes // 4 // constants) == 0
            weights = constant(f"{scope}/weights", size if large else 32)
            file.write(wire.message(1, weights))
            for name, inputs, attributes in (
                ("Conv2D", (last, f"{scope}/weights"), convolution),
                ("BiasAdd", (f"{scope}/Conv2D", f"{scope}/weights"), {"T": kind, "data_format": form}),
                ("Relu", (f"{scope}/BiasAdd",), {"T": kind}),
            ):
                file.write(wire.message(1, wire.node(f"{scope}/{name}", name, inputs, attributes)))
            last = f"{scope}/Relu"


def main() -> None:
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        sys.exit("NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15.0")
    inv = str(PROJECT_ROOT / "inv")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "frozen.pb"
        write_graph(path, NODES, CONSTANTS, SIZE)
        ours, theirs, parses, memory, their_memory = [], [], [], 0, 0
        for _ in range(ROUNDS):
            took, most, _ = seconds([inv, "graph-nodes", str(path)])
            ours.append(took)
            memory = max(memory, most)
            took, most, printed = seconds([python, "-W", "ignore", "-c", PARSE, str(path)])
            theirs.append(took)
            parses.append(float(printed.split()[1]))
            their_memory = max(their_memory, most)
        mine, whole, parse = (statistics.median(times) for times in (ours, theirs, parses))
        print(
            f"| {path.stat().st_size / 1e6:.0f} MB, {NODES:,} nodes | seconds | memory | |\n| --- | --- | --- | --- |"
        )
        print(f"| graph-nodes | {mine:.2f} | {memory} MB | |")
        print(f"| TensorFlow: import and parse | {whole:.2f} | {their_memory} MB | {whole / mine:.2f} times as long |")
        print(f"| TensorFlow: parse alone | {parse:.2f} | | {parse / mine:.2f} times as long |")
        path.unlink()
        write_graph(path, 400, 100, (2**31 - (1 << 20)) // 100 // 4 * 4)
        took, most, _ = seconds([inv, "graph-nodes", str(path)])
        print(f"| graph-nodes of {path.stat().st_size / 1e6:.0f} MB | {took:.2f} | {most} MB | |")
        if whole < LIMIT * mine or max(memory, most) > MEMORY_MB:
            sys.exit(f"over the limits of {LIMIT:g} times as fast and {MEMORY_MB} MB")


if __name__ == "__main__":
    main()
