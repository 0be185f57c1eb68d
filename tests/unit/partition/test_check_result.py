"""What the adapter has reported, read and held against what was foreseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_graphs import chain, lists, written

from npu_serving.errors import RequestError
from npu_serving.partition.asked_graph import asked_graph
from npu_serving.partition.check_result import read_check_result
from npu_serving.partition.partition_graph import GraphPartition, partition_graph

LISTS = lists("Relu", "Softmax", gray=["Softmax"])


def entry(name: str, operator: str, code: int = 1) -> dict[str, object]:
    """A node as generate_report.cc writes it."""
    reason = {"code": code, "message": "This op is not exsit on npu."}
    return {"is_support": False, "name": name, "not_support_reason": reason, "type": operator}


def compared(tmp_path: Path, *entries: dict[str, object]) -> GraphPartition:
    path = tmp_path / "check_result.tf.json"
    path.write_text(json.dumps({"op": [*entries]}, indent=2))
    version = written(tmp_path / "1", chain("Relu", "Unique", "Relu", "Softmax"), "n3")
    return partition_graph(asked_graph(version), LISTS, check_result=path)


def test_a_run_that_went_as_foreseen_agrees(tmp_path: Path) -> None:
    found = compared(tmp_path, entry("n1", "Unique"), entry("_arg_x_0_0", "_Arg"))
    assert found.comparison is not None
    assert found.comparison.agrees
    assert dict(found.comparison.agreed) == {"Unique": 1}
    assert dict(found.comparison.elsewhere) == {}
    assert found.exit_code == 0
    assert "as foreseen, on the CPU: Unique (1)" in found.text()


def test_a_node_that_was_meant_for_the_npu_and_stayed_on_the_cpu_is_named_and_the_task_leaves_with_3(
    tmp_path: Path,
) -> None:
    found = compared(tmp_path, entry("n0", "Relu"), entry("n1", "Unique"))
    assert found.comparison is not None
    assert [node.name for node in found.comparison.only_reported] == ["n0"]
    assert found.exit_code == 3
    assert "n0" in found.text()
    assert "the server has read another list" in found.text()


def test_grey_operators_and_what_was_not_asked_for_need_not_be_reported(tmp_path: Path) -> None:
    found = compared(tmp_path)
    assert found.comparison is not None
    assert dict(found.comparison.only_foreseen) == {"Unique": 1}
    assert found.exit_code == 0


def test_nodes_of_another_model_are_counted_apart(tmp_path: Path) -> None:
    found = compared(tmp_path, entry("other", "Unique"), entry("other2", "Unique"))
    assert found.comparison is not None
    assert dict(found.comparison.elsewhere) == {"Unique": 2}
    document = found.to_json()["comparison"]
    assert isinstance(document, dict)
    assert document["agrees"] is True


@pytest.mark.parametrize("text", ["", "null", "[]", '{"op": 1}', '{"op": [1]}', '{"op": [{"name": 1}]}', "{", "\x00"])
def test_another_file_is_refused_with_what_to_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "check_result.tf.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"not a check_result\.tf\.json"):
        read_check_result(path)


KEYS = ["op", "name", "type", "is_support", "not_support_reason", "code", "message"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(entries=st.lists(VALUES, max_size=4))
def test_no_report_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, entries: list[object]) -> None:
    path = tmp_path_factory.mktemp("report") / "check_result.tf.json"
    path.write_text(json.dumps({"op": entries}))
    try:
        found = read_check_result(path)
    except RequestError:
        return
    assert all(isinstance(node.message, str) for node in found)
