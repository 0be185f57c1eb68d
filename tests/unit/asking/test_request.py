"""Reading what is to be predicted from a file, from standard input and from the command line."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.request import read_request
from npu_serving.errors import NpuServingError, RequestError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(values))
def test_what_is_sent_is_what_was_read(instances: list[object]) -> None:
    request = read_request(json.dumps(instances))
    assert json.loads(request.body()) == {"instances": instances}


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("[1, 2.0]", {"instances": [1, 2.0]}),
        ('{"instances": [{"x": 1}]}', {"instances": [{"x": 1}]}),
        (' \n{"inputs": {"x": [1]}, "signature_name": "s"}', {"signature_name": "s", "inputs": {"x": [1]}}),
        ('{"inputs": 3}', {"inputs": 3}),
    ],
)
def test_rows_columns_and_a_bare_list_are_taken_from_text_file_and_standard_input(
    text: str, body: dict[str, object], tmp_path: Path
) -> None:
    file = tmp_path / "wünsche '1'\n.json"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    requests = [read_request(text), read_request(str(file)), read_request("-", stdin=io.BytesIO(text.encode()))]
    assert [json.loads(request.body()) for request in requests] == [body] * 3


def test_a_whole_number_stays_one_and_a_decimal_one_too() -> None:
    assert read_request("[1, 1.0, 9007199254740993]").body() == '{"instances":[1,1.0,9007199254740993]}'


def test_nan_and_the_infinities_are_read() -> None:
    instances = read_request("[NaN, Infinity, -Infinity]").values
    assert isinstance(instances, list)
    assert math.isnan(instances[0])
    assert instances[1:] == [math.inf, -math.inf]


def test_the_signature_of_the_task_goes_before_that_of_the_file() -> None:
    request = read_request('{"inputs": 1, "signature_name": "file"}')
    assert json.loads(request.body("task"))["signature_name"] == "task"


def test_broken_json_is_told_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text('{"instances": [\n  1,\n  2 3\n]}')
    with pytest.raises(RequestError, match=r"in\.json is not valid JSON \(.* at line 3, column 5\): 2 3"):
        read_request(str(file))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{}", "neither"),
        ('{"x": [1]}', "neither"),
        ('{"instances": [1], "inputs": [1]}', "both"),
        ('{"instances": [1], "signature": "s"}', "unknown key 'signature'"),
        ('{"instances": [1], "signature_name": 3}', "signature_name"),
        ('{"instances": [1], "instances": [2]}', "twice"),
        ("[1e999]", "larger than a double"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1" * 5000 + "0e0", "JSON|double"),
        ("[1", "line 1, column 3"),
        ("[1] [2]", "Extra data"),
    ],
)
def test_what_is_no_request_is_refused_in_one_message(text: str, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        read_request(text)


@pytest.mark.parametrize("source", ["", " ", "no such file", "a\0b", "3.5", "x" * 5000, "."])
def test_what_is_neither_json_nor_a_file_is_refused(source: str) -> None:
    with pytest.raises(NpuServingError):
        read_request(source)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(RequestError, match="not UTF-8 text: byte 1"):
        read_request(str(tmp_path / "picture"))


def test_standard_input_that_holds_no_request_is_named() -> None:
    with pytest.raises(RequestError, match="standard input contains 3"):
        read_request("-", stdin=io.BytesIO(b"3"))
    with pytest.raises(RequestError, match="There is no request: standard input is empty") as caught:
        read_request("-", stdin=io.BytesIO(b"\n"))
    assert "--request" in caught.value.cure


@given(st.text())
def test_no_text_ends_in_a_traceback(text: str) -> None:
    try:
        read_request("[" + text)
    except NpuServingError as error:
        assert error.what


def test_a_request_that_never_ends_is_refused() -> None:
    with pytest.raises(RequestError, match="/dev/zero has more than"):
        read_request("/dev/zero")
    with open("/dev/zero", "rb") as endless, pytest.raises(RequestError, match="standard input has more than"):
        read_request("-", stdin=endless)
