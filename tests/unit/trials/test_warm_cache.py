"""What a server says of the warm-up files that it has replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, ServerOptions
from npu_serving.models.warm_up_file import WARM_UP_FILE
from npu_serving.trials.cache_requests import CacheRequest
from npu_serving.trials.warm_cache import ReplayedWarmUp, WarmCacheResult, WarmedRequest, replayed_in

LOADED = "Loading servable version {name: m version: 7}\n"
REPLAYED = (
    "I tensorflow_serving/servables/tensorflow/saved_model_warmup.cc:166] Finished reading warmup data for model at "
    "%s/assets.extra/tf_serving_warmup_requests. Number of warmup records read: 3. "
    "Elapsed time (microseconds): 2500000.\n"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for version in ("5", "007"):
        file = tmp_path / "m" / version / WARM_UP_FILE
        file.parent.mkdir(parents=True)
        file.touch()
    return tmp_path / "m"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_server_names_the_file_that_it_has_replayed(base: Path, slash: str) -> None:
    deployment = DeploymentFile(1, (DeployedModel("m", f"{base}{slash}"),))
    output = LOADED + REPLAYED % f"{base}{slash}/007"
    (replayed,) = replayed_in(output, deployment)
    assert replayed == ReplayedWarmUp("m", 7, 3, 2.5)
    assert "was replayed (3 requests, 2.5 s)" in replayed.text()


def test_a_file_of_a_version_that_was_loaded_and_of_which_nothing_is_said_was_not_replayed(base: Path) -> None:
    deployment = DeploymentFile(1, (DeployedModel("m", str(base)),))
    (replayed,) = replayed_in(LOADED + REPLAYED % "/other/007", deployment)
    assert replayed == ReplayedWarmUp("m", 7)
    assert "NOT replayed" in replayed.text()
    assert replayed_in("", deployment) == ()
    without = DeploymentFile(1, deployment.models, server=ServerOptions(warm_up=False))
    assert replayed_in(LOADED, without) == ()


def test_a_model_that_could_not_be_asked_is_told_with_how_its_request_is_recorded(tmp_path: Path) -> None:
    asked = WarmedRequest(CacheRequest("a b", 1, "serving_default", "zeros", why_not="the shape is not known"))
    result = WarmCacheResult((asked,), (), (), "6.3.RC2", tmp_path / "log", "./inv serve", True, 1.0)
    *_, step = result.text().split("\n")
    assert step.startswith("Next: ./inv smoke --record --model-base-path PATH --request REQUEST ")
    assert "--model-name 'a b' " in step


@pytest.mark.parametrize(("used_npu", "step"), [(False, "./inv cann-info shows"), (True, "correct what the answers")])
def test_what_went_wrong_otherwise_has_a_next_step_too(tmp_path: Path, used_npu: bool, step: str) -> None:
    failed = WarmedRequest(CacheRequest("m", 1, "serving_default", "zeros"), why="no such input")
    result = WarmCacheResult((failed,), (), (), "6.3.RC2", tmp_path / "log", "./inv serve", used_npu, 1.0)
    assert result.exit_code == 3
    assert result.text().split("\n")[-1].startswith(f"Next: {step}")
