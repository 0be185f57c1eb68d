"""A CANN whose atc and aoe are the stand-ins of om_compiler_stand_in.py, and a small model for them."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

from cann_trees import make_cann, put
from om_compiler_stand_in import SOC_VERSIONS

from npu_serving.models.attribute_values import AttributeValue, encode
from npu_serving.models.saved_model import ModelSignature, TensorSpec
from npu_serving.models.saved_model_writer import ServableGraph, node_pieces, write_saved_model

FUNC2GRAPH = """
import sys
assert sys.argv[1:] == ["-m", "frozen.pb"]
with open("graph_def_library.pbtxt", "w") as file:
    file.write("graph_def { }")
"""
PREDICT = "tensorflow/serving/predict"
PROJECT = Path(__file__).parents[2]


def make_cann_with_compilers(
    root: Path, version: str = "6.3.RC2", *, soc_versions: tuple[str, ...] = SOC_VERSIONS
) -> Path:
    """A toolkit below `root` with both compilers, and chips that it knows; calls has what they were called with."""
    make_cann(root, version)
    toolkit = root / "ascend-toolkit" / "latest"
    for name in ("atc", "aoe"):
        program = put(
            toolkit / "bin" / name,
            f'#!/bin/sh\necho {name} "$@" >> {shlex.quote(str(root / "calls"))}\n'
            f"PYTHONPATH={shlex.quote(str(PROJECT))} exec {shlex.quote(sys.executable)} "
            f'{shlex.quote(str(Path(__file__).with_name("om_compiler_stand_in.py")))} {name} "$@"\n',
        )
        program.chmod(0o755)
    put(toolkit / "python/func2graph/func2graph.py", FUNC2GRAPH)
    for soc_version in soc_versions:
        put(toolkit / f"{platform.machine()}-linux/data/platform_config/{soc_version}.ini", "[version]\n")
    return root


def calls(root: Path) -> list[str]:
    """The command lines that the compilers of that CANN were called with."""
    file = root / "calls"
    return file.read_text().splitlines() if file.exists() else []


def write_model(directory: Path, *, shape: tuple[int, ...] | None = (-1, 4), method: str = PREDICT) -> None:
    """A version of x float (-1, 4) and n int32 () -> y = x + x, b = -n, and a node that no output needs."""
    kind, whole = encode(AttributeValue("type", "float32")), encode(AttributeValue("type", "int32"))
    nodes = [
        *node_pieces("x", "Placeholder", (), {"dtype": kind, "shape": encode(AttributeValue("shape", shape))}),
        *node_pieces("n", "Placeholder", (), {"dtype": whole, "shape": encode(AttributeValue("shape", ()))}),
        *node_pieces("y", "AddV2", ("x", "x"), {"T": kind}, "/device:GPU:0"),
        *node_pieces("b", "Neg", ("n",), {"T": whole}),
        *node_pieces("unneeded", "Neg", ("x",), {"T": kind}),
    ]
    inputs = {"images": TensorSpec("x:0", "float32", shape), "n": TensorSpec("n:0", "int32", ())}
    outputs = {"y": TensorSpec("y:0", "float32", shape), "b": TensorSpec("b:0", "int32", ())}
    signature = ModelSignature(inputs=inputs, outputs=outputs, method_name=method)
    directory.mkdir(parents=True)
    write_saved_model(directory, [ServableGraph(nodes, {"serving_default": signature})])
