"""A deployment's server on spare ports, beside one that may be running by the same file: to ask it, and to end it."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from npu_serving.asking import rest_client
from npu_serving.console import Progress, duration_text
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.serving.asked_models import asked_models, lacking
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.from_build import plan_deployment
from npu_serving.serving.server import RunningServer, started
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_TICKS = 1.0
FIRST_ANSWER_S = 3600
"""For how long the answer to a request is waited for that has a model compiled."""
FIRST_ANSWER_MS = 1000 * FIRST_ANSWER_S  # rest_api_timeout_in_ms: by default the server gives a REST call up after 30 s


def spare_ports(count: int) -> tuple[int, ...]:
    """TCP ports that nothing listens on now."""
    with ExitStack() as held:  # until all are found, so that they differ
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def on_spare_ports(deployment: DeploymentFile) -> DeploymentFile:
    """The deployment with ports that nothing listens on, and without what only its own clients need."""
    port, rest_api_port = spare_ports(2)
    server = dataclasses.replace(
        deployment.server,
        port=port,
        rest_api_port=rest_api_port,
        rest_api_timeout_in_ms=FIRST_ANSWER_MS,
        grpc_socket_path=None,
        monitoring=None,
        tls=None,
    )
    return dataclasses.replace(deployment, server=server)


def plan_spare(
    settings: Settings, deployment: DeploymentFile, file: Path, *, build: str = "", dry_run: bool = False
) -> ServerPlan:
    """How a build's server is started by the deployment, which on_spare_ports() gave its ports.

    Its files are in a directory of their own: those of a server that runs by the same file stay as they are.
    """
    source = DeployedFrom(file.with_name(f"{file.name}.spare"))
    return plan_deployment(settings, deployment, source, build=build, dry_run=dry_run)


@contextlib.contextmanager
def started_whole(plan: ServerPlan, *, log_path: Path, timeout_s: float, progress: Progress) -> Iterator[RunningServer]:
    """A server all of whose models are available while the block runs. Raises what started() raises."""
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        with ticking(progress, "the server loads its models"):
            server = stack.enter_context(started(plan, log_path=log_path, timeout_s=timeout_s))
            for model in asked_models(plan.argv):
                _wait_for(model, server, deadline)
        yield server


@contextlib.contextmanager
def ticking(progress: Progress, what: str, done: float = 0, total: float | None = None) -> Iterator[None]:
    """While the block runs, which may wait for minutes, the progress says what goes on and for how long so far."""
    begun, ended = time.monotonic(), threading.Event()

    def tick() -> None:
        while True:
            seconds = time.monotonic() - begun
            progress.update(done, total=total, detail=what if seconds < 1 else f"{what}, {duration_text(seconds)}")
            if ended.wait(SECONDS_BETWEEN_TICKS):
                return

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _wait_for(model: ServedModel, server: RunningServer, deadline: float) -> None:
    """Returns when all of the model is available. ServerError where it has failed, or is not in time."""
    while True:
        try:
            missing = lacking(model, rest_client.model_status(server.rest_url, model.name))
        except NpuServingError as error:
            missing = (error.what,)
        if not missing:
            return
        if any(": END" in why for why in missing) or time.monotonic() > deadline:
            raise ServerError(
                f"{model.name} is not available: {'; '.join(missing)} ({server.log_path}).",
                cure=f"correct what the message names; the log is {server.log_path}",
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)
