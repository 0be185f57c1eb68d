"""A small writer of SavedModels and graphs in protobuf's wire format, apart from the reader that they are tests of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FLOAT, INT32, STRING, INT64 = 1, 3, 7, 9


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def entry(field: int, key: str, value: bytes) -> bytes:
    return message(field, message(1, key) + message(2, value))


def shape(sizes: Sequence[int] | None) -> bytes:
    if sizes is None:
        return number(3, 1)
    return b"".join(message(2, number(1, size) if size else b"") for size in sizes)


def node(name: str, op: str, inputs: Sequence[str] = (), attributes: Mapping[str, bytes] | None = None) -> bytes:
    attributes = attributes or {}
    return (
        message(1, name)
        + message(2, op)
        + b"".join(message(3, each) for each in inputs)
        + b"".join(entry(5, key, value) for key, value in attributes.items())
    )


def placeholder(name: str, sizes: Sequence[int] | None = None, data_type: int = FLOAT) -> bytes:
    return node(name, "Placeholder", (), {"dtype": number(6, data_type), "shape": message(7, shape(sizes))})


def constant(name: str, content: bytes) -> bytes:
    return node(
        name, "Const", (), {"dtype": number(6, FLOAT), "value": message(8, number(1, FLOAT) + message(4, content))}
    )


def function(name: str, nodes: Sequence[bytes]) -> bytes:
    return message(1, message(1, name)) + b"".join(message(3, each) for each in nodes)


def graph(nodes: Sequence[bytes], functions: Sequence[bytes] = ()) -> bytes:
    library = message(2, b"".join(message(1, each) for each in functions)) if functions else b""
    return b"".join(message(1, each) for each in nodes) + message(4, number(1, 134)) + library


def tensor(name: str, sizes: Sequence[int] | None, data_type: int = FLOAT) -> bytes:
    return message(1, name) + number(2, data_type) + message(3, shape(sizes))


def signature(
    inputs: Mapping[str, bytes], outputs: Mapping[str, bytes], method: str = "tensorflow/serving/predict"
) -> bytes:
    return (
        b"".join(entry(1, key, value) for key, value in inputs.items())
        + b"".join(entry(2, key, value) for key, value in outputs.items())
        + message(3, method)
    )


def meta_graph(
    of_graph: bytes, signatures: Mapping[str, bytes], tags: Sequence[str] = ("serve",), version: str = "1.15.0"
) -> bytes:
    info = b"".join(message(4, tag) for tag in tags) + message(5, version)
    return (
        message(1, info) + message(2, of_graph) + b"".join(entry(5, name, value) for name, value in signatures.items())
    )


def saved_model(*meta_graphs: bytes) -> bytes:
    return number(1, 1) + b"".join(message(2, each) for each in meta_graphs)


def simple_model(
    inputs: Mapping[str, Sequence[int] | None], more: Sequence[bytes] = (), tags: Sequence[str] = ("serve",)
) -> bytes:
    """A model of one signature whose inputs are placeholders of the same names."""
    nodes = [placeholder(name, sizes) for name, sizes in inputs.items()]
    nodes.append(node("y", "AddN", list(inputs), {"N": number(3, len(inputs)), "T": number(6, FLOAT)}))
    of_inputs = {name: tensor(f"{name}:0", sizes) for name, sizes in inputs.items()}
    signatures = {"serving_default": signature(of_inputs, {"y": tensor("y:0", None)})}
    return saved_model(meta_graph(graph([*nodes, *more]), signatures, tags))
