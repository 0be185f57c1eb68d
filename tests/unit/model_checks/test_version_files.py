"""What stands in a version directory in the place of a model, and models that are too large or there twice."""

from __future__ import annotations

import gzip
from pathlib import Path

import model_messages as wire
import pytest

from npu_serving.findings import NOTE, PROBLEM, Finding
from npu_serving.model_checks.version_check import check_version
from npu_serving.model_checks.version_files import read_version

MODEL = wire.simple_model({"x": [-1]})
GRAPH = wire.graph([wire.placeholder("x", [-1])])
META = wire.meta_graph(GRAPH, {})
TEXT = """\
saved_model_schema_version: 1
meta_graphs {
  meta_info_def { tags: "serve" }
  graph_def { node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } } }
  signature_def { key: "serving_default" value {
    inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { unknown_rank: true } } }
    outputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { unknown_rank: true } } }
    method_name: "tensorflow/serving/predict" } }
}
"""


def found(directory: Path, **files: bytes) -> list[Finding]:
    for name, data in files.items():
        (directory / name.replace("__", ".")).write_bytes(data)
    return list(check_version(directory).findings)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GRAPH, "a graph alone"),
        (META, "the graph of a checkpoint (.meta)"),
        (b"IMOD" + bytes(300), "an om"),
        (b"\x1c\0\0\0TFL3" + bytes(300), "a model of TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(300), "an HDF5 file"),
        (gzip.compress(MODEL), "packed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "text, not a model"),
        (MODEL[: len(MODEL) // 2], "is damaged at byte"),
    ],
)
def test_what_a_file_is_that_is_not_a_model_is_said_in_one_finding_without_talk_of_tags(
    tmp_path: Path, data: bytes, said: str
) -> None:
    (finding,) = found(tmp_path, saved_model__pb=data)
    assert (finding.severity, finding.kind) == (PROBLEM, "model-file")
    assert said in finding.what
    assert "tags" not in finding.what
    assert finding.cure


def test_a_model_as_text_is_looked_into_as_one_in_binary_form_is(tmp_path: Path) -> None:
    assert found(tmp_path, saved_model__pbtxt=TEXT.encode()) == []


def test_a_field_that_a_text_may_not_have_is_an_error_with_its_line(tmp_path: Path) -> None:
    newer = TEXT.replace('tags: "serve"', 'tags: "serve"\n    stripped_defaults_of_later: true')
    (finding,) = found(tmp_path, saved_model__pbtxt=newer.encode())
    assert "stripped_defaults_of_later" in finding.what
    assert "5" in finding.what.replace(str(tmp_path), "")


def test_the_binary_form_wins_over_a_text_beside_it_and_that_is_said(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, saved_model__pb=MODEL, saved_model__pbtxt=b"nonsense")
    assert finding.severity == NOTE
    assert "the server passes over the text" in finding.what


@pytest.mark.parametrize(("size", "is_refused"), [((1 << 30) - 1, False), (1 << 30, True), ((1 << 30) + 1, True)])
def test_a_graph_of_a_gibibyte_is_refused_by_its_size_as_tensorflow_refuses_it(
    tmp_path: Path, size: int, is_refused: bool
) -> None:
    """TensorFlow 1.15.0 itself loaded the first of these sizes, and neither of the others."""
    path = tmp_path / "saved_model.pb"
    with path.open("wb") as file:
        file.truncate(size)  # of zeros, which are no model: what is said of the smaller one is something else
    (finding,) = found(tmp_path)
    assert (f"{size} bytes, and TensorFlow 1.15.0 reads no graph" in finding.what) == is_refused


def test_a_model_that_is_replaced_while_it_is_read_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "variables/variables.index"
    index.parent.mkdir()
    index.write_bytes(b"")

    def replaced(*arguments, **named):
        graph = read_version(*arguments, **named)
        (tmp_path / "new").write_bytes(MODEL)
        (tmp_path / "new").replace(tmp_path / "saved_model.pb")
        return graph

    monkeypatch.setattr("npu_serving.model_checks.version_check.read_version", replaced)
    says = [finding.what for finding in found(tmp_path, saved_model__pb=MODEL)]
    assert any("was replaced or changed while it was read" in what for what in says)
