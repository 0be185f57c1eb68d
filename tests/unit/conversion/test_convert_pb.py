"""Graphs that TensorFlow 1.15.0 would not import, files that are broken, disks that are full: nothing is left."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_messages import entry, message, node, number, placeholder, saved_model, shape, simple_model

from npu_serving.console import Silent
from npu_serving.conversion import convert_pb
from npu_serving.conversion.convert_pb import ConversionRequest, convert, plan_conversion
from npu_serving.errors import DiskFullError, ModelFileError, NpuServingError, RequestError
from npu_serving.models.saved_model import read_saved_model
from npu_serving.models.saved_model_writer import write_saved_model
from npu_serving.wire_bytes import BYTES, fields, tag

T = {"T": number(6, 1)}


def constant(name: str, sizes: Sequence[int], content: bytes) -> bytes:
    tensor = message(8, number(1, 1) + message(2, shape(sizes)) + message(4, content))
    return node(name, "Const", (), {"dtype": number(6, 1), "value": tensor})


GOOD = [
    placeholder("x", (-1, 2)),
    constant("w", (2, 3), bytes(24)),
    node("y", "MatMul", ("x", "w"), T),
    node("unused", "Identity", ("w",), T),
]


def request(tmp_path: Path, nodes: Sequence[bytes], **wishes: object) -> ConversionRequest:
    source = tmp_path / "graph.pb"
    source.write_bytes(b"".join(message(1, each) for each in nodes))
    wishes.setdefault("outputs", ("y",))
    return ConversionRequest(source, tmp_path / "models" / "m", **wishes)  # type: ignore[arg-type]


def test_the_outputs_shape_follows_from_the_graph_and_unneeded_nodes_go(tmp_path: Path) -> None:
    plan = plan_conversion(request(tmp_path, GOOD), Silent())
    convert(plan, Silent())
    (graph,) = read_saved_model(plan.directory / "saved_model.pb")
    assert graph.signatures["serving_default"].outputs["y"].describe() == "float32 [?, 3]"
    assert graph.graph.operators == {"Const": 1, "MatMul": 1, "Placeholder": 1}


def test_all_nodes_are_kept_when_asked_for(tmp_path: Path) -> None:
    plan = plan_conversion(request(tmp_path, GOOD, keep_unused=True), Silent())
    assert [each.name for each in plan.nodes] == ["x", "w", "y", "unused"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([*GOOD, placeholder("x", (1,))], "2 nodes named x"),
        ([placeholder("_x", (1,)), node("y", "Identity", ("_x",), T)], "a node named '_x'"),
        ([placeholder("x"), node("y", "Add", ("x", "gone:1"), T)], r"y \(Add\) has the input gone:1, which the graph"),
        ([placeholder("x"), node("y", "Identity", ("x", "^gone"), T)], r"has the input \^gone"),
        ([placeholder("x"), node("y", "Add", ("x",), T)], r"y \(Add\) has 1 inputs, .* there are 2"),
        ([placeholder("x"), node("y", "Identity", ("x:-1",), T)], "the input x:-1, which is not of the form"),
        ([placeholder("x"), node("y", "Identity", ("x:1",), T)], "the input x:1, and x has 1 outputs"),
        ([placeholder("x", (), 3), node("y", "Identity", ("x",), T)], "input x of .* is int32, and float32 is needed"),
        ([placeholder("x"), node("y", "Identity", ("x",))], "its attribute T, a type, is missing"),
        (
            [placeholder("x"), node("a", "Add", ("x", "y"), T), node("y", "Neg", ("a",), T)],
            "The nodes .* wait for each other",
        ),
        ([placeholder("x"), node("y", "FarAhead", ("x",))], r"has no operator FarAhead|y is of the operator FarAhead"),
        ([placeholder("x"), node("y", "Identity", ("x",), {**T, "zzz": number(3, 5)})], "attribute zzz = 5"),
    ],
)  # fmt: skip
def test_what_tensorflow_would_not_import_is_named(tmp_path: Path, nodes: list[bytes], said: str) -> None:
    with pytest.raises(NpuServingError, match=said) as refused:
        plan_conversion(request(tmp_path, nodes), Silent())
    assert refused.value.cure and not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("inputs", "more", "said"),
    [
        (("t",), (), "comes from nowhere: init"),
        (("t", "gone"), (), r"init .* has the input gone, which the graph lacks"),
        (("t", "a"), (node("a", "Identity", (), {"T": number(6, 7)}),), "gets it from a"),
        (("t", "a"), (node("a", "Identity", ("b",)), node("b", "Identity", ("a",))), "comes from nowhere: init"),
    ],
)
def test_a_tables_file_whose_path_comes_from_nowhere_is_named(
    tmp_path: Path, inputs: tuple[str, ...], more: tuple[bytes, ...], said: str
) -> None:
    nodes = [
        placeholder("x", (-1,), 7),
        node("t", "HashTableV2", (), {"key_dtype": number(6, 7), "value_dtype": number(6, 9)}),
        placeholder("d", (), 9),
        node("y", "LookupTableFindV2", ("t", "x", "d"), {"Tin": number(6, 7), "Tout": number(6, 9)}),
        node("init", "InitializeTableFromTextFileV2", inputs, {}),
        *more,
    ]
    with pytest.raises(ModelFileError, match=said):
        plan_conversion(request(tmp_path, nodes), Silent())


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", ".."])
def test_nothing_outside_of_a_model_is_copied_as_its_asset(tmp_path: Path, name: str) -> None:
    tensor = message(1, message(1, "path:0"))
    model = simple_model({"x": (-1,)})
    graph = saved_model(_graph_of(model) + message(6, tensor + message(2, name)))
    place = tmp_path / "source" / "1" / "saved_model.pb"
    place.parent.mkdir(parents=True)
    place.write_bytes(graph)
    with pytest.raises(ModelFileError, match="which is not the name of a file in assets/"):
        plan_conversion(ConversionRequest(place.parent, tmp_path / "models" / "m"), Silent())


def _graph_of(model: bytes) -> bytes:
    return next(bytes(content) for key, _, content in fields(memoryview(model)) if key == tag(2, BYTES))


def test_a_pipe_or_a_device_among_the_extra_assets_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "source" / "1"
    extra = place / "assets.extra" / "deep"
    extra.mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(simple_model({"x": (-1,)}))
    (extra / "file").write_bytes(b"1")
    wanted = ConversionRequest(place, tmp_path / "models" / "m")
    convert(plan_conversion(wanted, Silent()), Silent())
    assert (tmp_path / "models" / "m" / "1" / "assets.extra" / "deep" / "file").read_bytes() == b"1"
    (extra / "zeros").symlink_to("/dev/zero")
    with pytest.raises(NpuServingError, match="is a device or a pipe"):
        convert(plan_conversion(wanted, Silent()), Silent())
    assert os.listdir(tmp_path / "models" / "m") == ["1"]


def test_what_tensorflows_own_freezing_breaks_is_converted_from_the_checkpoint(tmp_path: Path) -> None:
    """It makes a constant of a variable that While, If or a function takes by its handle."""
    types = {"dtype": number(6, 1), "Tindices": number(6, 3)}
    nodes = [constant("w", (2,), bytes(8)), placeholder("x", (-1,), 3), node("y", "ResourceGather", ("w", "x"), types)]
    with pytest.raises(ModelFileError, match=r"the node y .* is float32, and resource is needed") as refused:
        plan_conversion(request(tmp_path, nodes), Silent())
    assert "TensorFlow's own freezing" in refused.value.cause
    assert ".meta" in refused.value.cure


def test_an_operator_of_ones_own_is_taken_where_the_server_has_it(tmp_path: Path) -> None:
    nodes = [placeholder("x"), node("mine", "FarAhead", ("x",)), node("y", "Identity", ("mine",), T)]
    with pytest.raises(RequestError, match=r"no operator FarAhead \(mine\)") as refused:
        plan_conversion(request(tmp_path, nodes), Silent())
    assert refused.value.cure.startswith("--custom-operator FarAhead")
    assert len(plan_conversion(request(tmp_path, nodes, custom_operators=("FarAhead",)), Silent()).nodes) == 3


def test_a_graph_for_one_batch_size_takes_no_other(tmp_path: Path) -> None:
    sizes = {"value": message(8, number(1, 3) + message(2, shape((2,))) + message(4, bytes([1, 0, 0, 0, 6, 0, 0, 0])))}
    nodes = [
        placeholder("x", (1, 2, 3)),
        node("sizes", "Const", (), {"dtype": number(6, 3), **sizes}),
        node("y", "Reshape", ("x", "sizes"), {**T, "Tshape": number(6, 3)}),
    ]
    assert plan_conversion(request(tmp_path, nodes), Silent()).signatures["serving_default"].outputs["y"].shape == (
        1,
        6,
    )
    with pytest.raises(RequestError, match=r"y would reshape \[4,2,3\] to \[1,6\]"):
        plan_conversion(request(tmp_path, nodes, batch_size=4), Silent())


def test_a_graph_without_large_constants_is_said_to_have_got_no_variables(tmp_path: Path) -> None:
    nodes = [placeholder("x"), node("y", "Identity", ("x",), T)]
    plan = plan_conversion(request(tmp_path, nodes, weights_as_variables=True), Silent())
    assert "constants made variables: none, since none of them holds 65.5 kB or more" in plan.text()
    assert "made variables" not in plan_conversion(request(tmp_path, nodes), Silent()).text()


def test_the_size_that_the_server_refuses_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The constant is not there: the file has a hole in its place."""
    source = tmp_path / "graph.pb"
    large = 1_200_000_000
    head = constant("w", (large // 4,), b"")[:-2]
    tensor = number(1, 1) + message(2, shape((large // 4,)))
    content = b"\x22" + _varint(large)
    value = b"\x42" + _varint(len(tensor) + len(content) + large) + tensor + content
    attribute = b"\x2a" + _varint(7 + 1 + len(_varint(len(value) + large)) + len(value) + large)
    attribute += message(1, "value") + b"\x12" + _varint(len(value) + large) + value
    begin = message(1, "w") + message(2, "Const") + entry(5, "dtype", number(6, 1)) + attribute
    assert head
    rest = b"".join(message(1, each) for each in (placeholder("x", (-1,)), node("y", "Add", ("x", "w"), T)))
    with source.open("wb") as file:
        file.write(rest + b"\x0a" + _varint(len(begin) + large) + begin)
        file.truncate(file.tell() + large)
    wanted = ConversionRequest(source, tmp_path / "models" / "m")
    with pytest.raises(RequestError, match="the server refuses more than 1073741823") as refused:
        plan_conversion(wanted, Silent())
    assert refused.value.cure == "add --weights-as-variables" and not (tmp_path / "models").exists()
    plan = plan_conversion(ConversionRequest(source, tmp_path / "models" / "m", weights_as_variables=True), Silent())
    assert plan.size_bytes < 2000 and plan.weights is not None and plan.weights.size_bytes == large


def _varint(value: int) -> bytes:
    return number(1, value)[1:]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_conversion(request(tmp_path, GOOD), Silent())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        convert(plan, Silent())
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_source_that_is_replaced_meanwhile_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    plan = plan_conversion(request(tmp_path, GOOD), Silent())
    other = tmp_path / "other.pb"
    other.write_bytes(plan.source.path.read_bytes() + message(1, node("more", "NoOp")))
    if when == "before":
        os.replace(other, plan.source.path)
    else:

        def and_replaced(*arguments: object) -> None:
            write_saved_model(*arguments)  # type: ignore[arg-type]
            os.replace(other, plan.source.path)

        monkeypatch.setattr(convert_pb, "write_saved_model", and_replaced)
    with pytest.raises(ModelFileError, match="was replaced or changed while it was read"):
        convert(plan, Silent())
    assert os.listdir(tmp_path / "models") == []


@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_refused_or_converted_and_never_a_traceback(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    data = bytearray(b"".join(message(1, each) for each in GOOD))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        data[at : at + chance.randint(0, 3)] = bytes(chance.randrange(256) for _ in range(chance.randint(0, 3)))
    place = tmp_path_factory.mktemp("fuzz")
    (place / "graph.pb").write_bytes(data)
    try:
        convert(plan_conversion(ConversionRequest(place / "graph.pb", place / "m"), Silent()), Silent())
    except NpuServingError as error:
        assert error.cure
