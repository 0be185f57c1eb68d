"""graph-nodes: what it says of models that TensorFlow 1.15.0 made, and of files that are none."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import struct
from pathlib import Path

import model_messages as wire
import pytest
from cann_trees import make_cann
from tensorflow_server import made_by_tensorflow

from npu_serving import process
from npu_serving.console import Silent
from npu_serving.errors import FileAccessError, MissingToolError, ModelFileError, NpuServingError, RequestError
from npu_serving.inspection.graph_view import GraphView, NodeFilter
from npu_serving.inspection.show_model import show_model
from npu_serving.settings import Settings

ALL = NodeFilter(wanted=True, limit=0)


@pytest.fixture(scope="module")
def graphs() -> Path:
    return made_by_tensorflow("tensorflow_graphs.py")


def shown(path: Path, chosen: NodeFilter | None = None, **words: object) -> GraphView:
    tags = frozenset(str(words.get("tags", "")).split(",")) - {""}
    return show_model(path, chosen or NodeFilter(), tags=tags, picture=None, netron=False, reporter=Silent())


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["frozen.pb", "loops.pb", "functions.pb"])
def test_every_node_is_listed_with_the_types_and_shapes_that_tensorflow_gives_it(graphs: Path, name: str) -> None:
    expected = json.loads((graphs / "tensors.json").read_bytes())[name]
    nodes = [node for node in shown(graphs / name).to_json()["nodes"] if "function" not in node]  # type: ignore[attr-defined]
    found = {tensor["tensor"]: (tensor["dtype"], tensor["shape"]) for node in nodes for tensor in node["outputs"]}
    assert {tensor: kind for tensor, (kind, _) in found.items()} == {name: kind for name, (kind, _) in expected.items()}
    for tensor, (_, shape) in found.items():
        known = expected[tensor][1]
        if shape is not None:
            assert known is not None, tensor
            assert shape == [-1 if size is None else size for size in known], tensor


def test_a_frozen_graph_is_shown_with_likely_inputs_and_outputs_and_the_conversion_to_type(graphs: Path) -> None:
    text = shown(graphs / "frozen.pb").text()
    assert "frozen.pb: a graph alone" in text
    assert "7 nodes: Const 2, Placeholder 2, MatMul 1, Softmax 1, StringJoin 1" in text
    assert "parameters: 2,049 in 2 constants (8.2 kB)" in text
    assert "placed on devices, by the number of nodes: /device:GPU:0 (1)" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("likely")]
    assert [line[1:4] for line in lines] == [
        ["input", "x:0", "float32"],
        ["input", "t:0", "string"],
        ["output", "scores:0", "float32"],
        ["output", "texts:0", "string,"],
    ]
    assert text.endswith(
        f"Next: ./inv convert-pb {graphs / 'frozen.pb'} --inputs 'x:0;t:0' --outputs 'scores:0;texts:0' "
        "--output models/frozen"
    )
    assert shown(graphs / "frozen.pbtxt").to_json()["nodes"] == shown(graphs / "frozen.pb").to_json()["nodes"]


def test_a_saved_model_is_shown_with_signatures_assets_and_the_bytes_of_its_variables(graphs: Path) -> None:
    for path in (graphs / "saved", graphs / "saved" / "1", graphs / "saved" / "1" / "saved_model.pb"):
        view = shown(path)
        document = view.to_json()
        assert document["tags"] == ["serve"]
        assert document["assets"] == {"asset_path:0": "vocabulary.txt"}
        assert document["variables"] == [
            {"name": "parts", "dtype": "float32", "shape": [6, 2], "bytes": 48},
            {"name": "ref", "dtype": "float32", "shape": [3, 2], "bytes": 24},
            {"name": "resource", "dtype": "float32", "shape": [2], "bytes": 8},
        ]
        assert sorted(document["signatures"]) == ["both", "serving_default", "words"]  # type: ignore[call-overload]
        text = view.text()
        assert "parameters: 20 in 3 variables (80 B)" in text
        assert "both             input   word  word:0" in text
        assert f"Next: ./inv check-model {graphs / 'saved' / '1'}" in text


def test_the_graph_of_a_checkpoint_is_shown_with_what_it_answers_and_not_with_what_it_trains(graphs: Path) -> None:
    view = shown(graphs / "training")
    assert view.model.path == graphs / "training.meta"
    assert [spec.name for spec in view.inputs] == ["x:0"]
    assert [spec.name for spec in view.outputs] == ["loss:0"]
    assert {variable.name: variable.size_bytes for variable in view.variables}["y/kernel"] == 12


def test_functions_are_shown_with_their_nodes(graphs: Path) -> None:
    view = shown(graphs / "functions.pb")
    assert "functions, with their nodes: __inference_outer" in view.text()
    nodes = view.to_json()["nodes"]
    inner = [node for node in nodes if node.get("function", "").startswith("__inference_inner")]  # type: ignore[attr-defined]
    assert {node["op"] for node in inner} == {"Const", "Mul", "Identity"}


def test_nodes_are_chosen_by_operator_name_and_signature(graphs: Path) -> None:
    def names(chosen: NodeFilter, file: str = "frozen.pb") -> list[str]:
        return [line.split()[0] for line in shown(graphs / file, chosen).text().splitlines()[1:]]

    assert names(NodeFilter(operators=("Placeholder", "Softmax"))) == ["x", "t", "scores"]
    assert names(NodeFilter(operators=("Place*", "/^Soft(max|plus)$/"))) == ["x", "t", "scores"]
    assert names(NodeFilter(name="*s")) == ["scores", "texts"]
    assert names(NodeFilter(name="/^[xt]$/")) == ["x", "t"]
    of_signature = names(NodeFilter(signature="serving_default", limit=0), "saved")
    assert set(of_signature) == {"x", "ref", "ref/read", "MatMul", "resource", "y/ReadVariableOp", "y"}
    listed = shown(graphs / "frozen.pb", NodeFilter(wanted=True, limit=2)).text()
    assert "... and 5 more: --limit 0 lists all" in listed
    assert "no node matches" in shown(graphs / "frozen.pb", NodeFilter(operators=("Nope",))).text()


@pytest.mark.parametrize(
    ("file", "chosen", "tags", "what", "cure"),
    [
        ("saved", NodeFilter(signature="nope"), "", "no signature nope", "--signature both"),
        ("saved", NodeFilter(name="/[/"), "", "not a regular expression", "--name"),
        ("saved", NodeFilter(operators=("MatMul", "/(/")), "", "--op /(/ is not a regular expression", "--op 'Conv*'"),
        ("saved", NodeFilter(), "gpu", "no graph with the tags gpu", "--tag serve"),
        ("frozen.pb", NodeFilter(), "serve", "has no tags", "--tag"),
        ("frozen.pb", NodeFilter(limit=-1), "", "--limit can't be -1", "0"),
        (".", NodeFilter(), "", "contains no model", "./inv graph-nodes"),
        ("saved", NodeFilter(signature="serving_default"), "x", "no graph with the tags x", "--tag serve"),
    ],
)
def test_what_the_model_does_not_have_is_refused_with_what_it_has(
    graphs: Path, file: str, chosen: NodeFilter, tags: str, what: str, cure: str
) -> None:
    with pytest.raises(RequestError) as caught:
        shown(graphs / file, chosen, tags=tags)
    assert what in caught.value.what
    assert cure in caught.value.cure


SAVED = wire.simple_model({"x": [-1, 3]})
FROZEN = wire.graph([wire.placeholder("x", [1, 3]), wire.node("y", "Relu", ["x"], {"T": wire.number(6, 1)})])
META = wire.meta_graph(FROZEN, {})
LATER = b'saved_model_schema_version: 1\nmeta_graphs {\n  meta_info_def {\n    function_aliases { key: "a" }\n  }\n}\n'

# What stands in a version's directory as saved_model.pb, and what is said of it.
OTHER_FILES = {
    "om": (b"IMOD" + b"\0" * 300, "is an om, which ATC made for the NPU", "SavedModel"),
    "TFLite": (b"\x1c\0\0\0TFL3" + b"\0" * 300, "is a model of TensorFlow Lite", "export"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 300, "is an HDF5 file", "tf.saved_model.save"),
    "gzip": (gzip.compress(SAVED), "is packed with gzip", "gunzip"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a pointer of Git LFS", "git lfs pull"),
    "empty": (b"", "is empty", "copy or export"),
    "page": (b"<!DOCTYPE html>\n<html>404</html>\n", "is text, not a model", "copy or export"),
    "text": (LATER.replace(b"function_aliases", b"tags_"), "is a SavedModel as text", "saved_model.pbtxt"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_that_is_no_model_is_called_what_it_is_in_one_line(tmp_path: Path, kind: str) -> None:
    data, what, cure = OTHER_FILES[kind]
    path = written(tmp_path / "m" / "1" / "saved_model.pb", data)
    for named in (path, path.parent, tmp_path / "m"):
        with pytest.raises(ModelFileError) as caught:
            shown(named)
        assert f"{path} {what}" in caught.value.what
        assert "\n" not in caught.value.what
        assert cure in caught.value.cure
        assert " tag" not in str(caught.value)


@pytest.mark.parametrize(("data", "what"), [(FROZEN, "a graph alone"), (META, "the graph of a checkpoint (.meta)")])
def test_a_graph_under_the_name_of_a_saved_model_is_shown_with_what_makes_a_servable_of_it(
    tmp_path: Path, data: bytes, what: str
) -> None:
    path = written(tmp_path / "m" / "1" / "saved_model.pb", data)
    text = shown(tmp_path / "m").text()
    assert f"{path}: {what}" in text
    assert "a server would not load it" in text
    assert f"Next: ./inv convert-pb {path} --inputs x:0 --outputs y:0 --output models/saved_model" in text


def test_a_text_with_a_field_of_a_later_tensorflow_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "m" / "1" / "saved_model.pbtxt", LATER)
    with pytest.raises(ModelFileError, match=r"saved_model.pbtxt:4: TensorFlow 1.15 has no field function_aliases"):
        shown(tmp_path / "m")
    written(path.with_name("saved_model.pb"), SAVED)
    assert "saved_model.pbtxt beside it is not read" in shown(tmp_path / "m").text()


def test_of_several_versions_the_highest_is_shown_and_said(tmp_path: Path) -> None:
    for number in (1, 12, 3):
        written(tmp_path / "m" / str(number) / "saved_model.pb", SAVED)
    text = shown(tmp_path / "m").text()
    assert f"{tmp_path}/m/12/saved_model.pb: a SavedModel" in text
    assert "of its 3 versions this is the highest, 12" in text


def test_a_damaged_checkpoint_beside_a_graph_is_said_and_the_graph_is_shown(tmp_path: Path) -> None:
    written(tmp_path / "m" / "1" / "saved_model.pb", SAVED)
    written(tmp_path / "m" / "1" / "variables" / "variables.index", b"not a table")
    text = shown(tmp_path / "m").text()
    assert "variables.index" in text
    assert "SIGNATURE" in text


def test_values_of_variables_that_are_missing_are_said(graphs: Path, tmp_path: Path) -> None:
    shutil.copytree(graphs / "saved" / "1", tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    assert "variables.data-00000-of-00001 is missing" in shown(tmp_path / "1").text()


def test_a_name_from_a_file_can_not_look_like_a_line_of_ours(tmp_path: Path) -> None:
    data = wire.graph([wire.node("a\nNext: rm -rf /", "Relu", (), {"T": wire.number(6, 1)}), wire.node("b", "New\x1b")])
    with pytest.raises(ModelFileError, match="no operator that could be"):
        shown(written(tmp_path / "m.pb", data))
    data = wire.graph([wire.node("a\nNext: rm -rf /", "Relu", (), {"T": wire.number(6, 1)})])
    path = written(tmp_path / "m.pb", data)
    assert "\nNext: rm" not in shown(path, ALL).text()
    assert "\nNext: rm" not in shown(path).text()


def test_a_graph_of_operators_that_nobody_knows_and_one_that_goes_in_a_circle_are_shown(tmp_path: Path) -> None:
    nodes = [wire.node("a", "Nobody", ["b"]), wire.node("b", "Relu", ["a", "missing:3"], {"T": wire.number(6, 1)})]
    text = shown(written(tmp_path / "m.pb", wire.graph(nodes)), ALL).text()
    assert text.splitlines()[1].split()[:3] == ["a", "Nobody", "?,"]
    empty = shown(written(tmp_path / "e.pb", wire.graph([wire.node("c", "NoOp")]))).text()
    assert "neither an input nor an output can be guessed" in empty


def test_whatever_is_damaged_in_a_graph_it_is_shown_or_refused_in_a_sentence(graphs: Path, tmp_path: Path) -> None:
    data, at, seen = (graphs / "damaged.bin").read_bytes(), 0, 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        path = written(tmp_path / "damaged.pb", data[at + 4 : at + 4 + length])
        at += 4 + length
        try:
            view = shown(path, ALL)
            assert view.text()
            json.dumps(view.to_json())
            seen += 1
        except NpuServingError as error:
            assert error.cure
    assert seen > 20


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_in_a_text_or_a_saved_model_it_is_shown_or_refused(
    graphs: Path, tmp_path: Path, seed: int
) -> None:
    randomly = random.Random(seed)
    for name, end in (("functions.pbtxt", 3000), ("saved/1/saved_model.pb", None)):
        original = (graphs / name).read_bytes()[:end]
        for _ in range(25):
            data = bytearray(original)
            for _ in range(randomly.randrange(1, 4)):
                place = randomly.randrange(len(data))
                data[place : place + randomly.randrange(3)] = randomly.choice(
                    [b"", b"}", b"{", b'"', b"\xff", b"\x80\x01", b": 7 ", bytes([randomly.randrange(256)])]
                )
            path = written(tmp_path / Path(name).name, bytes(data))
            try:
                json.dumps(shown(path).to_json())
            except NpuServingError as error:
                assert error.cure


@pytest.mark.skipif(process.find_program("dot") is None, reason="graphviz is not installed")
def test_a_picture_is_coloured_by_what_cann_gives_to_the_npu_where_its_list_is_at_hand(tmp_path: Path) -> None:
    relu = {"T": wire.number(6, 1)}
    nodes = [wire.placeholder("x"), wire.node("a", "Add", ["x", "x"], relu), wire.node("r", "Relu", ["a"], relu)]
    path, picture = written(tmp_path / "m.pb", wire.graph(nodes)), tmp_path / "m.svg"
    root = make_cann(tmp_path / "Ascend")

    def drawn(settings: Settings | None) -> str:
        view = show_model(
            path, NodeFilter(), tags=frozenset(), picture=picture, netron=False, reporter=Silent(), settings=settings
        )
        assert f"the picture is in {picture}" in view.text()
        return picture.read_text(encoding="utf-8") + view.written

    assert "matrices" not in drawn(Settings(cann_root=str(root)))
    text = drawn(Settings(cann_root=str(root)))
    assert "NPU" in text and "CPU" in text
    assert "npu_supported_ops.json" in text
    assert "NPU" not in drawn(None)


def test_without_netron_it_is_said_how_to_install_it_and_with_it_it_gets_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "m.pb", FROZEN)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="netron is not installed") as caught:
        show_model(path, NodeFilter(), tags=frozenset(), picture=None, netron=True, reporter=Silent())
    assert "pipx install netron" in caught.value.cure
    stand_in = tmp_path / "netron"
    stand_in.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/asked\n')
    stand_in.chmod(0o755)
    show_model(path, NodeFilter(), tags=frozenset(), picture=None, netron=True, reporter=Silent())
    assert (tmp_path / "asked").read_text().strip() == str(path)


def test_a_file_that_can_not_be_read_or_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match=r"missing\.pb"):
        shown(tmp_path / "missing.pb")
    large = tmp_path / "large.pb"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 1 << 31)
    with pytest.raises(ModelFileError, match="2147483648 bytes") as caught:
        shown(large)
    assert "variables, not constants" in caught.value.cure
