"""Where the list of operators and the report of a server are found."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from npu_serving.cann.operator_list import OperatorLists
from npu_serving.errors import ActionNeeded, MissingToolError
from npu_serving.partition import chosen_lists as module
from npu_serving.partition.chosen_lists import chosen_lists, result_of_server
from npu_serving.settings import Settings

FOUND = OperatorLists(Path("/opp/list"), 1, 0, "", names=frozenset(("Relu",)))


def installed(monkeypatch: pytest.MonkeyPatch, lists: OperatorLists) -> None:
    monkeypatch.setattr(module, "installed_operators", lambda _settings: SimpleNamespace(lists=lists))


def test_a_list_that_is_given_counts_before_the_one_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, FOUND)
    (tmp_path / "list").write_text("MatMul\n")
    assert chosen_lists(Settings(), tmp_path / "list").names == {"MatMul"}
    assert chosen_lists(Settings(), None) is FOUND


def test_without_any_list_it_says_where_one_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, dataclasses.replace(FOUND, operators=0, names=frozenset(), trouble="/opp/list is missing"))
    with pytest.raises(MissingToolError, match="/opp/list is missing") as caught:
        chosen_lists(Settings(), None)
    assert "--supported FILE" in caught.value.cure


def test_the_report_is_found_in_the_directory_of_the_server_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server(build_root: Path, *, name: str) -> Any:
        assert name == "8501"
        return SimpleNamespace(name=name, record=SimpleNamespace(directory=build_root))

    monkeypatch.setattr(module, "chosen_server", server)
    with pytest.raises(ActionNeeded, match=r"check_result\.tf\.json is not there") as caught:
        result_of_server(tmp_path, "8501")
    assert "./inv stop 8501" in caught.value.cure
    (tmp_path / "check_result.tf.json").write_text("{}")
    assert result_of_server(tmp_path, "8501") == tmp_path / "check_result.tf.json"
