"""The sample's models: a real SavedModel of y = slope * x + intercept, and the text that the sample server reads.

`python -m npu_serving.sample.models DIR slope intercept` writes one version; neither TensorFlow nor protobuf is
needed. The field numbers are those of TensorFlow 1.15's .proto files.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

from npu_serving import fsutil
from npu_serving.wire_bytes import bytes_field, entry_field, number_field, text_field

DT_FLOAT = 1
GRAPH_PRODUCER = 134  # TensorFlow 1.15.0's graph version


def write_linear_model(directory: Path, slope: float, intercept: float) -> None:
    """Writes one version of a linear model: saved_model.pb and linear_model.txt."""
    fsutil.write_file(directory / "saved_model.pb", saved_model(slope, intercept))
    fsutil.write_file(
        directory / "linear_model.txt",
        f"# y = {slope:g} x + {intercept:g}\n"
        'signature_name: "serving_default"\n'
        'input { key: "x" name: "x:0" }\n'
        'output { key: "y" name: "y:0" }\n'
        f"slope: {slope:g}\n"
        f"intercept: {intercept:g}\n",
    )


def saved_model(slope: float, intercept: float) -> bytes:
    """A serialized tensorflow.SavedModel with the tag `serve` and the signature `serving_default`."""
    graph = b"".join(
        bytes_field(1, node)
        for node in (
            _node("x", "Placeholder", [], dtype=number_field(6, DT_FLOAT), shape=bytes_field(7, _unknown_shape())),
            _constant("slope", slope),
            _constant("intercept", intercept),
            _node("product", "Mul", ["x", "slope"], T=number_field(6, DT_FLOAT)),
            _node("y", "Add", ["product", "intercept"], T=number_field(6, DT_FLOAT)),
        )
    ) + bytes_field(4, number_field(1, GRAPH_PRODUCER))
    signature = (
        entry_field(1, "x", _tensor_info("x:0"))
        + entry_field(2, "y", _tensor_info("y:0"))
        + text_field(3, "tensorflow/serving/predict")
    )
    meta_info = text_field(4, "serve") + text_field(5, "1.15.0")
    meta_graph = bytes_field(1, meta_info) + bytes_field(2, graph) + entry_field(5, "serving_default", signature)
    return number_field(1, 1) + bytes_field(2, meta_graph)


def _node(name: str, op: str, inputs: list[str], **attributes: bytes) -> bytes:
    return (
        text_field(1, name)
        + text_field(2, op)
        + b"".join(text_field(3, each) for each in inputs)
        + b"".join(entry_field(5, key, attributes[key]) for key in sorted(attributes))
    )


def _constant(name: str, value: float) -> bytes:
    tensor = number_field(1, DT_FLOAT) + bytes_field(2, b"") + bytes_field(5, struct.pack("<f", value))
    return _node(name, "Const", [], dtype=number_field(6, DT_FLOAT), value=bytes_field(8, tensor))


def _tensor_info(name: str) -> bytes:
    return text_field(1, name) + number_field(2, DT_FLOAT) + bytes_field(3, _unknown_shape())


def _unknown_shape() -> bytes:
    return number_field(3, 1)


def main(argv: list[str] | None = None) -> int:
    """The command line: writes one version of a model."""
    parser = argparse.ArgumentParser(prog="python -m npu_serving.sample.models", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("slope", type=float)
    parser.add_argument("intercept", type=float)
    arguments = parser.parse_args(argv)
    write_linear_model(arguments.directory, arguments.slope, arguments.intercept)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
