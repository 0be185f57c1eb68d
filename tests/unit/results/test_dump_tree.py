"""Dumps on the disk: names and places of both layouts, what is none, and what can't be read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from dump_trees import GRAPH, LATER, TIME, dump, step_of
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.console import SilentProgress
from npu_serving.errors import NoSuchFileError, RequestError
from npu_serving.results.dump_tree import DumpPlace, DumpTree, dump_layout, place_of, read_dump_tree

STAMP = 1706702405123456


def read(directory: Path) -> DumpTree:
    return read_dump_tree(directory, SilentProgress())


@pytest.mark.parametrize(
    ("name", "type_", "operator", "task"),
    [
        (f"Conv2D.conv1.3.{STAMP}", "Conv2D", "conv1", 3),  # the guide's
        (f"Conv2D.conv1.3.17.{STAMP}", "Conv2D", "conv1", 3),  # with a stream
        (f"Conv2D.conv1_lxslice0.3.{STAMP}.4.1.0.0", "Conv2D", "conv1_lxslice0", 3),  # FFTS+
        (f"Conv2D.conv1.17.3.{STAMP}.4.1.0.0", "Conv2D", "conv1", 3),
        (f"Conv2D.conv1.3.{STAMP}.csv", "Conv2D", "conv1", 3),  # dump_data: stats
        ("Conv2D.conv1.3.4711", "Conv2D", "conv1", 3),  # the guide doesn't say how long a time stamp is
    ],
)
def test_each_form_of_a_name_is_read(tmp_path: Path, name: str, type_: str, operator: str, task: int) -> None:
    path = dump(step_of(tmp_path), name, 11)
    ((file,),) = (step.files for step in read(tmp_path).steps)
    assert (file.path, file.type, file.name, file.task, file.size_bytes) == (path, type_, operator, task, 11)
    assert file.timestamp == (4711 if "4711" in name else STAMP)


def test_a_file_that_is_called_by_digits_has_its_name_in_the_mapping(tmp_path: Path) -> None:
    digits = "12345678901234567890123456789012"
    dump(step_of(tmp_path / "dumps"), f"Conv2D.{'long_' * 60}.3.{STAMP}", mapped_to=digits)
    tree = read(tmp_path / "dumps")
    assert tree.steps[0].files[0].name == "long_" * 60
    assert tree.steps[0].files[0].path.name == digits
    assert tree.others == 0


def test_a_mapping_that_is_damaged_costs_the_names_only(tmp_path: Path) -> None:
    dump(step_of(tmp_path), f"Add.a.1.{STAMP}")
    (step_of(tmp_path) / "mapping.csv").write_bytes(b'\0\xff,\n"a,b\n1,2,3\n')
    assert len(read(tmp_path).steps[0].files) == 1


def test_time_device_model_id_and_step_are_told_wherever_in_the_tree_one_begins(tmp_path: Path) -> None:
    directory = step_of(tmp_path, 7, device=3)
    dump(directory, f"Add.a.1.{STAMP}")
    for top in (tmp_path, *list(directory.parents)[:4], directory):
        (step,) = read(top).steps
        assert step.place == DumpPlace(TIME, "3", GRAPH, "1", "7")


def test_operators_outside_of_a_graph_have_a_device_only(tmp_path: Path) -> None:
    assert place_of(tmp_path / TIME / "2") == DumpPlace(TIME, "2")


@pytest.mark.parametrize("below", ["0/m/1/0/further", "x", "0/m/one/0", "0/m/1/latest", "", "0/m"])
def test_a_directory_that_is_laid_out_otherwise_is_none(tmp_path: Path, below: str) -> None:
    assert place_of(tmp_path / TIME / below) is None


def test_steps_come_in_the_order_of_numbers_and_files_in_that_of_time(tmp_path: Path) -> None:
    for step, time in ((10, TIME), (9, TIME), (0, LATER)):
        for stamp in (STAMP + 2, STAMP + 1):
            dump(step_of(tmp_path, step, time=time), f"Add.a.1.{stamp}")
    tree = read(tmp_path)
    assert [(step.place.time, step.place.step) for step in tree.steps] == [(TIME, "9"), (TIME, "10"), (LATER, "0")]
    assert [file.timestamp for file in tree.steps[0].files] == [STAMP + 1, STAMP + 2]


def test_other_files_are_counted_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = dump(tmp_path / "outside", f"Add.outside.1.{STAMP}")
    place = tmp_path / "dumps"
    step = step_of(place)
    dump(step, f"Add.a.1.{STAMP}")
    dump(step, f"Add.a.1.{STAMP}.output.0.npy")
    (step / f"Add.link.1.{STAMP}").symlink_to(outside)
    (place / LATER).symlink_to(place / TIME)
    tree = read(place)
    assert [file.name for step in tree.steps for file in step.files] == ["a"]
    assert tree.others == 2


def test_a_tree_of_something_else_is_refused_with_what_is_there(tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    (place / "photo.jpg").touch()
    with pytest.raises(RequestError) as caught:
        read(place)
    assert "photo.jpg" in caught.value.what
    assert "./inv explain dump_path" in caught.value.cure


def test_a_directory_that_is_not_there_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFileError, match="is not a directory"):
        read(tmp_path / "none")
    with pytest.raises(NoSuchFileError) as caught:
        read(dump(tmp_path, "file"))
    assert caught.value.cause == "it is a file"


def test_a_directory_that_fails_to_be_read_is_said_and_the_rest_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump(step_of(tmp_path, 0), f"Add.a.1.{STAMP}")
    closed = dump(step_of(tmp_path, 1), f"Add.a.1.{STAMP}").parent
    real = os.scandir

    def fails(path: str) -> object:
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", fails)
    tree = read(tmp_path)
    assert tree.troubles == [f"{closed} can't be read: Permission denied"]
    assert len(tree.steps) == 1


def test_a_file_that_goes_away_meanwhile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dump(step_of(tmp_path), f"Add.a.1.{STAMP}")
    gone = dump(step_of(tmp_path), f"Add.b.1.{STAMP}")
    real = os.lstat

    def lstat(path: object) -> os.stat_result:
        if path == gone:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "lstat", lstat)
    tree = read(tmp_path)
    assert [file.path for file in tree.steps[0].files] == [kept]
    assert "No such file" in tree.troubles[0]


def test_a_hundred_thousand_files_cost_a_look_at_each_and_progress_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: the directory is said to hold so many, and each file is asked for once."""
    directory = step_of(tmp_path)
    first = dump(directory, f"Add.a.0.{STAMP}")
    status, asked = first.lstat(), 0
    names = [f"Add.a{number}.{number}.{STAMP + number}" for number in range(100_000)]

    def walk(top: Path, **_: object) -> object:
        return [(str(directory), [], names)]

    def lstat(path: object) -> os.stat_result:
        nonlocal asked
        asked += 1
        return status

    class Counted(SilentProgress):
        updates = 0

        def update(self, *_: object, **__: object) -> None:
            Counted.updates += 1

    monkeypatch.setattr("npu_serving.fsutil.walk", walk)
    monkeypatch.setattr(os, "lstat", lstat)
    tree = read_dump_tree(tmp_path, Counted())
    assert len(tree.steps[0].files) == asked == 100_000
    assert Counted.updates >= 1


@given(st.text(min_size=1, max_size=40))
def test_the_characters_of_the_guide_become_underscores_and_no_others(name: str) -> None:
    shown = dump_layout().in_file_names(name)
    assert len(shown) == len(name)
    assert all(new == ("_" if old in "./\\ " else old) for old, new in zip(name, shown))


@given(st.text("Add.0123456789_csv", min_size=1, max_size=60).filter(lambda name: name.strip(".")))
def test_no_name_is_too_odd(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    place = tmp_path_factory.mktemp("odd")
    dump(step_of(place), f"Add.a.1.{STAMP}")
    dump(step_of(place), name)
    assert read(place).steps
    shutil.rmtree(place)


def test_a_pipe_in_the_place_of_the_mapping_is_named_and_not_waited_for(tmp_path: Path) -> None:
    step = tmp_path / "20230101000000" / "0" / "m" / "1" / "0"
    step.mkdir(parents=True)
    (step / "MatMul.x.1.2.1700000000000000").write_bytes(b"x")
    os.mkfifo(step / "mapping.csv")
    tree = read(tmp_path)
    assert [file.name for file in tree.steps[0].files] == ["x"]
    assert "a device or a pipe" in tree.troubles[0]
