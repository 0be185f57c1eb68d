"""in_out_pair against the nodes of the model."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.deploy.range_checks import check_ranges
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import read_saved_model


def found(tmp_path: Path, pairs: str) -> list[Finding]:
    nodes = [wire.node(name, "Relu") for name in ("scope/first", "middle", "last")]
    path = tmp_path / "saved_model.pb"
    path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph(nodes), {})))
    return list(check_ranges({"in_out_pair": pairs}, read_saved_model(path)[0], "npu"))


@pytest.mark.parametrize(
    ("pairs", "severity"),
    [
        ("[[['scope/first'],['last']]]", None),
        ("[[[scope/first, middle],[last]], [['middle'], ['last'], ['third']]]", None),
        ("[[['scope/first'],['gone']]]", WARNING),
        ("[[['first'],['gone']]]", PROBLEM),
        ("[[['scope/first:0'],['last:0']]]", PROBLEM),
    ],
)
def test_the_first_and_last_operators_of_a_range_are_looked_up_in_the_model(
    tmp_path: Path, pairs: str, severity: str | None
) -> None:
    assert [finding.severity for finding in found(tmp_path, pairs)] == ([] if severity is None else [severity])


def test_the_nearest_node_is_proposed_and_helps(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "[[['scope/first:0'],['lasts']]]")
    assert finding.details == ("scope/first:0: perhaps scope/first", "lasts: perhaps last")
    assert found(tmp_path, "[[['scope/first'],['last']]]") == []


@given(pairs=st.text("[],' a\"", max_size=30))
def test_no_text_of_the_option_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, pairs: str) -> None:
    found(tmp_path_factory.mktemp("pairs"), pairs)
