"""How long the first request of a model takes, against what the server lets a REST call wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.findings import WARNING, Finding
from npu_serving.models.warm_up_file import WARM_UP_FILE
from npu_serving.shown_text import in_a_line

KIND = "rest-timeout"


def check_first_answer(deployment: DeploymentFile, models: Iterable[CheckedModel]) -> Iterator[Finding]:
    """Models for the NPU without a warm-up, where REST calls are given up after the server's own 30 seconds."""
    server = deployment.server
    if not server.rest_api_port or server.rest_api_timeout_in_ms is not None:
        return
    cold = [
        in_a_line(model.name)
        for model in models
        if model.options is not None
        and any(not server.warm_up or not (version.path / WARM_UP_FILE).is_file() for version in model.versions)
    ]
    if cold:
        yield Finding(
            f"The first request of {', '.join(cold[:5])}{' and others' if cold[5:] else ''} compiles, which takes "
            "minutes, and a REST call is given up after 30 seconds, with the status 504.",
            "write a warm-up (./inv write-warmup), or server.rest_api_timeout_in_ms: 600000",
            WARNING,
            KIND,
            "server",
        )
