"""A graph folded to as many boxes as a person can look at."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from npu_serving.inspection.folded_graph import FoldedGraph, PictureNode, folded

PARTS = st.sampled_from(["a", "b1", "b2", "b17_c3", "b17_c4", "x", "kernel"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@st.composite
def graphs(draw: st.DrawFn) -> list[PictureNode]:
    names = draw(st.lists(NAMES, min_size=1, max_size=60, unique=True))
    inputs = st.lists(st.sampled_from(names).flatmap(lambda name: st.sampled_from([name, f"{name}:1", f"^{name}"])))
    kinds = st.sampled_from(["weights", "other", "matrix"])
    return [PictureNode(name, draw(st.sampled_from("PQR")), draw(inputs), draw(kinds)) for name in names]


def test_every_node_is_in_one_box_and_every_edge_between_boxes_is_kept() -> None:
    @given(graphs(), st.integers(1, 40))
    def holds(nodes: list[PictureNode], most: int) -> None:
        found = folded(nodes, most_boxes=most, quiet=["weights"])
        assert 1 <= len(found.boxes) <= most
        assert sum(box.nodes for box in found.boxes) == len(nodes) == found.nodes
        assert sum((Counter(box.operators) for box in found.boxes), Counter()) == Counter(n.operator for n in nodes)
        assert sum((Counter(box.kinds) for box in found.boxes), Counter()) == Counter(node.kind for node in nodes)
        assert all(edge.source != edge.target and edge.inputs > 0 for edge in found.edges)

    holds()


def test_where_there_is_space_for_all_each_node_has_a_box_and_its_own_edges() -> None:
    @given(graphs())
    def holds(nodes: list[PictureNode]) -> None:
        found = folded([PictureNode(n.name, f"op{i}", n.inputs, "other") for i, n in enumerate(nodes)], most_boxes=60)
        assert [box.name for box in found.boxes] == [node.name for node in nodes]
        names = [node.name for node in nodes]
        for edge in found.edges:
            wanted = [
                written
                for written in nodes[edge.target].inputs
                if written.lstrip("^").split(":")[0] == names[edge.source]
            ]
            assert edge.inputs == len([each for each in wanted if each.startswith("^") == edge.is_control])

    holds()


def network(blocks: int) -> list[PictureNode]:
    nodes = [PictureNode("image", "Placeholder", [], "input")]
    for block in range(blocks):
        scope = f"net/block{block}"
        kernel = PictureNode(f"{scope}/kernel", "VariableV2", [], "weights")
        read = PictureNode(f"{scope}/kernel/read", "Identity", [kernel.name], "weights")
        convolution = PictureNode(f"{scope}/Conv2D", "Conv2D", [nodes[-1].name, f"{read.name}:0"], "matrix")
        nodes += [kernel, read, convolution, PictureNode(f"{scope}/Relu", "Relu", [convolution.name], "other")]
    return nodes


def names(graph: FoldedGraph) -> list[str]:
    return [box.name for box in graph.boxes]


def test_outer_scopes_are_opened_before_inner_ones() -> None:
    assert names(folded(network(3), most_boxes=2)) == ["image", "net/block*/"]
    assert names(folded(network(3), most_boxes=4)) == ["image", *(f"net/block{number}/" for number in range(3))]


def test_a_variable_stands_with_what_belongs_to_it_and_stays_closed() -> None:
    found = folded(network(1), quiet=["weights"])
    assert names(found) == ["image", "net/block0/kernel/", "net/block0/Conv2D", "net/block0/Relu"]
    assert [(edge.source, edge.target) for edge in found.edges] == [(0, 2), (1, 2), (2, 3)]


def test_what_tells_something_is_named_before_constants() -> None:
    (_, box) = folded(network(1), most_boxes=2, quiet=["weights"]).boxes
    assert list(box.operators) == ["Conv2D", "Relu", "Identity", "VariableV2"]


def test_scopes_that_differ_in_a_number_share_a_box_where_there_are_too_many() -> None:
    nodes = [
        PictureNode(f"block{block}_unit{unit}/op/{name}", name, [], "other")
        for block in range(10)
        for unit in range(30)
        for name in ("A", "B")
    ]
    assert names(folded(nodes, most_boxes=12)) == [f"block{block}_unit*/" for block in range(10)]
    assert names(folded(nodes, most_boxes=5)) == ["block*_unit*/"]


def test_a_graph_without_scopes_is_folded_by_operator_and_what_is_left_shares_a_box() -> None:
    nodes = [PictureNode(f"n{number}", f"Op{number % 50}", [f"n{number - 1}"], "other") for number in range(5000)]
    assert len(folded(nodes).boxes) == 50
    found = folded(nodes, most_boxes=8)
    assert len(found.boxes) == 8
    assert names(found)[-1] == "43 more"


def test_an_order_alone_is_told_from_a_tensor() -> None:
    nodes = [
        PictureNode("a", "A", [], "other"),
        PictureNode("b", "B", ["^a"], "other"),
        PictureNode("c", "C", ["^a", "a", "a:1"], "other"),
    ]
    assert [(edge.target, edge.inputs, edge.is_control) for edge in folded(nodes).edges] == [
        (1, 1, True),
        (2, 2, False),
    ]


def test_names_nested_without_end_and_loops_are_folded_as_well() -> None:
    deep = "/".join(["s"] * 3000)
    nodes = [PictureNode(f"{deep}/{n}", "Merge", [f"{deep}/{1 - n}"], "flow") for n in range(2)]
    assert folded(nodes).nodes == 2
