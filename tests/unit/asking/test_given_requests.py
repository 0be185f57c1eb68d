"""What was given to be predicted, told apart by name and first bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from npu_serving.asking import recorded_file
from npu_serving.asking.given_requests import RECORDING, WARM_UP_REQUESTS, GivenKind, json_stream, sort_given
from npu_serving.errors import RequestError
from npu_serving.models.warm_up_file import WARM_UP_FILE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.json", GivenKind.JSON),
        ("x", GivenKind.JSON),
        ("x.npz", GivenKind.ARRAYS),
        ("x.NPY", GivenKind.ARRAYS),
        ("x.csv", GivenKind.ROWS),
        ("x.tfrecord", GivenKind.RECORDS),
        ("x.rec", GivenKind.RECORDS),
        ("tf_serving_warmup_requests", GivenKind.RECORDS),
        ("x.JPEG", GivenKind.IMAGES),
        (".", GivenKind.IMAGES),
    ],
)
def test_a_file_is_what_its_name_says(tmp_path: Path, name: str, kind: GivenKind) -> None:
    (tmp_path / "x").parent.joinpath(name if name != "." else "y").write_bytes(b"")
    assert sort_given([str(tmp_path / name)]).kind is kind


def test_standard_input_is_json_or_arrays_by_its_first_bytes() -> None:
    written = io.BytesIO()
    np.save(written, np.zeros(2))
    piped = sort_given(["-"], stdin=io.BytesIO(written.getvalue()))
    assert (piped.kind, piped.files[0].suffix, piped.files[0].name) == (GivenKind.ARRAYS, ".npy", "standard input")
    json = sort_given([], stdin=io.BytesIO(b"[1]"))
    stream = json_stream(json)
    assert json.kind is GivenKind.JSON
    assert stream is not None
    assert stream.read() == b"[1]"


def test_an_input_is_named_before_its_file_and_a_request_numbered_behind_it(tmp_path: Path) -> None:
    for name in ("a.npy", "b=c.npy", "r.tfrecord", "r#2.tfrecord"):
        (tmp_path / name).write_bytes(b"")
    named = sort_given([f"x={tmp_path / 'a.npy'}", str(tmp_path / "b=c.npy")])
    assert [(file.input, Path(file.name).name) for file in named.files] == [("x", "a.npy"), ("", "b=c.npy")]
    (numbered,) = sort_given([f"{tmp_path / 'r.tfrecord'}#2"]).files
    assert (numbered.number, Path(numbered.name).name) == (2, "r.tfrecord")
    (whole,) = sort_given([str(tmp_path / "r#2.tfrecord")]).files
    assert whole.number == 0


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["[1]", "[2]"], "was given 2 times, with JSON"),
        (["a.npy", "[1]"], "with JSON and arrays"),
        (["a.csv", "a.csv"], "was given 2 times"),
        (["x=a.csv"], "can't be for the input 'x' alone"),
        (["none.npy"], "There is no none.npy"),
        (["a.tfrecord#0"], "has no request 0"),
    ],
)
def test_what_makes_no_one_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "a.csv", "a.tfrecord"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RequestError, match=what):
        sort_given(texts)


def test_the_names_of_files_are_those_that_their_makers_give_them() -> None:
    assert recorded_file.SUFFIX == RECORDING
    assert WARM_UP_FILE.name == WARM_UP_REQUESTS
