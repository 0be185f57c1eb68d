"""restart: stops a server and starts it in the background, with what it was started with; planned before the stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.serving.detaching import DetachedServer, place_of_log, serve_detached
from npu_serving.serving.launch import plan_launch
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import KnownServer
from npu_serving.serving.stopping import StoppedServer, stop_server
from npu_serving.settings import Settings


@dataclass(frozen=True)
class RestartedServer:
    """What was stopped, if it ran, and what was started; before that what is going to be."""

    server: KnownServer
    plan: ServerPlan
    stopped: StoppedServer | None = None
    started: DetachedServer | None = None

    @property
    def exit_code(self) -> int:
        """That of the start."""
        return self.started.exit_code if self.started is not None else 0

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "name": self.server.name,
            "changes": list(self._changes()),
            "plan": self.plan.to_json(),
            "stopped": self.stopped.to_json() if self.stopped is not None else None,
            "started": self.started.to_json() if self.started is not None else None,
        }

    def text(self) -> str:
        """For a person."""
        changes = [f"change: {line}" for line in self._changes()]
        if self.started is not None:
            stopped = [self.stopped.text()] if self.stopped is not None else []
            return "\n".join([*changes, *stopped, self.started.text()])
        runs = self.server.is_running
        first = f"would be stopped ({self.server.describe()}) and started again" if runs else "would be started"
        return "\n".join([f"Server {self.server.name} {first}:", *changes, self.plan.text()])

    def _changes(self) -> Sequence[str]:
        """What will be otherwise than it was."""
        record, changes = self.server.record, []
        if record is None:
            return ()
        if record.build != self.plan.build:
            changes.append(f"build {record.build or '?'} becomes {self.plan.build or '?'}")
        now = self.plan.deployed
        if record.deployed is not None and now is not None and record.deployed.digest != now.digest:
            changes.append(f"{now.file} was changed since it was started")
        if (record.rest_api_port, record.grpc_port) != (self.plan.rest_api_port, self.plan.port):
            changes.append(f"its ports become gRPC {self.plan.port} and REST {self.plan.rest_api_port}")
        if record.log is None and self.server.is_running:
            changes.append("it ran in the foreground, and will run in the background")
        return tuple(changes)


def restart_server(
    settings: Settings, server: KnownServer, reporter: Reporter, *, timeout_s: float, wait: bool, dry_run: bool = False
) -> RestartedServer:
    """Stops the server, if it runs, and starts it with what it was started with, by the deployment file as it is now.

    Raises, before anything is stopped, what the start would raise; RequestError for a server of which it isn't known
    how to start it.
    """
    record = server.record
    if record is None or record.request is None:
        raise RequestError(
            f"How to start server {server.name} again is not known.",
            cause="an earlier version of this project has started it",
            cure=f"./inv stop {server.name}, then start it with ./inv serve --detach",
        )
    dry = plan_launch(settings, record.request, warn=reporter.warn, dry_run=True, in_place_of=server)
    planned = RestartedServer(server, dry.plan)
    if dry_run:
        return planned
    place_of_log(dry.plan, settings.build_root)
    stopped = stop_server(settings.build_root, server, reporter, timeout_s=timeout_s) if server.is_running else None
    try:
        launch = plan_launch(settings, record.request, warn=lambda _text: None)
        started = serve_detached(launch, reporter, settings.build_root, wait=wait)
    except NpuServingError as error:
        if stopped is not None:
            error.what = f"Server {server.name} was stopped, and then did not start.\n{error.what}"
        raise
    return RestartedServer(server, launch.plan, stopped, started)
