"""Graphs: what is read equals what TensorFlow's own protobuf reads, in whole files, texts and damaged ones."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import model_messages as wire
import pytest
from graphs_as_read import as_read
from tensorflow_server import PYTHON, SUPPORT, made_by_tensorflow

from npu_serving.errors import ModelFileError
from npu_serving.models import graph_def
from npu_serving.models.attribute_values import Extent
from npu_serving.models.graph_def import read_graph_def_file
from npu_serving.models.saved_model import read_meta_graph_file, read_saved_model_graphs
from npu_serving.models.wire_format import open_wire_file

# Why a graph is refused here that protobuf would take: none of them could be run.
STRICTER = (
    "no operator that could be",
    "of the kind 3",
    "of the kind 4",
    "a name has",
    "in several pieces",
    "dimensions",
    "0 is not the number",
)


@pytest.fixture(scope="module")
def graphs() -> Path:
    return made_by_tensorflow("tensorflow_graphs.py")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["frozen.pb", "loops.pb", "functions.pb"])
def test_a_graph_of_tensorflow_is_read_as_its_protobuf_reads_it(graphs: Path, name: str) -> None:
    expected = json.loads((graphs / "read.json").read_bytes())[name]
    assert as_read(read_graph_def_file(graphs / name)) == expected
    assert as_read(read_graph_def_file((graphs / name).with_suffix(".pbtxt"))) == expected


def test_the_graph_of_a_saved_model_and_of_a_checkpoint_is_read_so_too(graphs: Path) -> None:
    expected = json.loads((graphs / "read.json").read_bytes())
    (saved,) = read_saved_model_graphs(graphs / "saved" / "1" / "saved_model.pb")
    assert as_read(saved.graph) == expected["saved/1"]
    assert sorted(saved.signatures) == ["both", "serving_default", "words"]
    assert saved.tags == {"serve"}
    assert list(saved.assets.values()) == ["vocabulary.txt"]
    assert "saved_model_main_op" in saved.collections
    assert saved.saver is not None
    meta = read_meta_graph_file(graphs / "training.meta")
    assert as_read(meta.graph) == expected["training.meta"]
    assert as_read(read_graph_def_file(graphs / "training.meta")) == expected["training.meta"]
    assert "variables" in meta.collections


def test_a_large_constant_stays_in_the_file(graphs: Path) -> None:
    big = read_graph_def_file(graphs / "frozen.pb").by_name["big"].attributes["value"]
    assert isinstance(big, Extent)
    assert big.tensor is not None
    assert (big.tensor.data_type, big.tensor.shape, big.tensor.size_bytes) == ("float32", (4, 512), 8192)


def test_damaged_graphs_are_read_as_protobuf_reads_them_or_refused(graphs: Path, tmp_path: Path) -> None:
    check_damaged(graphs, tmp_path)


@pytest.mark.long
def test_a_hundred_thousand_damaged_graphs_are_read_as_protobuf_reads_them_or_refused(tmp_path: Path) -> None:
    if not PYTHON:
        pytest.skip("TensorFlow 1.15.0 is for Python 3.7, and NPU_SERVING_TENSORFLOW_PYTHON names none")
    words = [PYTHON, "-W", "ignore", str(SUPPORT / "tensorflow_graphs.py"), str(tmp_path / "made"), "100000"]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    check_damaged(tmp_path / "made", tmp_path)


def check_damaged(graphs: Path, tmp_path: Path) -> None:
    verdicts = json.loads((graphs / "damaged.json").read_bytes())
    data = (graphs / "damaged.bin").read_bytes()
    at = accepted = refused = 0
    for number, verdict in enumerate(verdicts):
        (length,) = struct.unpack_from("<I", data, at)
        path = written(tmp_path / "damaged.pb", data[at + 4 : at + 4 + length])
        at += 4 + length
        try:
            scan = scanned(path)
        except ModelFileError as error:
            refused += 1
            assert verdict is None or any(each in error.what for each in STRICTER), (number, error.what)
            assert error.cure
            continue
        if isinstance(verdict, list):  # of lists of several kinds in one, which nothing has, the last kind is kept
            accepted += 1
            assert as_read(scan) == verdict, number
    assert accepted > len(verdicts) / 20
    assert refused > len(verdicts) / 20


def scanned(path: Path) -> graph_def.GraphDef:
    """Any bytes taken for a graph, whatever they look like."""
    with open_wire_file(path) as file:
        scan = graph_def.GraphScan(file)
        scan.add(0, file.size)
        return scan.graph()


def test_a_file_that_was_cut_off_is_named_with_the_byte(graphs: Path, tmp_path: Path) -> None:
    data = (graphs / "frozen.pb").read_bytes()
    for length in (len(data) - 1, len(data) // 2, 200):
        path = written(tmp_path / "cut.pb", data[:length])
        with pytest.raises(ModelFileError, match=rf"cut.pb is damaged at byte \d+ of {length}"):
            read_graph_def_file(path)


def test_a_model_that_was_replaced_while_it_was_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "m.pb", wire.graph([wire.constant("c", b"x" * 10_000)]))
    graph = read_graph_def_file(path)
    with graph.opened() as file:
        extent = graph.nodes[0].attributes["value"]
        assert isinstance(extent, Extent)
        assert file.read(extent.start, extent.end).endswith(b"x" * 10_000)
    written(tmp_path / "new.pb", wire.graph([wire.node("a", "Relu")])).replace(path)
    with pytest.raises(ModelFileError, match="replaced or changed while it was read"), graph.opened():
        pass


def test_the_fields_of_a_node_may_stand_in_any_order_and_twice(tmp_path: Path) -> None:
    pieces = [
        wire.entry(5, "T", wire.number(6, 1)),
        wire.message(3, "a:1"),
        wire.message(2, "Mul"),
        wire.message(1, "first"),
        wire.entry(5, "T", wire.number(6, 3)),
        wire.number(99, 7),
        wire.message(3, "^b"),
        wire.message(1, "last"),
    ]
    (node,) = read_graph_def_file(written(tmp_path / "m", wire.message(1, b"".join(pieces)))).nodes
    assert (node.name, node.op, node.inputs) == ("last", "Mul", ("a:1", "^b"))
    value = node.value("T")
    assert value is not None
    assert (value.kind, value.value) == ("type", "int32")


HOSTILE = {
    "many nodes": wire.message(1, wire.message(2, "A")) * 1001,
    "many inputs": wire.message(1, wire.message(2, "A") + wire.message(3, "") * 200) * 41,
    "long names": wire.message(1, wire.message(2, "A") + wire.message(1, "n" * 5000)),
    "functions": wire.message(2, wire.message(1, wire.message(1, wire.message(1, "f"))) * 100)
    + wire.message(2, b"".join(wire.message(1, wire.message(1, wire.message(1, f"f{at}"))) for at in range(52))),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_model_has_is_given_up_before_the_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name, most in (("_MOST_NODES", 1000), ("_MOST_ITEMS", 8000), ("_MOST_FUNCTIONS", 50)):
        assert getattr(graph_def, name) == 1000 * most  # as it is, it would take seconds
        monkeypatch.setattr(graph_def, name, most)
    path = written(tmp_path / "m", HOSTILE[what])
    with pytest.raises(ModelFileError, match=r"than any model has|a name has|no operator"):
        scanned(path)


def nested(depth: int) -> bytes:
    value = wire.message(10, wire.message(1, "f"))
    for _ in range(depth):
        value = wire.message(10, wire.message(1, "f") + wire.entry(2, "g", value))
    return value


@pytest.mark.parametrize(("depth", "is_fine"), [(90, True), (150, False)])
def test_functions_within_functions_are_read_as_deep_as_protobuf_does(
    tmp_path: Path, depth: int, is_fine: bool
) -> None:
    path = written(tmp_path / "m", wire.graph([wire.node("a", "A", (), {"f": nested(depth)})]))
    if is_fine:
        assert read_graph_def_file(path).nodes[0].calls == ("f",) * (depth + 1)
    else:
        with pytest.raises(ModelFileError, match="nested too deeply"):
            read_graph_def_file(path)


def large_file(path: Path, nodes: int, each: int) -> Path:
    """A graph of constants that are holes in the file: they take no place on the disk."""
    tensor = wire.number(1, wire.FLOAT) + wire.message(2, wire.shape([each // 4])) + wire.varint(4 << 3 | 2)
    tensor += wire.varint(each)
    value = wire.varint(8 << 3 | 2) + wire.varint(len(tensor) + each) + tensor
    item = wire.message(1, "value") + wire.varint(2 << 3 | 2) + wire.varint(len(value) + each) + value
    with path.open("wb") as file:
        for at in range(nodes):
            node = wire.message(1, f"scope/c{at}") + wire.message(2, "Const") + wire.varint(5 << 3 | 2)
            node += wire.varint(len(item) + each) + item
            file.write(wire.varint(1 << 3 | 2) + wire.varint(len(node) + each) + node)
            file.seek(each, os.SEEK_CUR)
            file.write(wire.message(1, wire.node(f"scope/r{at}", "Relu", [f"scope/c{at}"])))
    return path


def test_a_file_just_below_the_limit_of_protobuf_is_read_in_little_memory(tmp_path: Path) -> None:
    path = large_file(tmp_path / "m.pb", 40, (2**31 - 10_000) // 40)
    tracemalloc.start()
    try:
        graph = read_graph_def_file(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(graph.nodes) == 80
    assert most < 8 << 20


def lines_of(text: str) -> Iterator[str]:
    yield from text.splitlines(keepends=True)


def test_a_text_with_a_field_that_1_15_does_not_know_is_an_error_with_its_line(graphs: Path, tmp_path: Path) -> None:
    lines = list(lines_of((graphs / "frozen.pbtxt").read_text(encoding="utf-8")))
    lines.insert(2, "  later_field: 7\n")
    path = written(tmp_path / "m.pbtxt", "".join(lines).encode())
    with pytest.raises(ModelFileError, match=r"m.pbtxt:3: TensorFlow 1.15 has no field later_field in a NodeDef"):
        read_graph_def_file(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('node {\n  name: "a"\n  name: "b"\n}', ":3: name stands there a second time"),
        ("node {\n  name: a\n}", ":2: name needs quotes"),
        ('node {\n  op: "A"\n  attr { key: "T" value { type: DT_NEW } }\n}', ":3: type is DT_NEW"),
        ('node {\n  op: "A"\n  attr { key: "i" value { i: 99999999999999999999 } }\n}', ":3: i has more than 64 bits"),
        ('node {\n  op: "A"\n  attr { key: "b" value { b: yes } }\n}', ":3: b is yes"),
        ('node {\n  op: "A"\n  attr: 3\n}', ":3: attr needs fields in braces"),
        ('node {\n  op: "A"', ": } is missing"),
        ('node {\n  op: "A"\n  attr { key: "s" value { s: "\\q" } }\n}', "is not an escape"),
    ],
)
def test_a_text_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_graph_def_file(written(tmp_path / "m.pbtxt", text.encode()))
    assert why in caught.value.what
