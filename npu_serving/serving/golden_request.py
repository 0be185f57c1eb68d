"""Which golden requests a server is asked: those beside the builds, or those of its deployment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from npu_serving.asking.golden import GRPC, REST, GoldenRequest, Tolerance
from npu_serving.asking.golden_files import GoldenRequests, check_name, read_golden_requests, usual_name
from npu_serving.asking.golden_places import RECORD, golden_directory
from npu_serving.asking.npy import SUFFIX
from npu_serving.asking.request import read_request
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.errors import RequestError
from npu_serving.models.layout import model_place
from npu_serving.settings import Settings, user_path


def golden_requests(settings: Settings, deployment: DeploymentFile | None = None) -> GoldenRequests:
    """All of them: of the deployment's own directory, where it names one, else those beside the builds."""
    own = deployment.golden if deployment is not None else None
    return read_golden_requests(Path(own) if own else golden_directory(settings.dist_root))


def of_models(requests: Sequence[GoldenRequest], deployment: DeploymentFile) -> tuple[GoldenRequest, ...]:
    """Those for the deployment's models: by their names alone where it has a directory of its own for them.

    RequestError where it has none.
    """
    found = tuple(
        golden
        for golden in requests
        if any(golden.is_of(model.name, "" if deployment.golden else model.base_path) for model in deployment.models)
    )
    if not found:
        names = ", ".join(model.name for model in deployment.models[:5])
        raise RequestError(
            f"No golden request is for a model of the deployment ({names}).",
            cause="one is for the model whose name and directory it was recorded with",
            cure=f"record one: {RECORD}",
        )
    return found


def asked_for(
    model_base_path: str | None,
    model_name: str,
    request: str | None,
    platform_config_file: str | None,
    tolerance: str,
    *,
    name: str = "",
    grpc: bool = False,
) -> GoldenRequest:
    """The golden request that the flags of `smoke --record` describe, its answer not known yet."""
    if not model_base_path or request is None:
        raise RequestError("--record needs a model and a request.", cure=RECORD)
    try:
        allowed = float(tolerance)
    except ValueError:
        allowed = math.nan
    if not 0 <= allowed < 1:
        raise RequestError(
            f"--tolerance must be a number from 0 to 1, not {tolerance!r}.", cure="use a value such as 0.001"
        )
    base = model_place(model_base_path, "--model-base-path")
    config = user_path(platform_config_file, "--platform-config-file").absolute() if platform_config_file else None
    model = model_name or base.name
    return GoldenRequest(
        name=check_name(name) if name else usual_name(model),
        model=model,
        request=read_request(request),
        tolerance=Tolerance(allowed, allowed),
        api=GRPC if grpc else REST,
        model_base_path=str(base),
        platform_config_file=config,
    )


def arrays_of(request: str | None) -> Path | None:
    """The .npz file that was given as a request; None for one in JSON."""
    is_path = request is not None and request != "-" and request.lstrip()[:1] not in ("[", "{")
    return Path(request).expanduser() if is_path and request is not None and request.endswith(SUFFIX) else None
