"""SavedModels and frozen graphs: what a writer puts in is read back, and anything else is refused in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import model_messages as wire
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import DATA_TYPES
from npu_serving.models.saved_model import (
    ModelSignature,
    TensorSpec,
    read_graph_def,
    read_saved_model,
)
from npu_serving.sample.models import saved_model as sample_model

NAMES = st.text("abcXYZ019_/.é", min_size=1, max_size=12)
SHAPES = st.none() | st.lists(st.integers(-1, 2**40), max_size=4)
OPERATORS = st.sampled_from(["Add", "MatMul", "Const", "ReadFile", "my>Op_2"])


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@st.composite
def graphs(draw: st.DrawFn) -> tuple[bytes, dict[str, int], dict[str, TensorSpec], set[str]]:
    """A graph, and what is to be found in it."""
    operators = draw(st.lists(OPERATORS, max_size=10))
    of_functions = draw(st.dictionaries(NAMES, st.lists(OPERATORS, max_size=4), max_size=3))
    inputs = draw(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(sorted(DATA_TYPES))), max_size=4))
    nodes = [wire.node(f"n{at}", op, ["a", "^b"]) for at, op in enumerate(operators)]
    nodes += [wire.placeholder(name, sizes, kind) for name, (sizes, kind) in inputs.items()]
    nodes.append(wire.constant("c", draw(st.binary(max_size=100))))
    functions = [
        wire.function(name, [wire.node(f"f{at}", op) for at, op in enumerate(ops)])
        for name, ops in of_functions.items()
    ]
    every = [*operators, *["Placeholder"] * len(inputs), "Const", *(op for ops in of_functions.values() for op in ops)]
    counts = {op: every.count(op) for op in sorted(set(every))}
    specs = {
        name: TensorSpec(f"{name}:0", DATA_TYPES[kind], None if sizes is None else tuple(sizes))
        for name, (sizes, kind) in inputs.items()
    }
    return wire.graph(nodes, functions), counts, specs, set(of_functions)


@given(found=graphs(), tags=st.sets(NAMES, max_size=3), tensors=st.dictionaries(NAMES, SHAPES, max_size=4))
def test_what_was_written_into_a_saved_model_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    found: tuple[bytes, dict[str, int], dict[str, TensorSpec], set[str]],
    tags: set[str],
    tensors: dict[str, list[int] | None],
) -> None:
    graph, operators, placeholders, functions = found
    specs = {name: wire.tensor(f"{name}:1", sizes, wire.INT64) for name, sizes in tensors.items()}
    signatures = {"default": wire.signature(specs, {}, "predict"), "other": wire.signature({}, specs, "classify")}
    path = tmp_path_factory.mktemp("models") / "saved_model.pb"
    written(path, wire.saved_model(wire.meta_graph(graph, signatures, sorted(tags)), wire.meta_graph(b"", {}, ["gpu"])))
    first, second = read_saved_model(path)
    expected = {
        name: TensorSpec(f"{name}:1", "int64", None if sizes is None else tuple(sizes))
        for name, sizes in tensors.items()
    }
    assert first.tags == tags
    assert first.tensorflow_version == "1.15.0"
    assert first.signatures == {
        "default": ModelSignature(expected, {}, "predict"),
        "other": ModelSignature({}, expected, "classify"),
    }
    assert dict(first.graph.operators) == operators
    assert first.graph.placeholders == placeholders
    assert set(first.graph.functions) == functions
    assert (second.tags, second.graph.nodes) == (frozenset({"gpu"}), 0)


@given(found=graphs())
def test_a_frozen_graph_is_read_like_the_graph_of_a_saved_model(
    tmp_path_factory: pytest.TempPathFactory, found: tuple[bytes, dict[str, int], dict[str, TensorSpec], set[str]]
) -> None:
    graph, operators, placeholders, functions = found
    content = read_graph_def(written(tmp_path_factory.mktemp("graphs") / "frozen.pb", graph))
    assert (dict(content.operators), dict(content.placeholders)) == (operators, placeholders)
    assert set(content.functions) == functions


def test_the_sample_s_model_is_read(tmp_path: Path) -> None:
    (graph,) = read_saved_model(written(tmp_path / "saved_model.pb", sample_model(2.0, 1.0)))
    signature = graph.signatures["serving_default"]
    assert graph.tags == {"serve"}
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["x"].describe() == "float32 of any shape"
    assert signature.inputs["x"].node == "x"
    assert dict(graph.graph.operators) == {"Add": 1, "Const": 2, "Mul": 1, "Placeholder": 1}


@given(data=st.binary(max_size=200))
@example(b"")
@example(b"\x12\x00")
@example(b"\x0a" * 100)
@example(b"\x08\x01\x12\x04\x12\x02\x0a\x00")
@example(wire.message(2, wire.message(2, wire.message(1, wire.message(2, "x" * 2000)))))
def test_any_bytes_are_a_model_or_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = written(tmp_path_factory.mktemp("random") / "saved_model.pb", data)
    for read in (read_saved_model, read_graph_def):
        try:
            read(path)
        except ModelFileError as error:
            assert str(path) in error.what
            assert error.cure


@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_a_damaged_or_shortened_model_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int
) -> None:
    data = bytearray(wire.simple_model({"x": [-1, 3]}))
    data[at % len(data)] = value
    path = written(tmp_path_factory.mktemp("damaged") / "saved_model.pb", bytes(data[: cut % len(data) + 1]))
    try:
        read_saved_model(path)
    except ModelFileError as error:
        assert error.cure


@pytest.mark.parametrize(
    ("data", "said", "cure"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS", "git lfs pull"),
        (b"\x1f\x8b\x08\x00rest", "packed with gzip", "gunzip"),
        (b"PK\x03\x04rest", "a zip file", "unzip"),
        (b"saved_model_schema_version: 1\n", "a SavedModel as text", "saved_model.pbtxt"),
        (b"<html>404 Not Found</html>", "is text, not a model", "export the model again"),
        (b"", "is empty", "export the model again"),
        (
            wire.graph([wire.placeholder("in"), wire.node("a" * 100, "Relu")]),
            "is a graph alone, not a SavedModel",
            "./inv convert-pb",
        ),
        (b"\x0a\x60" + b"\x0a\x5e" + b"n" * 94, "contains no graph", "export the model again"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, data: bytes, said: str, cure: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_saved_model(written(tmp_path / "saved_model.pb", data))
    assert said in caught.value.what
    assert cure in caught.value.cure


def test_a_signature_of_a_sparse_tensor_has_the_tensor_of_its_values(tmp_path: Path) -> None:
    sparse = wire.number(2, wire.FLOAT) + wire.message(4, wire.message(1, "v:0") + wire.message(2, "i:0"))
    data = wire.saved_model(wire.meta_graph(b"", {"s": wire.signature({"x": sparse}, {})}))
    (graph,) = read_saved_model(written(tmp_path / "m", data))
    spec = graph.signatures["s"].inputs["x"]
    assert (spec.name, spec.others) == ("v:0", ("i:0",))


def test_nodes_that_call_a_function_of_the_graph_are_no_operators_of_the_server(tmp_path: Path) -> None:
    inner = wire.function("mine", [wire.node("c", "Mul")])
    content = read_graph_def(
        written(tmp_path / "m", wire.graph([wire.node("a", "Relu"), wire.node("b", "mine")], [inner]))
    )
    assert content.registered_operators() == {"Relu": 1, "Mul": 1}


def test_a_constant_of_a_gigabyte_costs_nothing(tmp_path: Path) -> None:
    size = 1 << 30
    tensor = wire.varint(4 << 3 | 2) + wire.varint(size)
    value = wire.varint(8 << 3 | 2) + wire.varint(size + len(tensor)) + tensor
    item = wire.message(1, "value") + wire.varint(2 << 3 | 2) + wire.varint(size + len(value)) + value
    node = (
        wire.message(1, "c") + wire.message(2, "Const") + wire.varint(5 << 3 | 2) + wire.varint(size + len(item)) + item
    )
    path = tmp_path / "frozen.pb"
    with path.open("wb") as file:
        file.write(wire.varint(1 << 3 | 2) + wire.varint(size + len(node)) + node)
        file.seek(size, os.SEEK_CUR)
        file.write(wire.message(1, wire.node("last", "Relu")))
    assert read_graph_def(path).operators == {"Const": 1, "Relu": 1}


def test_only_the_operators_that_a_signature_reaches_are_run_by_it(tmp_path: Path) -> None:
    nodes = [
        wire.placeholder("x"),
        wire.node("before", "ReadFile"),
        wire.node("fed", "Identity", ["before"]),
        wire.node("first", "NoOp"),
        wire.node("y", "AddN", ["x", "fed:0", "^first"]),
        wire.node("calls", "mine", ["y:1"]),
        wire.node("save", "SaveV2", ["y"]),
    ]
    graph = wire.graph(nodes, [wire.function("mine", [wire.node("inner", "Mul")])])
    asked = wire.signature(
        {"a": wire.tensor("x:0", None), "b": wire.tensor("fed:0", None)}, {"o": wire.tensor("calls:0", [])}
    )
    data = wire.saved_model(wire.meta_graph(graph, {"s": asked}))
    (found,) = read_saved_model(written(tmp_path / "m", data))
    assert found.graph.run_by(found.signatures["s"]) == {"AddN": 1, "Mul": 1, "NoOp": 1}


def test_only_the_functions_that_a_signature_reaches_are_run_by_it(tmp_path: Path) -> None:
    def calling(name: str) -> bytes:
        return wire.message(10, wire.message(1, name))

    either = wire.message(1, wire.message(9, wire.message(1, "branch")))
    functions = [
        wire.function("serve", [wire.node("a", "MatMul"), wire.node("b", "If", (), {"then": calling("then")})]),
        wire.function("then", [wire.node("c", "Case", (), {"branches": either}), wire.node("d", "plain")]),
        wire.function("branch", [wire.node("e", "Relu"), wire.node("f", "If", (), {"then": calling("then")})]),
        wire.function("plain", [wire.node("g", "Tanh")]),
        wire.function("save", [wire.node("h", "SaveV2")]),
    ]
    nodes = [
        wire.node("y", "PartitionedCall", (), {"f": calling("serve")}),
        wire.node("s", "PartitionedCall", (), {"f": calling("save")}),
    ]
    asked = wire.signature({}, {"o": wire.tensor("y:0", [])})
    data = wire.saved_model(wire.meta_graph(wire.graph(nodes, functions), {"s": asked}))
    (found,) = read_saved_model(written(tmp_path / "m", data))
    run = {"Case": 1, "If": 2, "MatMul": 1, "PartitionedCall": 1, "Relu": 1, "Tanh": 1}
    assert found.graph.run_by(found.signatures["s"]) == run


def test_a_file_of_endless_graphs_is_given_up_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "m", wire.message(2, b"") * 1_000_000)
    with pytest.raises(ModelFileError, match="more than 100 graphs"):
        read_saved_model(path)


def test_a_graph_that_goes_round_in_a_circle_is_walked_once(tmp_path: Path) -> None:
    graph = wire.graph([wire.node("a", "Merge", ["b"]), wire.node("b", "NextIteration", ["a"])])
    data = wire.saved_model(wire.meta_graph(graph, {"s": wire.signature({}, {"o": wire.tensor("a:0", [])})}))
    (found,) = read_saved_model(written(tmp_path / "m", data))
    assert found.graph.run_by(found.signatures["s"]) == {"Merge": 1, "NextIteration": 1}
