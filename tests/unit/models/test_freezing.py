"""Variables of graphs made constants, and what is refused; what TensorFlow makes of them is in tests/integration."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow_server import made_by_tensorflow
from tiers import examples

from npu_serving.conversion.graph_pieces import graph_message, pieces_of
from npu_serving.conversion.om_graph import graph_pieces, part_of_graph
from npu_serving.conversion.om_request import ChosenTensor
from npu_serving.errors import ModelFileError, NpuServingError
from npu_serving.models.attribute_values import AttributeValue, FunctionCall, encode, tensor_header
from npu_serving.models.checkpoint import Checkpoint, checkpoint_prefix, open_checkpoint
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint
from npu_serving.models.freezing import frozen_graph
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef, read_graph_def_file
from npu_serving.models.pieces import piece_chunks

FLOAT = encode(AttributeValue("type", "float32"))
RESOURCE = encode(AttributeValue("type", "resource"))


def written(graph: GraphDef) -> bytes:
    with pieces_of(graph) as parts:
        functions = parts.functions(graph.functions.values(), graph.functions)
        return b"".join(piece_chunks(graph_message([*parts.nodes(graph.nodes), *functions], graph.versions)))


def read(place: Path) -> tuple[GraphDef, list[str], Checkpoint]:
    """A graph of tensorflow_variables.py, its outputs and its checkpoint."""
    outputs = [name.replace("|", "/") for name in numpy.load(place / "answers.npz").files]
    return read_graph_def_file(place / "model.meta"), outputs, open_checkpoint(checkpoint_prefix(place))


@pytest.fixture(scope="module")
def made() -> Path:
    return made_by_tensorflow("tensorflow_variables.py")


def test_batch_normalisation_that_would_update_its_averages_is_named_with_the_way_out(made: Path) -> None:
    graph, outputs, checkpoint = read(made / "updating")
    with pytest.raises(ModelFileError, match=r"batch_normalization/AssignMovingAvg \(AssignSub\)") as raised:
        frozen_graph(graph, outputs, checkpoint)
    assert "--constant is_training=false" in raised.value.cure


def test_names_of_the_checkpoint_are_those_that_the_graph_restores_its_variables_by(made: Path) -> None:
    graph, outputs, checkpoint = read(made / "renamed")
    frozen = frozen_graph(graph, outputs, checkpoint)
    values = {name: decoded(frozen.by_name[name]) for name in ("a", "b")}
    assert values == {"a": [1.0], "b": [2.0]}  # which are b and other/b in the checkpoint


def decoded(constant: NodeDef) -> list[float]:
    header = tensor_header(constant.attributes["value"])
    assert header is not None and isinstance(header.content, bytes)
    return [float(number) for number in numpy.frombuffer(header.content, "<f4")]


def test_a_graph_without_variables_on_the_way_to_its_outputs_stays_as_it_is(made: Path) -> None:
    graph, _, checkpoint = read(made / "ref")
    assert frozen_graph(graph, ["x"], checkpoint) is graph
    assert frozen_graph(graph, ["y"], checkpoint, fed=["y"]) is graph


def test_functions_that_got_handles_go_into_the_graph_that_is_compiled(made: Path, tmp_path: Path) -> None:
    for name in ("control_v2", "functions"):
        graph, outputs, checkpoint = read(made / name)
        frozen = frozen_graph(graph, outputs, checkpoint)
        chosen = [ChosenTensor("x", "x:0", "float32")]
        (tmp_path / "part.pb").write_bytes(
            b"".join(piece_chunks(graph_pieces(part_of_graph(frozen, chosen, ["y:0"], {"x:0": None}))))
        )
        part = read_graph_def_file(tmp_path / "part.pb")
        called = {call for each in part.nodes for call in (*each.calls, each.op)} & frozen.functions.keys()
        assert called and called <= part.functions.keys()
        assert "resource" not in {of for each in part.functions.values() for _, of in (*each.inputs, *each.outputs)}


# ---- graphs that are made up here


def graph_of(nodes: Iterable[NodeDef], functions: Iterable[FunctionDef] = ()) -> GraphDef:
    by_name = {each.name: each for each in functions}
    return GraphDef(list(nodes), by_name, b"", Path("graph.pb"), text_as_bytes=b"")


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> NodeDef:
    return NodeDef(name, op, inputs, "", attributes)


def reference(name: str, *shape: int) -> NodeDef:
    return node(name, "VariableV2", dtype=FLOAT, shape=encode(AttributeValue("shape", shape)))


def handle(name: str, *shape: int) -> NodeDef:
    return node(name, "VarHandleOp", dtype=FLOAT, shape=encode(AttributeValue("shape", shape)))


def called(name: str) -> bytes:
    return encode(AttributeValue("func", FunctionCall(name)))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """v (2, 3), and another variable."""
    write_checkpoint(
        tmp_path / "c",
        [NewVariable("v", "float32", (2, 3), [bytes(24)]), NewVariable("other", "float32", (), [bytes(4)])],
    )
    return open_checkpoint(tmp_path / "c")


@pytest.fixture
def large(tmp_path: Path) -> Checkpoint:
    """large, of 32 MB, behind 24 bytes."""
    content = (bytes(1 << 20) for _ in range(32))
    variables = [NewVariable("v", "float32", (2, 3), [bytes(24)]), NewVariable("large", "float32", (8 << 20,), content)]
    write_checkpoint(tmp_path / "large", variables)
    return open_checkpoint(tmp_path / "large")


def test_large_values_go_from_the_checkpoint_into_the_graph_without_being_held(large: Checkpoint) -> None:
    tracemalloc.start()
    frozen = frozen_graph(graph_of([reference("large", 8 << 20), node("y", "Neg", "large", T=FLOAT)]), ["y"], large)
    size = 0
    with pieces_of(frozen) as parts:
        for chunk in piece_chunks(parts.nodes(frozen.nodes)):
            size += len(chunk)
    assert size > 32 << 20
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_data_that_is_damaged_or_replaced_never_gets_into_a_graph(large: Checkpoint) -> None:
    graph = graph_of([reference("large", 8 << 20), node("y", "Neg", "large", T=FLOAT)])
    frozen = frozen_graph(graph, ["y"], large)
    (data,) = large.data_files()
    with data.open("r+b") as file:
        file.seek(5000)
        file.write(b"\1")
    with pytest.raises(ModelFileError, match="was replaced or changed while it was read"):
        written(frozen)
    with pytest.raises(ModelFileError, match="was replaced or changed while it was read"):
        frozen_graph(graph, ["y"], large)
    again = open_checkpoint(large.prefix)
    with pytest.raises(ModelFileError, match=r"damaged at byte 24: the checksum .* \(variable large\)"):
        frozen_graph(graph, ["y"], again)
    os.truncate(data, 1000)
    with pytest.raises(ModelFileError, match=r"damaged at byte 1000: the file ends there"):
        frozen_graph(graph, ["y"], open_checkpoint(large.prefix))


@pytest.mark.parametrize(
    ("variable", "said", "cure"),
    [
        (reference("w", 2, 3), "variable w is not in the checkpoint", "this one has other, v"),
        (reference("v", 2, 4), r"variable v is float32 \[2, 4\] in the graph, and float32 \[2, 3\] in the", "name the"),
        (handle("v", 2), r"variable v is float32 \[2\] in the graph", "name the checkpoint"),
        (
            node("v", "VariableV2", dtype=encode(AttributeValue("type", "int32"))),
            "variable v is int32 .* in the graph, and float32",
            "name the checkpoint",
        ),
    ],
)
def test_a_checkpoint_that_is_not_the_graphs_is_refused_with_the_variable(
    checkpoint: Checkpoint, variable: NodeDef, said: str, cure: str
) -> None:
    with pytest.raises(ModelFileError, match=said) as raised:
        frozen_graph(graph_of([variable, node("y", "Neg", variable.name, T=FLOAT)]), ["y"], checkpoint)
    assert cure in raised.value.cure


def test_a_shape_that_is_open_in_the_graph_is_that_of_the_checkpoint(checkpoint: Checkpoint) -> None:
    for variable in (reference("v", -1, 3), node("v", "Variable", dtype=FLOAT), handle("v", -1, -1)):
        frozen = frozen_graph(graph_of([variable]), ["v"], checkpoint)
        assert [each.op for each in frozen.nodes] == ["Const"]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ([reference("v", 2, 3), node("y", "AssignAdd", "v", "v", T=FLOAT)], r"y \(AssignAdd\)"),
        ([reference("v", 2, 3), node("y", "ScatterUpdate", "v", "v", "v")], r"y \(ScatterUpdate\)"),
        (
            [reference("v", 2, 3), node("r", "RefIdentity", "v", T=FLOAT), node("y", "Assign", "r", "v")],
            r"y \(Assign\)",
        ),
        ([handle("v", 2, 3), node("y", "AssignVariableOp", "v", "v", dtype=FLOAT)], r"y \(AssignVariableOp\)"),
        ([handle("v", 2, 3), node("y", "NobodyKnowsIt", "v")], r"y \(NobodyKnowsIt\)"),
        ([handle("v", 2, 3), node("y", "PartitionedCall", "v", f=called("nowhere"))], r"y \(PartitionedCall\)"),
        ([handle("v", 2, 3), node("y", "IteratorGetNext", "v")], r"y \(IteratorGetNext\)"),
    ],
)
def test_what_needs_the_variable_itself_is_named(checkpoint: Checkpoint, nodes: list[NodeDef], named: str) -> None:
    with pytest.raises(ModelFileError, match=f"can't become constants: {named}"):
        frozen_graph(graph_of(nodes), ["y"], checkpoint)


def test_a_change_within_a_function_is_named_with_the_function(checkpoint: Checkpoint) -> None:
    changes = FunctionDef("f", (("r", "resource"),), (), [node("a", "AssignAddVariableOp", "r", "r", dtype=FLOAT)], {})
    types = encode(AttributeValue("list(type)", ("resource",)))
    call = node("y", "StatefulPartitionedCall", "v", f=called("f"), Tin=types, Tout=encode(AttributeValue("list")))
    with pytest.raises(ModelFileError, match=r"a in the function f \(AssignAddVariableOp\)"):
        frozen_graph(graph_of([handle("v", 2, 3), call], [changes]), ["y"], checkpoint)


def test_a_function_that_calls_itself_with_a_variable_is_refused(checkpoint: Checkpoint) -> None:
    inner = node(
        "again", "PartitionedCall", "r", f=called("f"), Tin=encode(AttributeValue("list(type)", ("resource",)))
    )
    function = FunctionDef("f", (("r", "resource"),), (), [inner], {})
    call = node("y", "PartitionedCall", "v", f=called("f"), Tin=encode(AttributeValue("list(type)", ("resource",))))
    with pytest.raises(ModelFileError, match="the function f calls itself"):
        frozen_graph(graph_of([handle("v", 2, 3), call], [function]), ["y"], checkpoint)


def test_nodes_lose_the_wish_to_be_beside_what_is_gone_and_keep_the_others(checkpoint: Checkpoint) -> None:
    places = encode(AttributeValue("list(string)", (b"loc:@v", b"loc:@training/gone")))
    gone = encode(AttributeValue("list(string)", (b"loc:@training/gone",)))
    nodes = [
        reference("v", 2, 3),
        node("r", "Identity", "v", T=FLOAT, _class=places),
        node("y", "Neg", "r", T=FLOAT, _class=gone),
        node("training/gone", "NoOp"),
    ]
    frozen = frozen_graph(graph_of(nodes), ["y"], checkpoint)
    assert [each.name for each in frozen.nodes] == ["v", "r", "y"]
    kept = frozen.by_name["r"].value("_class")
    assert kept is not None and kept.value == (b"loc:@v",)
    assert "_class" not in frozen.by_name["y"].attributes


NAMES = st.sampled_from(["v", "a", "b", "c", "y"])
INPUTS = st.lists(st.one_of(NAMES, NAMES.map("{}:1".format), NAMES.map("^{}".format)), max_size=3)
OPERATORS = st.sampled_from(
    ["VariableV2", "VarHandleOp", "ReadVariableOp", "Identity", "Switch", "Merge", "RefSwitch", "NextIteration",
     "Enter", "ResourceGather", "If", "While", "PartitionedCall", "f", "Assign", "RestoreV2", "Const", "AddN",
     "IsVariableInitialized"]
)  # fmt: skip
TYPES = encode(AttributeValue("list(type)", ("resource", "float32")))
NODES = st.lists(st.tuples(NAMES, OPERATORS, INPUTS), max_size=6)


def made_up(nodes: list[tuple[str, str, list[str]]]) -> list[NodeDef]:
    every = {"f": called("f"), "cond": called("f"), "body": called("f"), "then_branch": called("f"), "dtype": FLOAT}
    return [NodeDef(name, op, tuple(inputs), "", {**every, "T": TYPES, "Tin": TYPES}) for name, op, inputs in nodes]


@settings(max_examples=examples(300, 100_000))
@given(nodes=NODES, body=NODES)
@example(  # an operator that restores, without its inputs
    nodes=[("v", "VariableV2", []), ("a", "RestoreV2", []), ("b", "Assign", ["v", "a"]), ("y", "Identity", ["v"])],
    body=[],
)
def test_a_graph_of_any_nodes_is_frozen_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    nodes: list[tuple[str, str, list[str]]],
    body: list[tuple[str, str, list[str]]],
) -> None:
    place = tmp_path_factory.getbasetemp() / "made up"
    if not place.with_name("made up.index").exists():
        write_checkpoint(place, [NewVariable(name, "float32", (), [bytes(4)]) for name in ("v", "a", "b")])
    function = FunctionDef("f", (("v", "resource"), ("a", "float32")), (("o", "float32"),), made_up(body), {"o": "b:0"})
    try:
        frozen = frozen_graph(graph_of(made_up(nodes), [function]), ["y"], open_checkpoint(place))
    except NpuServingError as error:
        assert error.cure
    else:
        assert {each.name for each in frozen.nodes} <= {name for name, _, _ in nodes} | {
            f"{name}/axis" for name, _, _ in nodes
        }
