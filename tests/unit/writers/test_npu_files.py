"""What no reader would take, or would take for something else, is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from npu_serving.errors import UnwritableValueError
from npu_serving.writers import npu_files


@given(some.dictionaries(some.text(), some.lists(some.text())))
def test_json_is_read_back_by_pythons_own_reader(value: dict[str, object]) -> None:
    assert json.loads(npu_files.json_file(value)) == value


def test_half_of_a_character_is_refused() -> None:
    with pytest.raises(UnwritableValueError, match="half of a character"):
        npu_files.json_file({"a": ["\udc80"]})


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "a\nb", "[a]", "#a", "a:b", "a,b", "-a", "é"])
def test_a_name_that_would_end_early_is_refused(name: str) -> None:
    for written in (
        lambda: npu_files.dtypes_line(name, ["float16"], ["float16"], by_type=False),
        lambda: npu_files.dtypes_line("a", ["float16", name], ["float16"], by_type=False),
        lambda: npu_files.ini_file({"ByOpType": {name: "high_precision"}}),
        lambda: npu_files.debug_line(["oom", name]),
        lambda: npu_files.nodes_line(["a", name]),
    ):
        with pytest.raises(UnwritableValueError, match="can't be written"):
            written()
