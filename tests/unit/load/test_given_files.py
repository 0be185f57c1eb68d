"""Requests that a person gives a load test are read, or refused with the way that leads there."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.errors import RequestError
from npu_serving.load.given_files import read_given


def test_json_as_text_or_in_a_file_is_a_request_and_is_called_by_where_it_is_from(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1, 2]")
    assert read_given("m", " [1, 2]")[0] == "the text given"
    assert [read_given("m", source)[1].values for source in ("[1, 2]", str(file))] == [[1, 2], [1, 2]]
    assert read_given("m", str(file))[0] == str(file)


@pytest.mark.parametrize(
    "source", ["a.npy", "x=a.npy", "a.CSV", "photo.jpg", "day.rec", "day.rec#3", ".", "a.tfrecord"]
)
def test_what_predict_alone_takes_is_refused_with_the_way_by_which_a_load_test_takes_it(source: str) -> None:
    with pytest.raises(RequestError, match="takes no file of this kind") as error:
        read_given("m", source)
    assert "./inv predict m --request FILE --save-golden NAME" in error.value.cure
