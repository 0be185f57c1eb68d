"""Rows of a CSV file as a request: which column is which input, and what does not fit."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.csv_requests import read_csv
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError


def _signature(**inputs: tuple[str, tuple[int, ...] | None]) -> Signature:
    infos = tuple(TensorInfo(name, dtype, shape) for name, (dtype, shape) in inputs.items())
    return Signature("serving_default", "", infos, ())


def _values(tmp_path: Path, text: str, name: str = "rows.csv", **inputs: tuple[str, tuple[int, ...] | None]) -> Any:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_csv(tmp_path / name, _signature(**inputs)).values


def test_each_column_is_the_input_of_its_name_in_the_type_of_the_signature(tmp_path: Path) -> None:
    text = 'flag,word,number,real\ntrue,"a, b",-3,1e3\n0,,7,nan\n'
    found = _values(
        tmp_path,
        text,
        real=("DT_FLOAT", (-1,)),
        number=("DT_INT64", (-1,)),
        word=("DT_STRING", (-1,)),
        flag=("DT_BOOL", (-1,)),
    )
    assert (found["flag"], found["word"], found["number"]) == ([True, False], ["a, b", ""], [-3, 7])
    assert found["real"][0] == 1000.0


def test_numbered_columns_are_the_values_of_a_row_whatever_their_order_and_the_shape_nests_them(tmp_path: Path) -> None:
    found = _values(tmp_path, "x.1,y,x[0],x.3,x.2\n1,9,0,3,2\n", x=("DT_INT32", (-1, 2, 2)), y=("DT_INT32", (-1, 1)))
    assert found == {"x": [[[0, 1], [2, 3]]], "y": [[9]]}
    open_ended = _values(tmp_path, "x.0\tx.1\n1\t2\n", "rows.tsv", x=("DT_INT32", None))
    assert open_ended == {"x": [[1, 2]]}


def test_the_only_input_takes_all_columns_in_their_order(tmp_path: Path) -> None:
    found = _values(tmp_path, "sepal,petal.length\n1,2\n3,4\n", x=("DT_FLOAT", (-1, 2)))
    assert found == {"x": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "has no row of values"),
        ("x,y\n", "has no row of values"),
        ("x,y\n1\n", "Line 2 .* has 1 values, and the header 2"),
        ("x,y\n1,two\n", "Line 2 .* has in the column 'y' 'two', not a whole number"),
        ("x,y\n1,\n", "Line 2 .* has in the column 'y' empty"),
        ("x,y\n1,1.5\n", "not a whole number"),
        ("x,y\n1e400,1\n", "'1e400', not a number"),
        ("x,y\n1_000,1\n", "'1_000', not a number"),
        ("x,y\n1,1_000\n", "'1_000', not a whole number"),
        ("x,y\n\u0663,1\n", "not a number"),
        ("x,z\n1,2\n", "has the column 'z', which"),
        ("x\n1\n", "has no column for the input 'y'"),
        ("x,y,x\n1,2,3\n", "has the column 'x' twice"),
        ("x.0,x.2,y\n1,2,3\n", "lacks the column x.1"),
        ("x.0,x.1,y\n1,2,3\n", "has 2 columns for the input 'x', whose rows have 1"),
        ('x,y\n"1,2\n', "can't be read"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_line_or_the_header(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(RequestError, match=what):
        _values(tmp_path, text, x=("DT_FLOAT", (-1,)), y=("DT_INT64", (-1,)))


def test_a_whole_number_stays_one_so_that_what_a_float_can_not_hold_is_seen(tmp_path: Path) -> None:
    found = _values(tmp_path, "x\n16777217\n-.5\n Inf \n", x=("DT_FLOAT", (-1,)))
    assert [type(value) for value in found["x"]] == [int, float, float]
    assert found["x"] == [16777217, -0.5, math.inf]


def test_types_that_no_text_can_give_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="DT_COMPLEX64, which no CSV file can give"):
        _values(tmp_path, "x\n1\n", x=("DT_COMPLEX64", (-1,)))


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]))), min_size=1)
)
def test_what_a_csv_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]]
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("number", "word"), *rows])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(written.getvalue().encode())
    values = read_csv(path, _signature(number=("DT_INT64", (-1,)), word=("DT_STRING", (-1,)))).values
    assert values == {"number": [number for number, _ in rows], "word": [word for _, word in rows]}
