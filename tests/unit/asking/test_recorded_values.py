"""Recorded requests are asked again as they were asked, by number or one of each shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import of_grpc, of_rest, recorded

from npu_serving.asking.recorded_file import RecordedRequest
from npu_serving.asking.recorded_values import first_of_each_shape, recorded_file_in, recorded_values
from npu_serving.client import encode_predict
from npu_serving.errors import RequestError


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a.rec", (Path("a.rec"), 0)),
        ("/x/a.rec#12", (Path("/x/a.rec"), 12)),
        ("a.json", None),
        ("a.rec#", None),
        ('[".rec"]', None),
    ],
)
def test_a_recorded_file_is_known_by_its_name(source: str, found: tuple[Path, int] | None) -> None:
    assert recorded_file_in(source) == found


def test_values_are_those_that_were_sent() -> None:
    inputs = {"x": np.array([[1.5, 2]], np.float32), "t": [b"\xff", "ü".encode()], "n": np.int64(2**60)}
    read = recorded_values("r", of_grpc(encode_predict("m", inputs, signature="s")))
    assert (read.form, read.signature_name) == ("inputs", "s")
    assert read.values == {"x": [[1.5, 2.0]], "t": [{"b64": "/w=="}, "ü"], "n": 2**60}
    read = recorded_values("r", of_rest(b'{"signature_name": "s", "instances": [[1]]}'))
    assert (read.form, read.values, read.signature_name) == ("instances", [[1]], "s")


def test_what_is_no_prediction_is_refused_with_its_name() -> None:
    for request in (of_grpc(b"", "Classify"), of_grpc(b"\xff"), of_rest(b"["), of_rest(b"{}")):
        with pytest.raises(RequestError, match="r#3"):
            recorded_values("r#3", request)


def test_the_first_of_each_shape_and_signature_of_the_model_is_taken(tmp_path: Path) -> None:
    def asked(rows: int, value: float, model: str = "m", signature: str = "") -> RecordedRequest:
        return of_grpc(encode_predict(model, {"x": np.full((rows, 1), value, np.float32)}, signature=signature))

    path = recorded(
        tmp_path / "a.rec",
        asked(1, 1),
        asked(1, 2),
        asked(2, 3),
        asked(1, 4, signature="s"),
        asked(9, 5, model="other"),
        of_grpc(b"\xff"),
        of_grpc(b"", "Regress"),
        of_rest(b'{"instances": [[6]]}'),
    )
    found = first_of_each_shape(path, "m")
    assert [(name.rpartition("#")[2], request.values) for name, request in found] == [
        ("1", {"x": [[1.0]]}),
        ("3", {"x": [[3.0], [3.0]]}),
        ("4", {"x": [[4.0]]}),
        ("8", [[6]]),
    ]
    ((name, request),) = first_of_each_shape(path, "any", 2)
    assert (name, request.values) == (f"{path}#2", {"x": [[2.0]]})
    with pytest.raises(RequestError, match="no request for a prediction by the model 'n'") as error:
        first_of_each_shape(path, "n")
    assert "'m', 'other'" in error.value.cause
    with pytest.raises(RequestError, match="no request") as error:
        first_of_each_shape(recorded(tmp_path / "empty.rec"), "n")
    assert "#1" not in error.value.cure
