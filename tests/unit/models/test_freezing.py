"""Variables of graphs made constants, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving.errors import ModelFileError, NpuServingError
from npu_serving.models.attribute_values import AttributeValue, FunctionCall, encode
from npu_serving.models.checkpoint import Checkpoint, open_checkpoint
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint
from npu_serving.models.freezing import frozen_graph
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef

FLOAT = encode(AttributeValue("type", "float32"))
RESOURCE = encode(AttributeValue("type", "resource"))


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
    """v (2, 3) and large, 64 MB."""
    large = (bytes(1 << 20) for _ in range(64))
    write_checkpoint(
        tmp_path / "c",
        [NewVariable("v", "float32", (2, 3), [bytes(24)]), NewVariable("large", "float32", (16 << 20,), large)],
    )
    return open_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(
    ("variable", "said", "cure"),
    [
        (reference("w", 2, 3), "variable w is not in the checkpoint", "this one has large, v"),
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


@settings(max_examples=examples(500, 100_000))
@given(nodes=NODES, body=NODES)
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
