"""What serve is asked for becomes a plan: of a server that is not started yet, or that takes the place of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.models.layout import model_place
from npu_serving.options.server_flags import checked_flags
from npu_serving.serving.from_build import plan_current, plan_deployment
from npu_serving.serving.golden_request import golden_requests
from npu_serving.serving.probes import check_probe_port
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.serve_request import ServeRequest
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import KnownServer, server_name
from npu_serving.serving.taken_ports import refuse_taken
from npu_serving.settings import Settings

RUN = "run"


@dataclass(frozen=True)
class Launch:
    """A server that can be started: how, and when it counts as ready."""

    request: ServeRequest
    plan: ServerPlan
    terms: ReadyTerms


def plan_launch(
    settings: Settings,
    request: ServeRequest,
    *,
    warn: Callable[[str], None],
    dry_run: bool = False,
    in_place_of: KnownServer | None = None,
) -> Launch:
    """How to start the server that is asked for; `in_place_of` is one that will have been stopped by then.

    With `dry_run` no file is written. Raises RequestError and ServerError for whatever would keep the server from
    serving, a server of `serve` that has one of its ports among it.
    """
    if request.adapter:
        settings = dataclasses.replace(settings, adapter=request.adapter)
    deployment = None
    ports = (request.port, request.rest_api_port)
    if request.deployed is not None:
        deployment = read_deployment(request.deployed.file, request.deployed.overlays, request.deployed.values)
        ports = (deployment.server.port, deployment.server.rest_api_port)
    refuse_taken(settings.build_root, (*ports, request.probe_port), request.deployed, in_place_of)
    spared = _processes_of(in_place_of)
    if request.deployed is not None and deployment is not None:
        plan = plan_deployment(
            settings, deployment, request.deployed, build=request.build, dry_run=dry_run, spared=spared
        )
    else:
        plan = plan_current(
            settings,
            build=request.build,
            model_base_path=model_place(request.model_base_path, "--model-base-path")
            if request.model_base_path
            else None,
            model_name=request.model_name,
            port=request.port,
            rest_api_port=request.rest_api_port,
            platform_config_file=request.platform_config_file,
            extra_flags=request.flags,
            spared=spared,
        )
    if request.probe_port:
        check_probe_port(request.probe_port, plan.port, plan.rest_api_port, spared=spared)
    plan = dataclasses.replace(plan, directory=run_directory(settings.build_root, plan))
    golden = golden_requests(settings, deployment)
    for error in golden.errors:  # others need these files, the server runs without them
        warn(str(error))
    by_name = deployment is not None and deployment.golden is not None
    terms = ReadyTerms(golden.requests, request.ready_timeout, request.probe_port, by_name=by_name)
    return Launch(_kept(request), plan, terms)


def run_directory(build_root: Path, plan: ServerPlan) -> Path:
    """The directory of its own in which a server runs: dumps, graphs, kernel_meta fall there."""
    if plan.deployed is not None:
        return plan.deployed.directory(build_root) / RUN
    name = server_name(plan.rest_api_port, plan.port)
    return build_root.absolute() / "deployments" / f"by-flags-{name}" / RUN


def _processes_of(server: KnownServer | None) -> frozenset[int]:
    if server is None or server.record is None:
        return frozenset()
    return frozenset(pid for pid in (server.record.pid, server.record.watcher) if pid)


def _kept(request: ServeRequest) -> ServeRequest:
    """The request as it means the same from any directory."""
    flags = checked_flags(request.flags)
    return dataclasses.replace(request, flags=tuple(f"--{name}={value}" for name, value in flags.items()))
