"""Golden requests on disk: read as they were written, every mistake with its place, and whole whatever interrupts."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenOrigin, GoldenRequest, Tolerance
from npu_serving.asking.golden_files import check_name, read_golden_requests, usual_name, write_golden
from npu_serving.asking.golden_places import DIRECTORY, FORMER, golden_directory
from npu_serving.asking.npy import tensor_of, write_npz
from npu_serving.asking.request import COLUMN, ROW, PredictRequest, read_request
from npu_serving.errors import DiskFullError, RequestError

GOLDEN = GoldenRequest(
    name="m",
    model="m",
    request=PredictRequest(ROW, [1.0], "s"),
    expected=[3.5],
    tolerance=Tolerance(0.01, 0.02),
    tolerances={"y": Tolerance(0.5, 0.0)},
    model_base_path="/models/m",
    platform_config_file=Path("/c.cfg"),
    origin=GoldenOrigin("serving-x", "6.3.RC2", "npu 0", "2025-01-31T12:00:00Z"),
)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.booleans() | st.floats(allow_nan=False) | st.integers(-(2**60), 2**60) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
SMALL = st.floats(0, 1)


@st.composite
def golden(draw: st.DrawFn) -> GoldenRequest:
    rows = draw(st.booleans())
    version = draw(st.none() | st.integers(0, 2**63 - 1))
    return GoldenRequest(
        name=draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True)),
        model=draw(TEXTS.filter(str.strip)),
        request=PredictRequest(
            ROW if rows else COLUMN, draw(st.lists(VALUES, min_size=1, max_size=3) if rows else VALUES), draw(TEXTS)
        ),
        expected=draw(VALUES),
        tolerance=Tolerance(draw(SMALL), draw(SMALL)),
        tolerances=draw(st.dictionaries(TEXTS, st.builds(Tolerance, SMALL, SMALL), max_size=2)),
        version=version,
        label=draw(TEXTS) if version is None else "",
        api=draw(st.sampled_from(["rest", "grpc"])),
        model_base_path=draw(TEXTS),
        platform_config_file=draw(st.none() | st.just(Path("/c.cfg"))),
        origin=GoldenOrigin(*draw(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))),
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(golden())
def test_it_is_read_as_it_was_written(one: GoldenRequest) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = write_golden(Path(temporary), one)
        assert path.name == f"{one.name}.json"
        assert read_golden_requests(Path(temporary)).sound() == (one,)


def test_numbers_that_json_lacks_come_back_as_well(tmp_path: Path) -> None:
    write_golden(tmp_path, dataclasses.replace(GOLDEN, expected=[math.inf, math.nan, -0.0]))
    (read,) = read_golden_requests(tmp_path).sound()
    assert repr(read.expected) == "[inf, nan, -0.0]"


def test_several_stand_side_by_side_in_the_order_of_their_names_and_one_replaces_the_one_of_its_name(
    tmp_path: Path,
) -> None:
    assert read_golden_requests(tmp_path / "none").requests == ()
    for name in ("b", "a", "c"):
        write_golden(tmp_path, dataclasses.replace(GOLDEN, name=name))
    write_golden(tmp_path, dataclasses.replace(GOLDEN, name="b", expected=[7.0]))
    read = read_golden_requests(tmp_path)
    assert [(each.name, each.expected) for each in read.sound()] == [("a", [3.5]), ("b", [7.0]), ("c", [3.5])]
    assert read.of("m", "/models/m") == read.requests
    assert read.of("m", "/other") == ()


def arrays(path: Path, *values: float) -> Path:
    tensor = tensor_of([list(values)])
    assert tensor is not None
    path.write_bytes(write_npz({"x": tensor}))
    return path


@pytest.mark.parametrize("expected", [[[1.5, 2.5]], {"y": [1.0], "z": [True]}])
def test_a_request_in_npz_is_kept_as_arrays_and_so_is_its_answer(tmp_path: Path, expected: object) -> None:
    asked = arrays(tmp_path / "x.npz", 1.0, 2.0)
    directory = tmp_path / "golden"
    one = dataclasses.replace(GOLDEN, request=read_request(str(asked)), expected=expected)
    write_golden(directory, one, asked.read_bytes())
    (read,) = read_golden_requests(directory).sound()
    assert read == one
    assert read.request == PredictRequest(COLUMN, {"x": [[1.0, 2.0]]})
    first = {path.name for path in directory.glob("*.npz")}
    assert len(first) == 2
    assert "[" not in (directory / "m.json").read_text()
    write_golden(directory, dataclasses.replace(one, expected=["no number"]), arrays(asked, 3.0).read_bytes())
    (read,) = read_golden_requests(directory).sound()
    assert (read.request.values, read.expected) == ({"x": [[3.0]]}, ["no number"])
    (left,) = directory.glob("*.npz")
    assert left.name not in first, "what the former request had is gone"


def test_whatever_interrupts_the_replacing_of_one_it_is_the_former_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, asked = tmp_path / "golden", tmp_path / "x.npz"
    former = dataclasses.replace(GOLDEN, request=read_request(str(arrays(asked, 1.0))), expected=[1.0])
    write_golden(directory, former, asked.read_bytes())
    new = dataclasses.replace(GOLDEN, request=read_request(str(arrays(asked, 2.0))), expected=[2.0])
    content = asked.read_bytes()
    write, remove = fsutil.write_file, fsutil.remove
    steps = 0
    for last in range(1, 7):
        count = 0

        def step(last: int = last) -> None:
            nonlocal count, steps
            count += 1
            steps = max(steps, count)
            if count == last:
                raise DiskFullError("the disk is full", cause="", cure="")

        def writing(path: Path, data: bytes | str, **more: int) -> bool:
            step()
            return write(path, data, **more)

        def removing(path: Path) -> None:
            step()
            remove(path)

        monkeypatch.setattr(fsutil, "write_file", writing)
        monkeypatch.setattr(fsutil, "remove", removing)
        try:
            write_golden(directory, new, content)
        except DiskFullError:
            monkeypatch.undo()
            read = read_golden_requests(directory).sound()
            assert read in ((former,), (new,)), f"after {last} steps"
            write_golden(directory, former, arrays(asked, 1.0).read_bytes())
        monkeypatch.undo()
    assert steps == 5, "two arrays, the request, and the two arrays that it had"
    assert len(list(directory.iterdir())) == 3


def test_every_mistake_of_every_file_is_told_with_its_place_and_the_good_ones_are_read(tmp_path: Path) -> None:
    write_golden(tmp_path, GOLDEN)
    (tmp_path / "a.json").write_text(
        '{"format": 2,\n "model": "",\n "instances": [],\n "inputs": {"x": 1},\n "tolerance": {"rtol": "x"},\n'
        ' "modle": 1,\n "version": -1}'
    )
    (tmp_path / "b.json").write_text('{"format": 2, "model": "m", "expected": [1],\n "expected_npz": "../x.npz"}')
    (tmp_path / "c.json").write_text('{"format": 2, "model": "m",\n "version": 1, "label": "stable"}')
    (tmp_path / "d.json").write_text('{"format": 2, "model": "m", "inputs_npz": "gone.npz"}')
    (tmp_path / "e.json").write_text("{")
    (tmp_path / "f.json").write_text('{"format": 3, "inputs": 1}')
    read = read_golden_requests(tmp_path)
    assert read.requests == (GOLDEN,)
    with pytest.raises(RequestError) as caught:
        read.sound()
    said = caught.value.what
    for line in (
        "a.json:2:11: model: must be the name that the server knows the model by.",
        "a.json:5:24: tolerance.rtol: must be a number that is 0 or more, not 'x'.",
        "a.json:6:2: modle: unknown key",
        "a.json:7:13: version: must be",
        "b.json:2:18: expected_npz: must be the name of a .npz file beside this one, not '../x.npz'.",
        "c.json:1:1: inputs: is missing: give instances, inputs or inputs_npz.",
        "c.json:2:25: label: is there beside version: keep one of the two.",
        "d.json is not a golden request: ",
        "e.json:1:2: this is not valid JSON",
        "f.json:1:12: format: is 3, and this program reads format 2.",
    ):
        assert line in said, said
    mistakes = caught.value.details["mistakes"]
    assert isinstance(mistakes, list)
    assert len(mistakes) == 9


def test_two_kinds_of_inputs_and_two_answers_are_mistakes(tmp_path: Path) -> None:
    two = {"instances": [1], "inputs": {"x": 1}, "expected": 1, "expected_npz": "x.npz"}
    (tmp_path / "a.json").write_text(json.dumps({"format": 2, "model": "m", **two}))
    with pytest.raises(RequestError) as caught:
        read_golden_requests(tmp_path).sound()
    assert "inputs: is there beside instances: keep one of them." in caught.value.what
    assert "expected_npz: is there beside expected: keep one of the two." in caught.value.what


def test_a_name_that_no_file_may_have_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    for name in ("", "..", "a/b", "-x", "a b", "x" * 101, "a.json", "a.npz", "a\n"):
        with pytest.raises(RequestError, match="can't be the name of a golden request"):
            check_name(name)
    assert check_name(usual_name("half plus/two")) == "half_plus_two"
    (tmp_path / "a b.json").write_text("{}")
    with pytest.raises(RequestError, match="a b"):
        read_golden_requests(tmp_path).sound()


def test_the_single_file_of_before_is_still_read_until_the_same_request_is_recorded_again(tmp_path: Path) -> None:
    former = {
        "format": 1,
        "model_base_path": "/models/m",
        "model_name": "m",
        "platform_config_file": "/c.cfg",
        "request": {"signature_name": "s", "instances": [1.0]},
        "expected": [3.5],
        "tolerance": 0.01,
        "build_id": "serving-x",
    }
    (tmp_path / FORMER).write_text(json.dumps(former))
    directory = golden_directory(tmp_path)
    assert directory == tmp_path / DIRECTORY
    (read,) = read_golden_requests(directory).sound()
    assert read == dataclasses.replace(
        GOLDEN, tolerance=Tolerance(0.01, 0.01), tolerances={}, origin=GoldenOrigin("serving-x")
    )
    write_golden(directory, dataclasses.replace(GOLDEN, name="other"))
    assert [each.name for each in read_golden_requests(directory).sound()] == ["m", "other"]
    write_golden(directory, GOLDEN)
    assert [each.origin.cann for each in read_golden_requests(directory).sound()] == ["6.3.RC2", "6.3.RC2"]
    assert not (tmp_path / FORMER).exists()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "7", '{"format": 9}', '{"format": 1}', '{"format": 1, "request": {}}']
)
def test_a_damaged_file_of_before_is_refused_with_how_to_record_one(tmp_path: Path, damage: str) -> None:
    (tmp_path / FORMER).write_text(damage)
    with pytest.raises(RequestError, match="not a golden request") as caught:
        read_golden_requests(golden_directory(tmp_path)).sound()
    assert "--record" in caught.value.cure


@pytest.mark.parametrize("name", ["a.json", "x.npz"])
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path, name: str) -> None:
    document = {"format": 2, "model": "m", "inputs_npz": "x.npz", "expected": [1]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    (error,) = read_golden_requests(tmp_path).errors
    assert "a device or a pipe" in error.what
