"""The requests that a server sends through a model before it offers it: written, read back, and by protobuf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import model_messages as wire
import numpy as np
import pytest
from recordings import of_grpc, recorded
from serving_messages import message_class

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import GoldenRequests, read_golden_requests, write_golden
from npu_serving.asking.messages import read_prediction_log, write_prediction_log
from npu_serving.asking.request import read_request
from npu_serving.client import encode_predict
from npu_serving.client.model_spec import ModelSpec
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.errors import ModelFileError, NpuServingError, RequestError
from npu_serving.models.warm_up_file import WARM_UP_FILE, framed, records_in, warm_up_trouble
from npu_serving.trials.warm_up import plan_warm_up, write_warm_up

ROWS = "[[1, 2, 3], [4, 5, 6]]"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for version, width in ((1, 2), (12, 3)):
        directory = tmp_path / "resnet" / str(version)
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").write_bytes(wire.simple_model({"x": [-1, width]}))
    return tmp_path / "resnet"


def requests_of(path: Path) -> list[Any]:
    kind = message_class("tensorflow.serving.PredictionLog")
    return [kind.FromString(record).predict_log.request for record in records_in(path)]


def deployment(base: Path, **npu: object) -> DeploymentFile:
    file = base.parent / "deployment.yaml"
    document = {"version": 1, "models": [{"name": "r", "base_path": str(base)}], **({"npu": npu} if npu else {})}
    file.write_text(json.dumps(document))
    return read_deployment(file)


def gears(base: Path, shapes: str, dims: str) -> DeploymentFile:
    return deployment(base, input_shape=shapes, dynamic_dims=dims, dynamic_node_type=1)


def test_the_newest_version_gets_the_requests_as_protobuf_reads_them(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(ROWS)
    plan = plan_warm_up(str(base), [str(file), '{"inputs": {"x": [[7, 8, 9]]}}'])
    assert not plan.path.exists()
    done = write_warm_up(plan)
    assert done.path == base / "12" / WARM_UP_FILE
    assert warm_up_trouble(done.path) == ""
    first, second = requests_of(done.path)
    assert (first.model_spec.name, first.model_spec.signature_name) == ("resnet", "serving_default")
    assert [dim.size for dim in first.inputs["x"].tensor_shape.dim] == [2, 3]
    assert [dim.size for dim in second.inputs["x"].tensor_shape.dim] == [1, 3]
    assert str(file) in done.text()
    assert "was read back" in done.text()
    assert done.to_json()["written"] is True


def test_one_request_of_each_recorded_shape_is_written(base: Path, tmp_path: Path) -> None:
    asked = (np.full((rows, 3), value, np.float32) for value, rows in enumerate((1, 2, 1, 2)))
    file = recorded(tmp_path / "a.rec", *(of_grpc(encode_predict("resnet", {"x": values})) for values in asked))
    done = write_warm_up(plan_warm_up(str(base), [str(file), f"{file}#4"]))
    shapes = [[dim.size for dim in request.inputs["x"].tensor_shape.dim] for request in requests_of(done.path)]
    assert shapes == [[1, 3], [2, 3], [2, 3]]
    assert f"{file}#2" in done.text()


def test_a_second_run_changes_nothing(base: Path) -> None:
    write_warm_up(plan_warm_up(str(base), [ROWS]))
    stamp = (base / "12" / WARM_UP_FILE).stat().st_mtime_ns
    again = write_warm_up(plan_warm_up(str(base), [ROWS]))
    assert "is up to date" in again.text()
    assert (base / "12" / WARM_UP_FILE).stat().st_mtime_ns == stamp


def test_other_requests_are_replaced_only_by_force(base: Path) -> None:
    path = base / "12" / WARM_UP_FILE
    path.parent.mkdir()
    path.write_bytes(b"recorded by somebody")
    with pytest.raises(RequestError, match="with other requests") as caught:
        plan_warm_up(str(base), [ROWS])
    assert "--force" in caught.value.cure
    assert path.read_bytes() == b"recorded by somebody"
    write_warm_up(plan_warm_up(str(base), [ROWS], force=True))
    assert len(requests_of(path)) == 1


def test_another_version_is_chosen(base: Path) -> None:
    assert write_warm_up(plan_warm_up(str(base), ["[[1, 2]]"], version=1)).path == base / "1" / WARM_UP_FILE
    with pytest.raises(RequestError, match="no version 7") as caught:
        plan_warm_up(str(base), ["[[1, 2]]"], version=7)
    assert "1, 12" in caught.value.cure


def test_each_gear_gets_a_request_of_its_own_shape(base: Path) -> None:
    plan = plan_warm_up(str(base), ["[[1, 2, 3]]", ROWS], deployment=gears(base, "x:-1,3", "1;2;4"))
    assert plan.gears == 3
    of_each = requests_of(write_warm_up(plan).path)
    assert [[dim.size for dim in each.inputs["x"].tensor_shape.dim] for each in of_each] == [[1, 3], [2, 3], [4, 3]]
    assert [record.is_resized for record in plan.records] == [False, False, True]
    # its one row again and again
    assert list(read_prediction_log(memoryview(list(records_in(plan.path))[2]))[1]["x"].values) == [1, 2, 3] * 4


def test_a_request_that_fits_no_gear_is_not_written_because_the_model_would_not_load(base: Path) -> None:
    plan = plan_warm_up(str(base), [ROWS], deployment=gears(base, "x:-1,3", "1;3"))
    assert [record.shapes for record in plan.records] == ["x [1, 3]", "x [3, 3]"]
    assert {record.spec.name for record in plan.records} == {"r"}


def test_gears_go_to_the_inputs_in_the_order_of_their_nodes(tmp_path: Path) -> None:
    directory = tmp_path / "two" / "1"
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(wire.simple_model({"b": [-1, 2], "a": [-1]}))
    plan = plan_warm_up(
        str(directory.parent),
        ['[{"a": 1, "b": [2, 3]}]'],
        deployment=gears(directory.parent, "a:-1;b:-1,2", "4,1;5,2"),
    )
    assert [record.shapes for record in plan.records] == ["a [4], b [1, 2]", "a [5], b [2, 2]"]


def test_gears_that_do_not_fit_the_model_are_refused(base: Path) -> None:
    with pytest.raises(RequestError, match="do not fit the signature") as caught:
        plan_warm_up(str(base), [ROWS], deployment=gears(base, "x:-1,3;y:2", "1;2"))
    assert "check-deployment" in caught.value.cure


def test_a_deployment_without_gears_gets_the_requests_as_they_are(base: Path) -> None:
    plan = plan_warm_up(str(base), [ROWS], deployment=deployment(base))
    assert (plan.gears, [record.shapes for record in plan.records]) == (0, ["x [2, 3]"])


def test_a_deployment_of_other_models_or_without_warm_up_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no model at") as caught:
        plan_warm_up(str(base), [ROWS], deployment=deployment(tmp_path / "other"))
    assert str(tmp_path / "other") in caught.value.cause
    deployment(base)
    without = read_deployment(tmp_path / "deployment.yaml", (), ["server.warm_up=false"])
    with pytest.raises(RequestError, match="would not read") as caught:
        plan_warm_up(str(base), [ROWS], deployment=without)
    assert "--set server.warm_up=true" in caught.value.cure
    cured = read_deployment(tmp_path / "deployment.yaml", (), ["server.warm_up=true"])
    assert plan_warm_up(str(base), [ROWS], deployment=cured).records


def test_an_empty_request_can_not_be_made_to_fit_a_gear(base: Path) -> None:
    with pytest.raises(RequestError, match="can't be made to fit the gear") as caught:
        plan_warm_up(str(base), ['{"inputs": {"x": []}}'], deployment=gears(base, "x:-1,3", "1;2"))
    assert "at least one value" in caught.value.cure


def golden(base: Path, dist: Path, text: str = ROWS, name: str = "resnet") -> GoldenRequests:
    write_golden(dist, GoldenRequest(name, "resnet", read_request(text), [[1]], model_base_path=str(base)))
    return read_golden_requests(dist)


def test_all_golden_requests_of_the_model_are_written_and_those_of_another_are_not(base: Path, tmp_path: Path) -> None:
    dist = tmp_path / "golden"
    with pytest.raises(RequestError, match="No golden request is recorded") as caught:
        plan_warm_up(str(base), [], golden=read_golden_requests(dist))
    assert "smoke --record" in caught.value.cure
    (record,) = plan_warm_up(str(base), [], golden=golden(base, dist)).records
    assert (record.source, record.shapes) == ("the golden request resnet", "x [2, 3]")
    golden(base, dist, "[[7, 8, 9]]", "one-row")
    both = plan_warm_up(str(base), [], golden=golden(tmp_path / "other", dist, "[[1]]", "other")).records
    assert [(each.source, each.shapes) for each in both] == [
        ("the golden request one-row", "x [1, 3]"),
        ("the golden request resnet", "x [2, 3]"),
    ]
    for name in ("resnet", "one-row"):
        (dist / f"{name}.json").unlink()
    with pytest.raises(RequestError, match=r"No golden request is for the model at .*, only for .*/other"):
        plan_warm_up(str(base), [], golden=read_golden_requests(dist))


@pytest.mark.parametrize(
    ("sources", "changes", "what"),
    [
        ([], {}, "at least one request"),
        (["[[1, 2]]"], {}, r"the text given: The input 'x' has the shape \[1, 2\]"),
        (['{"inputs": {"y": 1}}'], {}, "has 'y', which is not an input"),
        ([ROWS], {"signature_name": "none"}, "has no signature 'none'"),
        ([ROWS], {"tags": ("serve", "gpu")}, r"no graph with the tags \[serve, gpu\]"),
        ([ROWS] * 1001, {}, "1001 requests are too many"),
    ],
)
def test_what_would_keep_the_model_from_loading_is_refused_before(base: Path, sources, changes, what) -> None:
    with pytest.raises(RequestError, match=what) as caught:
        plan_warm_up(str(base), sources, **changes)
    assert caught.value.cure
    assert not (base / "12" / "assets.extra").exists()


def test_more_than_a_server_should_send_at_each_load_is_refused(base: Path, monkeypatch) -> None:
    monkeypatch.setattr(fsutil, "READ_WHOLE_BYTES", 100)
    with pytest.raises(RequestError, match="a warm-up file is for a few"):
        plan_warm_up(str(base), [ROWS] * 3)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        plan_warm_up(str(tmp_path / "none"), [ROWS])
    with pytest.raises(RequestError, match="it is read on this machine"):
        plan_warm_up("s3://bucket/m", [ROWS])
    directory = tmp_path / "m" / "1"
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"\x12\x7f")
    with pytest.raises(ModelFileError):
        plan_warm_up(str(tmp_path / "m"), [ROWS])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data[:-1], "cut off"),
        (lambda data: data + data, "has 2 records, not 1"),
        (lambda _: b"", "has 0 records, not 1"),
        (lambda _: framed([write_prediction_log(ModelSpec("other"), {})]), "a different request"),
        (lambda _: framed([b"\xff"]), "record 1 is damaged"),
    ],
)
def test_a_file_that_reads_otherwise_than_it_was_written_is_an_error(base: Path, monkeypatch, spoil, why: str) -> None:
    plan = plan_warm_up(str(base), [ROWS])
    monkeypatch.setattr(fsutil, "write_file", lambda path, data: path.write_bytes(spoil(data)))
    with pytest.raises(NpuServingError, match=why):
        write_warm_up(plan)
