"""What is asked so that everything is compiled: each version that is served, each signature, each gear."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import model_messages as wire
import pytest

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import PredictRequest, read_request
from npu_serving.client.model_types import ModelMetadata, Signature, TensorInfo
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.serving.first_request import PREDICT
from npu_serving.trials.cache_requests import CacheRequest, is_local, local_requests, remote_requests

GEARS: dict[str, Any] = {"input_shape": "x:-1,3", "dynamic_dims": "1;2", "dynamic_node_type": 1}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for version in (1, 2, 12):
        directory = tmp_path / "m" / str(version)
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").write_bytes(wire.simple_model({"x": [-1, 3]}))
    return tmp_path / "m"


def golden(name: str = "g", request: str = "[[1, 2, 3]]", **more: Any) -> GoldenRequest:
    return GoldenRequest(name, "m", read_request(request), **more)


def asked(base: Path, *requests: GoldenRequest, npu: dict[str, Any] | None = None, **model: Any) -> list[CacheRequest]:
    deployed = DeployedModel("m", str(base), **model)
    deployment = DeploymentFile(1, (deployed,), npu=npu or {})
    return list(local_requests(deployment, deployed, requests))


def test_the_newest_version_is_asked_by_its_golden_requests_and_without_any_by_zeros(base: Path) -> None:
    (zeros,) = asked(base)
    assert (zeros.version, zeros.source) == (12, "zeros")
    assert zeros.request == PredictRequest("inputs", {"x": [[0.0, 0.0, 0.0]]}, "serving_default")
    found = asked(base, golden(), golden("h", '{"inputs": {"x": [[1, 2, 3]]}}', api="grpc"))
    assert [(each.source, each.over_grpc) for each in found] == [
        ("golden request g", False),
        ("golden request h", True),
    ]


def test_every_version_that_is_served_is_asked_and_a_request_for_one_of_them_asks_that(base: Path) -> None:
    by_version = golden("two", version=2)
    by_label = golden("stable", label="stable")
    found = asked(base, golden(), by_version, by_label, versions=LatestVersions(2), labels={"stable": 12})
    assert [(each.version, each.source) for each in found] == [
        (12, "golden request g"),
        (12, "golden request stable"),
        (2, "golden request g"),
        (2, "golden request two"),
    ]
    (gone, there) = asked(base, versions=(7, 2))
    assert (gone.version, gone.request, gone.why_not) == (7, None, "it is not there")
    assert there.request is not None
    assert [each.version for each in asked(base, versions="all")] == [12, 2, 1]


def test_with_gears_one_request_is_made_for_each_of_zeros_or_of_a_golden_request_that_fits_or_is_made_to_fit(
    base: Path,
) -> None:
    of_zeros = asked(base, npu=GEARS)
    assert [each.request.values for each in of_zeros if each.request] == [
        {"x": [[0.0] * 3]},
        {"x": [[0.0] * 3, [0.0] * 3]},
    ]
    assert [each.source for each in of_zeros] == ["zeros, gear x [1, 3]", "zeros, gear x [2, 3]"]
    fitted = asked(base, golden(request="[[1, 2, 3]]"), npu=GEARS)
    assert [each.request.values for each in fitted if each.request] == [
        {"x": [[1.0, 2.0, 3.0]]},
        {"x": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]},
    ]
    assert fitted[0].source == "golden request g, gear x [1, 3]"


@pytest.mark.parametrize(
    ("request_text", "npu", "why"),
    [
        ("[[1, 2]]", GEARS, "has the shape [1, 2]"),
        ('{"signature_name": "none", "instances": [[1, 2, 3]]}', GEARS, "no signature 'none'"),
        ("[[1, 2, 3]]", {**GEARS, "input_shape": "x:-1,3;y:1"}, "do not fit the signature"),
    ],
)
def test_what_can_not_be_made_to_fit_is_not_asked_and_it_is_said_why(
    base: Path, request_text: str, npu: dict[str, Any], why: str
) -> None:
    (refused,) = asked(base, golden(request=request_text), npu=npu)
    assert refused.request is None
    assert why in refused.why_not


def test_a_damaged_model_is_not_asked_and_it_is_said_why(base: Path) -> None:
    (base / "12" / "saved_model.pb").write_bytes(b"\x0a\xff")
    (refused,) = asked(base)
    assert refused.request is None
    assert "saved_model.pb" in refused.why_not


def test_a_model_elsewhere_is_asked_by_what_its_server_says_but_for_gears_without_a_golden_request() -> None:
    assert not is_local(DeployedModel("m", "s3://bucket/m"))
    assert not is_local(DeployedModel("m", "/nonexistent/m"))
    signature = Signature("serving_default", PREDICT, (TensorInfo("x", "DT_FLOAT", (-1, 2)),), ())
    metadata = ModelMetadata("m", 3, (signature,))
    (zeros,) = remote_requests("m", metadata, (), has_gears=False)
    assert (zeros.version, zeros.source, zeros.request is not None) == (None, "zeros", True)
    (unknown,) = remote_requests("m", metadata, (), has_gears=True)
    assert unknown.request is None
    assert "record a golden request for each gear" in unknown.why_not
    (known,) = remote_requests("m", metadata, (dataclasses.replace(golden(), version=3),), has_gears=True)
    assert known.request is not None
