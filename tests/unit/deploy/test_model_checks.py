"""A deployment's models on the disk: versions by the policy, tags, files, and what reaches beyond a graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import model_messages as wire
import pytest
from other_user import as_nobody, open_directory  # noqa: F401 - a fixture

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.model_checks import CheckedModel, check_models
from npu_serving.findings import NOTE, PROBLEM, WARNING
from npu_serving.model_checks.naming import BASE_PATH

MODEL = wire.simple_model({"x": [-1, 3]})


def put(path: Path, data: bytes = MODEL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def checked(tmp_path: Path, base: Path | str, server: dict[str, Any] | None = None, **of_model: Any) -> CheckedModel:
    file = tmp_path / "d.json"
    model = {"name": "m", "base_path": str(base), **of_model}
    file.write_text(json.dumps({"version": 1, "models": [model], "server": server or {}}))
    (found,) = check_models(read_deployment(file))
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for version in ("1", "00000007", "9"):
        put(tmp_path / "models" / version / "saved_model.pb")
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("versions", "loaded"),
    [(None, [9]), ({"latest": 2}, [7, 9]), ("all", [1, 7, 9]), ([7, 1], [1, 7])],
)
def test_the_versions_of_the_policy_are_looked_at_and_no_others(
    tmp_path: Path, base: Path, versions: Any, loaded: list[int]
) -> None:
    for version in {1, 7, 9} - set(loaded):
        for name in (str(version), f"{version:08}"):
            (base / name / "saved_model.pb").unlink(missing_ok=True)
    found = checked(tmp_path, base, **({"versions": versions} if versions else {}))
    assert [version.number for version in found.versions] == loaded
    assert found.findings == ()


def test_a_specific_version_that_is_not_there_is_a_problem(tmp_path: Path, base: Path) -> None:
    found = checked(tmp_path, base, versions=[1, 8])
    (finding,) = found.findings
    assert (finding.severity, finding.kind) == (PROBLEM, "model-directory")
    assert "no version 8 of m; there are 1, 7, 9" in finding.what


def test_fewer_versions_than_are_to_be_served_are_a_note(tmp_path: Path, base: Path) -> None:
    (finding,) = checked(tmp_path, base, versions={"latest": 5}).findings
    assert finding.severity == NOTE


def test_a_directory_that_is_missing_is_not_there_yet(tmp_path: Path) -> None:
    (finding,) = checked(tmp_path, tmp_path / "none").findings
    assert (finding.kind, finding.where) == ("model-directory", "models.0.base_path")


def test_a_base_path_that_is_one_too_deep_or_too_high_is_answered_with_the_right_one(
    tmp_path: Path, base: Path
) -> None:
    (deep,) = checked(tmp_path, base / "9").findings
    assert (deep.kind, deep.cure) == ("base-path", f"write base_path: {base}")
    (high,) = checked(tmp_path, tmp_path).findings
    assert (high.kind, high.cure) == ("base-path", f"write base_path: {base}")
    assert checked(tmp_path, base).findings == ()


def test_the_place_of_each_cure_is_accepted_afterwards(tmp_path: Path) -> None:
    base = tmp_path / "models"
    for _ in range(3):  # the directory, the version, its model
        found = checked(tmp_path, base)
        if not found.findings:
            break
        put(base / "1" / "saved_model.pb")
    assert found.findings == ()


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (MODEL[: len(MODEL) // 2], "model-file", "is damaged at byte"),
        (b"version https://git-lfs.github.com/spec/v1\n", "model-file", "Git LFS"),
        (
            wire.simple_model({"x": None}, tags=["train"]),
            "tags",
            "no graph with the tags [serve]; there is one with [train]",
        ),
        (wire.simple_model({"x": None}, tags=["serve", "gpu"]), "tags", "[gpu, serve]"),
    ],
)
def test_a_model_that_the_server_would_refuse_is_a_problem(tmp_path: Path, data: bytes, kind: str, said: str) -> None:
    put(tmp_path / "models/1/saved_model.pb", data)
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert (finding.severity, finding.kind) == (PROBLEM, kind)
    assert said in finding.what
    assert finding.cure


def test_the_tags_that_are_proposed_are_accepted(tmp_path: Path) -> None:
    put(tmp_path / "models/1/saved_model.pb", wire.simple_model({"x": None}, tags=["serve", "gpu"]))
    found = checked(tmp_path, tmp_path / "models", server={"saved_model_tags": ["gpu", "serve"]})
    assert found.findings == ()


def test_a_version_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "models/1").mkdir(parents=True)
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert "contains no saved_model.pb" in finding.what
    put(tmp_path / "models/1/saved_model.pbtxt", b"saved_model_schema_version: 1 meta_graphs { meta_info_def { } }")
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert "no graph with the tags [serve]" in finding.what


@pytest.mark.parametrize("closed", ["models", "models/1", "models/1/saved_model.pb", "models/1/variables"])
def test_what_this_user_may_not_read_is_a_finding(open_directory: Path, closed: str) -> None:  # noqa: F811 - the fixture
    put(open_directory / "models/1/saved_model.pb", wire.simple_model({"x": None}, [wire.node("v", "VarHandleOp")]))
    put(open_directory / "models/1/variables/variables.index")
    file = put(
        open_directory / "d.yaml", f"version: 1\nmodels: [{{name: m, base_path: {open_directory}/models}}]\n".encode()
    )
    (open_directory / closed).chmod(0)
    done = as_nobody("check-deployment", file, "--json")
    assert not done.stderr
    kinds = [finding["kind"] for finding in json.loads(done.stdout)["findings"]]
    assert "model-directory" in kinds


def test_a_remote_model_is_noted_and_not_looked_into(tmp_path: Path) -> None:
    (finding,) = checked(tmp_path, "s3://bucket/m").findings
    assert finding.severity == NOTE


VARIABLE = wire.node(
    "v", "VarHandleOp", (), {"dtype": wire.number(6, wire.FLOAT), "shape": wire.message(7, wire.shape([2]))}
)


def test_variables_without_their_index_fail_at_the_first_request(tmp_path: Path) -> None:
    put(tmp_path / "models/1/saved_model.pb", wire.simple_model({"x": None}, [VARIABLE]))
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert "variables.index is missing" in finding.what
    assert finding.severity == PROBLEM


def test_batching_is_held_against_the_inputs_unless_the_model_has_none(tmp_path: Path) -> None:
    put(tmp_path / "models/1/saved_model.pb", wire.simple_model({"x": []}))
    (finding,) = checked(tmp_path, tmp_path / "models", {"batching": {}}).findings
    assert (finding.kind, finding.severity, finding.where) == ("batching", PROBLEM, "models.0")
    assert finding.cure.startswith("write models.0.batching: false, or")
    assert checked(tmp_path, tmp_path / "models", {"batching": {}}, batching=False).findings == ()


def test_operators_that_reach_files_or_python_are_named_with_the_signatures_that_run_them(tmp_path: Path) -> None:
    nodes = [
        wire.placeholder("name"),
        wire.node("content", "ReadFile", ["name"]),
        wire.node("called", "PyFunc", ["content"]),
        wire.node("apart", "WriteFile", ["name"]),
    ]
    reads = wire.signature({"f": wire.tensor("name:0", [])}, {"c": wire.tensor("content:0", [])})
    calls = wire.signature({"f": wire.tensor("name:0", [])}, {"c": wire.tensor("called:0", [])})
    data = wire.saved_model(wire.meta_graph(wire.graph(nodes), {"reads": reads, "calls": calls}))
    put(tmp_path / "models/1/saved_model.pb", data)
    of_operator = {
        operator: next(each for each in checked(tmp_path, tmp_path / "models").findings if f" {operator}," in each.what)
        for operator in ("ReadFile", "PyFunc", "WriteFile")
    }
    assert {each.kind for each in of_operator.values()} == {"security"}
    assert "requests of calls, reads run it" in of_operator["ReadFile"].what
    assert "requests of calls run it, and a server has no Python" in of_operator["PyFunc"].what
    assert [each.severity for each in of_operator.values()] == [WARNING, WARNING, NOTE]


def test_a_dangerous_operator_in_a_function_is_found_too(tmp_path: Path) -> None:
    graph = wire.graph([wire.node("y", "mine")], [wire.function("mine", [wire.node("r", "ReadFile")])])
    data = wire.saved_model(wire.meta_graph(graph, {"s": wire.signature({}, {"y": wire.tensor("y:0", [])})}))
    put(tmp_path / "models/1/saved_model.pb", data)
    (finding,) = (each for each in checked(tmp_path, tmp_path / "models").findings if each.kind == "security")
    assert "requests of s run it" in finding.what


def test_a_model_without_a_signature_is_a_warning(tmp_path: Path) -> None:
    put(tmp_path / "models/1/saved_model.pb", wire.saved_model(wire.meta_graph(b"", {})))
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert (finding.severity, finding.kind) == (WARNING, "signatures")


def test_warm_up_records_that_would_keep_the_model_out_are_found_where_they_are_used(
    tmp_path: Path, base: Path
) -> None:
    put(base / "9/assets.extra/tf_serving_warmup_requests", b"no record")
    (finding,) = checked(tmp_path, base).findings
    assert finding.severity == PROBLEM
    assert "would keep the server from loading the model" in finding.what
    assert checked(tmp_path, base, server={"warm_up": False}).findings == ()


@pytest.mark.parametrize("below", ["1", "1/variables", "1/saved_model.pb", "1/variables/variables.index"])
def test_a_path_within_a_version_is_answered_with_the_models_own(tmp_path: Path, below: str) -> None:
    put(tmp_path / "models/1/saved_model.pb")
    (finding,) = checked(tmp_path, tmp_path / "models" / below).findings
    assert finding.kind == BASE_PATH
    assert finding.cure == f"write base_path: {tmp_path / 'models'}"
    assert checked(tmp_path, tmp_path / "models").findings == ()


@pytest.mark.parametrize("name", ["v2", "0.1"])
def test_directories_that_a_server_passes_over_are_named_and_the_cure_helps(tmp_path: Path, name: str) -> None:
    put(tmp_path / "models" / name / "saved_model.pb")
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert f"passes over other names than numbers ({name})" in finding.what
    assert finding.cure == f"mv {tmp_path / 'models' / name} {tmp_path / 'models/1'}"
    (tmp_path / "models" / name).rename(tmp_path / "models/1")
    assert checked(tmp_path, tmp_path / "models").findings == ()


def test_one_version_under_two_names_is_a_problem_and_zeros_alone_are_none(tmp_path: Path) -> None:
    put(tmp_path / "models/00000123/saved_model.pb")
    assert checked(tmp_path, tmp_path / "models").findings == ()
    put(tmp_path / "models/123/saved_model.pb")
    (finding,) = checked(tmp_path, tmp_path / "models").findings
    assert "the version 123 as 00000123 and 123" in finding.what
    assert finding.needs_action


@pytest.mark.parametrize("missing", ["none", "empty"])
def test_models_that_wait_for_another_one_are_named_with_it(tmp_path: Path, missing: str) -> None:
    put(tmp_path / "m/1/saved_model.pb")
    (tmp_path / "empty").mkdir()
    file = tmp_path / "d.yaml"
    models = [{"name": name, "base_path": str(tmp_path / path)} for name, path in zip("ABC", ("m", "m", missing))]
    file.write_text(json.dumps({"version": 1, "models": models}))
    first, second, third = check_models(read_deployment(file))
    assert (first.findings, second.findings) == ((), ())
    (finding,) = third.findings
    assert finding.what.endswith("Without it the server does not offer A, B either, and opens no port.")
