"""Which golden requests a server is asked, and what `smoke --record` takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.golden_places import golden_directory
from npu_serving.asking.request import read_request
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel
from npu_serving.errors import RequestError
from npu_serving.serving.golden_request import arrays_of, asked_for, golden_requests, of_models
from npu_serving.settings import Settings

GOLDEN = GoldenRequest("g", "m", read_request("[1]"), [2], model_base_path="/models/m")
DEPLOYMENT = DeploymentFile(1, (DeployedModel("m", "/models/m"),))


@pytest.mark.parametrize("tolerance", ["", "x", "-1", "1", "nan", "inf"])
def test_a_tolerance_that_makes_no_sense_is_refused(tolerance: str) -> None:
    with pytest.raises(RequestError, match="--tolerance"):
        asked_for("/models/m", "", "[1]", None, tolerance)


def test_recording_takes_a_model_and_a_request() -> None:
    for model, request in ((None, "[1]"), ("/m", None)):
        with pytest.raises(RequestError, match="needs a model and a request"):
            asked_for(model, "", request, None, "0.1")
    asked = asked_for("/models/resnet", "", "[1]", None, "0.1")
    assert (asked.name, asked.model, asked.tolerance.rtol, asked.tolerance.atol) == ("resnet", "resnet", 0.1, 0.1)
    asked = asked_for("/models/resnet", "r", "[1]", None, "0.1", name="batch-8", grpc=True)
    assert (asked.name, asked.model, asked.needs_grpc) == ("batch-8", "r", True)
    with pytest.raises(RequestError, match="can't be the name"):
        asked_for("/models/resnet", "r", "[1]", None, "0.1", name="a/b")


def test_only_a_file_of_arrays_is_kept_as_such() -> None:
    assert arrays_of("/x/request.npz") == Path("/x/request.npz")
    assert [arrays_of(request) for request in (None, "-", "[1]", '{"a": ".npz"}', "x.json")] == [None] * 5


def test_a_deployment_may_have_a_directory_of_its_own_whose_requests_are_for_its_models_wherever_those_are(
    tmp_path: Path,
) -> None:
    settings = dataclasses.replace(Settings(), dist_root=tmp_path / "dist")
    write_golden(golden_directory(settings.dist_root), GOLDEN)
    write_golden(tmp_path / "own", dataclasses.replace(GOLDEN, name="own", model_base_path="/elsewhere/m"))
    own = dataclasses.replace(DEPLOYMENT, golden=str(tmp_path / "own"))
    for deployment, name in ((DEPLOYMENT, "g"), (own, "own")):
        (found,) = of_models(golden_requests(settings, deployment).sound(), deployment)
        assert found.name == name
    elsewhere = dataclasses.replace(DEPLOYMENT, models=(DeployedModel("m", "/elsewhere/m"),))
    with pytest.raises(RequestError, match=r"No golden request is for a model of the deployment \(m\)") as caught:
        of_models(golden_requests(settings, elsewhere).sound(), elsewhere)
    assert "--record" in caught.value.cure
