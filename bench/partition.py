"""`partition-graph` of 50,000 nodes, beside TensorFlow's own reading of that graph, with which a script would begin."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from _in_turn import medians

from npu_serving.wire_bytes import bytes_field, number_field, text_field

ROOT = Path(__file__).resolve().parents[1]
TENSORFLOW = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON", "")
NODES, ROUNDS = 50_000, 3
COMPUTED, LEFT = ("Relu", "AddN", "Tanh"), ("Digamma", "Lgamma")
IMPORTED = """
import sys, tensorflow as tf
graph = tf.compat.v1.GraphDef()
graph.ParseFromString(open(sys.argv[1], "rb").read())
tf.import_graph_def(graph, name="")
"""


def written(path: Path, share: float) -> None:
    """A graph with short and long ways, of which `share` is of operators that the list lacks."""
    chance = random.Random(7)
    floats = bytes_field(5, text_field(1, "T") + bytes_field(2, number_field(6, 1)))
    count = bytes_field(5, text_field(1, "N") + bytes_field(2, number_field(3, 2)))
    of_input = bytes_field(5, text_field(1, "dtype") + bytes_field(2, number_field(6, 1)))
    nodes = [text_field(1, "n0") + text_field(2, "Placeholder") + of_input]
    for number in range(1, NODES):
        operator = chance.choice(LEFT if chance.random() < share else COMPUTED)
        inputs = [max(0, number - 1 - int(chance.expovariate(0.3))) for _ in range(2 if operator == "AddN" else 1)]
        node = text_field(1, f"n{number}") + text_field(2, operator)
        node += b"".join(text_field(3, f"n{each}") for each in inputs) + floats
        nodes.append(node + (count if operator == "AddN" else b""))
    path.write_bytes(b"".join(bytes_field(1, node) for node in nodes))


def processor_time() -> float:
    """Seconds of the processor that programs have taken so far: what else the machine does is not in it."""
    taken = os.times()
    return taken.children_user + taken.children_system


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "list.txt").write_text("\n".join((*COMPUTED, "Placeholder")))
        for share in (0.0005, 0.01, 0.2):
            file = directory / f"{share}.pb"
            written(file, share)
            inv = [sys.executable, "-m", "npu_serving", "--search-root", str(ROOT), "partition-graph", str(file)]
            words = [*inv, "--supported", str(directory / "list.txt"), "--json"]
            run = functools.partial(subprocess.run, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            works = {"partition": functools.partial(run, words)}
            if TENSORFLOW:
                reading = [TENSORFLOW, "-W", "ignore", "-c", IMPORTED, str(file)]
                works["TensorFlow"] = functools.partial(run, reading, stderr=subprocess.DEVNULL)
            times = medians(works, ROUNDS, processor_time)
            rival = f"{times['TensorFlow']:.1f} s" if TENSORFLOW else "not here"
            ratio = f"{times['partition'] / times['TensorFlow']:.2f}" if TENSORFLOW else ""
            print(f"| {share:.2%} of the operators not listed | {times['partition']:.1f} s | {rival} | {ratio} |")
        print(f"load {os.getloadavg()[0]:.0f}", file=sys.stderr)


if __name__ == "__main__":
    main()
