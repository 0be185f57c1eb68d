"""The sample's models: a real SavedModel of y = slope * x + intercept, and the text that the sample server reads.

`python -m npu_serving.sample.models DIR slope intercept` writes one version. The wire format is written by hand, so
that neither TensorFlow nor protobuf is needed; the field numbers are those of TensorFlow 1.15's .proto files.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

from npu_serving import fsutil

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
        _message(1, node)
        for node in (
            _node("x", "Placeholder", [], dtype=_number(6, DT_FLOAT), shape=_message(7, _unknown_shape())),
            _constant("slope", slope),
            _constant("intercept", intercept),
            _node("product", "Mul", ["x", "slope"], T=_number(6, DT_FLOAT)),
            _node("y", "Add", ["product", "intercept"], T=_number(6, DT_FLOAT)),
        )
    ) + _message(4, _number(1, GRAPH_PRODUCER))
    signature = (
        _entry(1, "x", _tensor_info("x:0"))
        + _entry(2, "y", _tensor_info("y:0"))
        + _text(3, "tensorflow/serving/predict")
    )
    meta_info = _text(4, "serve") + _text(5, "1.15.0")
    meta_graph = _message(1, meta_info) + _message(2, graph) + _entry(5, "serving_default", signature)
    return _number(1, 1) + _message(2, meta_graph)


def _node(name: str, op: str, inputs: list[str], **attributes: bytes) -> bytes:
    return (
        _text(1, name)
        + _text(2, op)
        + b"".join(_text(3, each) for each in inputs)
        + b"".join(_entry(5, key, attributes[key]) for key in sorted(attributes))
    )


def _constant(name: str, value: float) -> bytes:
    tensor = _number(1, DT_FLOAT) + _message(2, b"") + _message(5, struct.pack("<f", value))
    return _node(name, "Const", [], dtype=_number(6, DT_FLOAT), value=_message(8, tensor))


def _tensor_info(name: str) -> bytes:
    return _text(1, name) + _number(2, DT_FLOAT) + _message(3, _unknown_shape())


def _unknown_shape() -> bytes:
    return _number(3, 1)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _entry(field: int, key: str, value: bytes) -> bytes:
    """One entry of a map field."""
    return _message(field, _text(1, key) + _message(2, value))


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
