"""Damaged model directories: whatever is in the files, there are findings and no traceback."""

from __future__ import annotations

import random
from pathlib import Path

import model_messages as wire
import pytest

from npu_serving.model_checks.version_check import check_version
from npu_serving.models.warm_up_file import framed

TYPES = wire.message(1, wire.message(6, b"\1"))
FLOAT = {"T": wire.number(6, wire.FLOAT)}
TWICE = wire.message(10, wire.message(1, "twice"))
VARIABLE = {"dtype": wire.number(6, wire.FLOAT), "shape": wire.message(7, wire.shape([2]))}


def texts(name: str, *values: str) -> bytes:
    content = b"".join(wire.message(8, each) for each in values)
    tensor = wire.number(1, wire.STRING) + wire.message(2, wire.shape([len(values)])) + content
    return wire.node(name, "Const", (), {"dtype": wire.number(6, wire.STRING), "value": wire.message(8, tensor)})


def model() -> bytes:
    """Functions, a loop, variables that are restored, a table with a path, an initialization and an asset."""
    nodes = [
        wire.placeholder("x", [-1, 3]),
        wire.node("v", "VariableV2", (), VARIABLE),
        texts("file", "/nowhere"),
        texts("names", "v"),
        texts("parts", ""),
        wire.node("restore", "RestoreV2", ["file", "names", "parts"], {"dtypes": TYPES}),
        wire.node("assign", "Assign", ["v", "restore"], FLOAT),
        wire.node("call", "twice", ["x"]),
        wire.node("part", "PartitionedCall", ["call"], {"Tin": TYPES, "Tout": TYPES, "f": TWICE}),
        wire.node("merge", "Merge", ["part", "next"], {**FLOAT, "N": wire.number(3, 2)}),
        wire.node("next", "NextIteration", ["merge"], FLOAT),
        wire.node("y", "AddN", ["merge", "x", "^assign"], {**FLOAT, "N": wire.number(3, 2)}),
        wire.node("read", "ReadFile", ["file"]),
    ]  # fmt: skip
    function = wire.message(1, wire.message(1, "twice") + wire.message(2, wire.message(1, "a") + wire.number(3, 1)))
    function += wire.message(3, wire.node("b", "Add", ["a", "a"], FLOAT)) + wire.entry(4, "c", b"")
    graph = wire.graph(nodes, [function])
    signature = wire.signature({"x": wire.tensor("x:0", [-1, 3])}, {"y": wire.tensor("y:0", None)})
    saver = wire.message(1, "file:0") + wire.message(3, "assign")
    main = wire.entry(4, "saved_model_main_op", wire.message(1, wire.message(1, "assign")))
    asset = wire.message(6, wire.message(1, wire.message(1, "file:0")) + wire.message(2, "words"))
    whole = wire.meta_graph(graph, {"serving_default": signature}) + wire.message(3, saver) + main + asset
    return wire.saved_model(whole)


def mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(out))
        kind = chance.randrange(5)
        if kind == 0:
            out[at] = chance.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del out[at : at + chance.randrange(1, 9)]
        elif kind == 3:
            out[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            out[at : at + 10] = b"\xff" * 9 + b"\1"
        if not out:
            break
    return bytes(out)


def try_all(directory: Path, count: int, seed: int) -> None:
    files = {
        "saved_model.pb": model(),
        "variables/variables.index": b"",
        "assets.extra/tf_serving_warmup_requests": framed([wire.message(6, wire.message(1, wire.entry(2, "x", b"")))]),
    }
    chance = random.Random(seed)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    said: set[str] = set()
    for number in range(count):
        name = "saved_model.pb" if number % 4 else chance.choice(list(files)[1:])
        path = directory / name
        path.write_bytes(mutated(files[name] or bytes(60), chance))
        said.update(finding.kind for finding in check_version(directory, with_checksums=True).findings)
        path.write_bytes(files[name])
    assert {"model-file", "graph-structure", "unknown-operator"} <= said


def test_the_model_that_is_damaged_is_one_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(model())
    found = check_version(tmp_path)
    assert found.graph is not None and found.graph.graph.nodes > 10
    assert not any(finding.kind == "model-file" for finding in found.findings)


def test_a_damaged_file_leads_to_findings_and_never_to_a_traceback(tmp_path: Path) -> None:
    try_all(tmp_path, 1500, seed=1)


@pytest.mark.long
def test_a_hundred_thousand_damaged_files_lead_to_findings(tmp_path: Path) -> None:
    try_all(tmp_path, 100_000, seed=2)
