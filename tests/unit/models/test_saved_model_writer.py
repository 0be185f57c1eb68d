"""SavedModels that are written: read back as they were meant, published whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_messages import node, placeholder

from npu_serving.errors import DiskFullError, FileAccessError, ModelFileError, RequestError
from npu_serving.models.attribute_values import DATA_TYPES
from npu_serving.models.pieces import FileExtent, Piece
from npu_serving.models.saved_model import ModelSignature, TensorSpec, read_saved_model
from npu_serving.models.saved_model_writer import (
    LARGEST_SERVED_GRAPH,
    SaverNames,
    ServableGraph,
    message_field,
    new_version,
    node_pieces,
    refuse_too_large,
    write_saved_model,
)
from npu_serving.wire_bytes import bytes_field, number_field

PREDICT = "tensorflow/serving/predict"
X = TensorSpec("x:0", "float32", (-1, 3))
GRAPH = ServableGraph(
    [bytes_field(1, placeholder("x", (-1, 3)))],
    {"serving_default": ModelSignature({"x": X}, {"y": X}, PREDICT)},
)

names = st.text("abcXYZ_019/.", min_size=1, max_size=12)
shapes = st.none() | st.lists(st.sampled_from([-1, 0, 1, 7, 2**40]), max_size=4).map(tuple)
tensors = st.builds(
    TensorSpec,
    names.map(lambda name: f"{name}:0"),
    st.sampled_from(sorted(DATA_TYPES.values())),
    shapes,
    st.just(()) | st.tuples(names, names),
)
signatures = st.builds(
    ModelSignature, st.dictionaries(names, tensors, max_size=3), st.dictionaries(names, tensors, max_size=3), names
)
tags = st.sets(names, max_size=3)


def filled(base: Path, version: int | None = None) -> int:
    with new_version(base, version) as made:
        write_saved_model(made.directory, [GRAPH])
    return made.number


@given(written=st.lists(st.tuples(tags, st.dictionaries(names, signatures, max_size=3)), min_size=1, max_size=3))
def test_what_is_written_is_what_the_reader_reads(
    written: list[tuple[set[str], dict[str, ModelSignature]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("model")
    graphs = [ServableGraph(GRAPH.graph, named, tuple(tags)) for tags, named in written]
    write_saved_model(directory, graphs)
    read = read_saved_model(directory / "saved_model.pb")
    assert [(set(each.tags), dict(each.signatures)) for each in read] == [(set(t), s) for t, s in written]
    assert all(each.tensorflow_version == "1.15.0" and each.graph.operators == {"Placeholder": 1} for each in read)


@given(
    content=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=5),
    attributes=st.dictionaries(names, st.binary(max_size=20), max_size=3),
    inputs=st.lists(names, max_size=3),
)
def test_a_node_has_the_same_bytes_whether_its_attributes_are_at_hand_or_in_another_file(
    content: bytes,
    cuts: list[int],
    attributes: dict[str, bytes],
    inputs: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("model")
    (directory / "source").write_bytes(content)
    places = {f"part{number}": (min(cut, len(content)), len(content)) for number, cut in enumerate(cuts)}
    whole = {**attributes, **{key: content[slice(*place)] for key, place in places.items()}}
    parts: dict[str, Piece] = {**attributes}
    parts |= {key: FileExtent(directory / "source", *place) for key, place in places.items()}
    expected = node("n", "Op", inputs, dict(sorted(whole.items())))
    written = [node_pieces("n", "Op", inputs, each) for each in ({**whole}, parts)]
    for number, pieces in enumerate(written):
        write_saved_model(directory, [ServableGraph(pieces, {})])
        assert bytes_field(2, bytes_field(1, expected)) in (directory / "saved_model.pb").read_bytes(), number


def test_tables_assets_and_a_saver_stand_where_a_loader_looks_for_them(tmp_path: Path) -> None:
    graph = ServableGraph(
        message_field(1, [node("init", "NoOp")]),
        {},
        main_op="init",
        assets={"file:0": "words.txt"},
        saver=SaverNames("save/Const:0", "save/done:0", "save/restore_all"),
    )
    write_saved_model(tmp_path, [graph])
    data = (tmp_path / "saved_model.pb").read_bytes()
    collection = bytes_field(1, b"saved_model_main_op") + bytes_field(2, bytes_field(1, bytes_field(1, b"init")))
    asset = bytes_field(1, bytes_field(1, b"file:0")) + bytes_field(2, b"words.txt")
    saver = b"".join(bytes_field(at, each) for at, each in enumerate((b"save/Const:0", b"save/done:0"), start=1))
    assert bytes_field(4, collection) in data
    assert bytes_field(6, asset) in data
    assert saver + bytes_field(3, b"save/restore_all") + number_field(4, 5) + number_field(7, 2) in data


def test_versions_follow_each_other_and_one_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    base = tmp_path / "models" / "m"
    assert [filled(base), filled(base), filled(base, 7), filled(base)] == [1, 2, 7, 8]
    (base / "0012").mkdir()
    for version, named in ((7, base / "7"), (12, base / "0012")):
        with pytest.raises(RequestError, match=f"Version {version} is there already: {named}") as refused:
            filled(base, version)
        assert refused.value.cure == "leave --version out, which makes version 13"
    assert sorted(os.listdir(base)) == ["0012", "1", "2", "7", "8"]


@pytest.mark.parametrize("version", [-1, 2**63])
def test_a_version_that_no_server_reads_is_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(RequestError, match="--version"):
        filled(tmp_path / "m", version)


def test_a_file_and_a_model_without_versions_get_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    write_saved_model(tmp_path, [GRAPH])
    with pytest.raises(RequestError, match="is not a directory"):
        filled(tmp_path / "file")
    with pytest.raises(RequestError, match="contains a model itself"):
        filled(tmp_path)


def test_what_another_run_published_meanwhile_stays(tmp_path: Path) -> None:
    def both(version: int | None) -> int:
        with new_version(tmp_path / "m", version) as made:
            write_saved_model(made.directory, [GRAPH])
            assert filled(tmp_path / "m") == made.number
            (tmp_path / "m" / str(made.number) / "of the other run").touch()
        return made.number

    with pytest.raises(FileAccessError, match="appeared while it was made") as refused:
        both(1)
    assert refused.value.cure == "run the same command again"
    assert os.listdir(tmp_path / "m") == ["1"]
    assert (tmp_path / "m" / "1" / "of the other run").exists()
    # Where no number was asked for, what took hours gets the next one.
    assert both(None) == 3
    assert sorted(os.listdir(tmp_path / "m")) == ["1", "2", "3"]
    assert (tmp_path / "m" / "2" / "of the other run").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="could not be written: the disk is full"):
        filled(tmp_path / "m")
    assert os.listdir(tmp_path) == []


_WAITING = """
import sys, time
from pathlib import Path
from npu_serving.models.saved_model_writer import new_version
with new_version(Path(sys.argv[1])) as made:
    (made.directory / "half").write_text("written")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_version_and_the_next_removes_what_a_killed_one_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    base = tmp_path / "m"
    argv = [sys.executable, "-c", _WAITING, str(base)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.wait()
    left = os.listdir(base) if base.exists() else []
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    assert all(name.startswith(".") for name in left)
    assert filled(base, 5) == 5  # another version than the killed run's
    assert os.listdir(base) == ["5"]


def test_the_size_at_which_tensorflow_refuses_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    refuse_too_large(LARGEST_SERVED_GRAPH)
    source = tmp_path / "constant"
    with source.open("wb") as file:
        file.truncate(LARGEST_SERVED_GRAPH)
    graph = ServableGraph(message_field(1, [FileExtent(source, 0, LARGEST_SERVED_GRAPH)]), {})
    with pytest.raises(RequestError, match="the server refuses more than 1073741823") as refused:
        write_saved_model(tmp_path, [graph])
    assert refused.value.cure == "add --weights-as-variables"
    assert os.listdir(tmp_path) == ["constant"]


def test_a_source_that_became_shorter_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "constant"
    source.write_bytes(b"x" * 10)
    graph = ServableGraph([FileExtent(source, 5, 20)], {})
    with pytest.raises(ModelFileError, match="ends at byte 10"), new_version(tmp_path / "m") as made:
        write_saved_model(made.directory, [graph])
    assert os.listdir(tmp_path) == ["constant"]


def test_progress_is_told_up_to_the_last_byte(tmp_path: Path) -> None:
    told: list[int] = []
    write_saved_model(tmp_path, [GRAPH], told.append)
    assert told == sorted(told) and told[-1] == (tmp_path / "saved_model.pb").stat().st_size


@given(data=st.data())
def test_a_type_that_tensorflow_1_15_has_not_is_refused(data: st.DataObject) -> None:
    name = data.draw(names.filter(lambda name: name not in DATA_TYPES.values()))
    signature = ModelSignature({}, {"y": TensorSpec("y:0", name, ())}, PREDICT)
    with pytest.raises(RequestError, match=r"which TensorFlow 1\.15 has not"):
        write_saved_model(Path("/nowhere"), [ServableGraph([], {"s": signature})])
