"""check-model: the paths that a person may give it, which versions it looks at, and what it says in the end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import model_messages as wire
import pytest
from elf_samples import library, needs_gcc

from npu_serving.checking.check_model import ModelCheck, ModelCheckRequest, check_model
from npu_serving.console import Silent
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.errors import RequestError
from npu_serving.findings import NOTE, PROBLEM
from npu_serving.models.warm_up_file import framed
from npu_serving.settings import Settings

MODEL = wire.simple_model({"x": [-1, 3]})
FAULTY = wire.simple_model({"x": [-1, 3]}, [wire.node("n", "Special")])


class Place:
    """A directory of models on a machine without builds and without CANN."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        nowhere = directory / "none"
        self.settings = dataclasses.replace(Settings(), cann_root=str(nowhere), dist_root=nowhere, build_root=nowhere)

    def put(self, path: str, data: bytes = MODEL) -> Path:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def check(self, path: str, *, deployment: Path | None = None, server: Path | None = None, **asked) -> ModelCheck:
        read = read_deployment(deployment) if deployment is not None else None
        wanted = ModelCheckRequest(self.directory / path, **asked)
        return check_model(self.settings, wanted, Silent(), server=server, deployment=read)

    def numbers(self, path: str, **asked) -> list[int]:
        return [version.number for version in self.check(path, **asked).model.versions]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    for version in ("1", "2", "00000007"):
        found.put(f"m/{version}/saved_model.pb")
    return found


def test_the_newest_version_is_checked_or_the_one_that_is_named_or_all(place: Place) -> None:
    assert place.numbers("m") == [7]
    assert place.numbers("m", version=2) == [2]
    assert place.numbers("m", all_versions=True) == [1, 2, 7]


@pytest.mark.parametrize("path", ["m/2", "m/2/saved_model.pb"])
def test_a_version_or_its_file_is_checked_where_it_is_named_itself(place: Place, path: str) -> None:
    found = place.check(path)
    assert [version.number for version in found.model.versions] == [2]
    assert (found.exit_code, found.findings) == (0, ())
    assert found.next_step == f"./inv init-deployment --model m={place.directory / 'm'}"


def test_a_version_that_is_not_there_is_a_problem_and_one_of_a_version_a_wrong_request(place: Place) -> None:
    (finding,) = place.check("m", version=3).findings
    assert "has no version 3 of m; there are 1, 2, 7" in finding.what
    assert finding.cure.endswith("or use --version 7")
    with pytest.raises(RequestError, match="is one version of a model"):
        place.check("m/2", version=2)
    with pytest.raises(RequestError, match="does not exist"):
        place.check("nowhere")


@pytest.mark.parametrize("path", ["high", "v2", "empty"])
def test_the_path_that_was_meant_is_the_cure(place: Place, path: str) -> None:
    place.put("high/m/1/saved_model.pb")
    place.put("v2/v2/saved_model.pb")
    (place.directory / "empty/1").mkdir(parents=True)
    (finding,) = place.check(path).findings
    cures = {
        "high": f"./inv check-model {place.directory / 'high/m'}",
        "v2": f"mv {place.directory / 'v2/v2'} {place.directory / 'v2/1'}",
        "empty": f"complete {place.directory / 'empty/1'} or remove it",
    }
    assert finding.cure == cures[path]


def test_a_model_whose_directory_has_no_number_is_looked_into_and_the_layout_is_said(place: Place) -> None:
    place.put("alone/saved_model.pb", FAULTY)
    found = place.check("alone")
    assert sorted(finding.kind for finding in found.findings) == ["base-path", "unknown-operator"]
    cure = f"./inv publish-model {place.directory / 'alone'} --to models/alone"
    assert any(finding.cure.startswith(cure) for finding in found.findings)
    assert f"  without a number: {place.directory / 'alone'}" in found.text()


def test_files_that_are_no_servables_are_named_and_their_graphs_are_checked_all_the_same(place: Place) -> None:
    place.put("frozen.pb", wire.graph([wire.placeholder("x"), wire.node("n", "Special", ["gone"])]))
    found = place.check("frozen.pb")
    assert [finding.kind for finding in found.findings] == ["model-file", "unknown-operator", "graph-structure"]
    assert "a graph alone (2 nodes, inputs: x)" in found.findings[0].what
    assert found.findings[0].cure.startswith(f"./inv convert-pb {place.directory / 'frozen.pb'} --output ")
    assert found.exit_code == 3
    place.put("page.pb", b"<html>")
    (finding,) = place.check("page.pb").findings
    assert "text, not a model" in finding.what


def test_the_json_has_all_that_the_text_has(place: Place) -> None:
    place.put("m/9/saved_model.pb", FAULTY)
    found = place.check("m")
    shown = json.loads(json.dumps(found.to_json()))
    assert shown["exit_code"] == found.exit_code == 3
    assert shown["versions"][0]["version"] == 9
    assert list(shown["versions"][0]["signatures"]) == ["serving_default"]
    (finding,) = shown["findings"]
    assert finding["what"] in found.text()
    assert "1 problem keeps it from being served." in found.text()


@needs_gcc
def test_a_server_that_has_an_operator_of_its_own_takes_a_model_with_it(place: Place) -> None:
    place.put("m/9/saved_model.pb", FAULTY)
    names = ", ".join(f'"{name}"' for name in ("Placeholder", "Const", "Identity", "AddN", "Special"))
    server = library(place.directory, "server", f"const char *const names[] = {{{names}}};")
    assert place.check("m", server=server).findings == ()
    without = library(
        place.directory, "other", f"const char *const names[] = {{{names.replace('Special', 'Specia1')}}};"
    )
    (finding,) = place.check("m", server=without).findings
    assert (finding.kind, finding.severity) == ("unknown-operator", PROBLEM)


def test_with_a_deployment_the_rows_of_the_warm_up_are_held_against_the_largest_batch(place: Place) -> None:
    tensor = wire.number(1, wire.FLOAT) + wire.message(2, wire.shape([5, 3])) + wire.message(4, bytes(60))
    asked = wire.message(6, wire.message(1, wire.entry(2, "x", tensor)))
    place.put("m/7/assets.extra/tf_serving_warmup_requests", framed([asked]))
    place.put("m/7/saved_model.pb")
    (place.directory / "m/00000007/saved_model.pb").unlink()
    (place.directory / "m/00000007").rmdir()
    models = [{"name": "m", "base_path": str(place.directory / "m")}]
    found = {}
    for most in (4, 5):
        document = {"version": 1, "models": models, "server": {"batching": {"max_batch_size": most}}}
        file = place.put(f"{most}.json", json.dumps(document).encode())
        found[most] = [finding.what for finding in place.check("m", deployment=file).findings]
    assert found[5] == []
    assert "Record 1 of " in found[4][0] and "has 5 rows, and a batch may have 4" in found[4][0]
    with pytest.raises(RequestError, match="The deployment has no model at"):
        place.check("4.json", deployment=file)


def test_a_note_is_not_a_problem(place: Place) -> None:
    place.put("m/9/saved_model.pb")
    place.put("m/9/saved_model.pbtxt", b"")
    found = place.check("m")
    assert [finding.severity for finding in found.findings] == [NOTE]
    assert found.exit_code == 0
