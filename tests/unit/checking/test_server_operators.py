"""Operators of a model that a server does not know: named before it says so itself, at the load."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire
from elf_samples import library, needs_gcc

from npu_serving.checking.server_operators import operators_missing
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion
from npu_serving.findings import WARNING
from npu_serving.models.saved_model import read_saved_model

pytestmark = needs_gcc


def model_of(directory: Path, *operators: str) -> CheckedModel:
    inner = wire.function("mine", [wire.node("i", "Mul")])
    graph = wire.graph([wire.node(f"n{at}", operator) for at, operator in enumerate((*operators, "mine"))], [inner])
    path = directory / "saved_model.pb"
    path.write_bytes(wire.saved_model(wire.meta_graph(graph, {})))
    return CheckedModel("m", "/m", (CheckedVersion(3, directory, read_saved_model(path)[0]),), (), None)


def server(directory: Path, name: str, *texts: str) -> Path:
    listed = ", ".join(f'"{text}"' for text in texts)
    return library(directory, name, f"const char *const names[] = {{{listed}}};")


KNOWN = ("Placeholder", "Const", "Identity", "Mul", "Add")


def test_an_operator_that_is_in_neither_the_server_nor_the_adapter_is_named(tmp_path: Path) -> None:
    files = [server(tmp_path, "server", *KNOWN), server(tmp_path, "adapter.so", "GeOp")]
    (finding,) = operators_missing(files, [model_of(tmp_path, "Add", "GeOp", "Special")])
    assert finding.severity == WARNING
    assert "Special of m, version 3" in finding.what
    assert "Op type not registered" in finding.what


def test_a_name_that_is_the_end_of_a_longer_text_is_found(tmp_path: Path) -> None:
    files = [server(tmp_path, "server", *KNOWN, "MyMatMul")]
    assert list(operators_missing(files, [model_of(tmp_path, "MatMul")])) == []
    assert len(list(operators_missing(files, [model_of(tmp_path, "MyMat")]))) == 1


def test_nothing_is_said_of_a_server_that_does_not_show_its_names(tmp_path: Path) -> None:
    files = [server(tmp_path, "server", "usage")]
    assert list(operators_missing(files, [model_of(tmp_path, "Special")])) == []
