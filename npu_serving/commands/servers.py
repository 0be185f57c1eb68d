"""stop, restart, reload and logs: the servers that `serve` runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result
    from npu_serving.serving.server_record import KnownServer

OF_A_SERVER = {
    "name": "its port, or the name of one of its models; without any the one that runs",
    "deployment": "the server of that deployment.yaml",
}
TIMEOUT_S = 60
TIMEOUT_OF_A_RELOAD_S = 600
MOST_LINES = 1_000_000


@command(
    optional=("name",),
    chosen_by=("deployment",),
    kinds={"deployment": Path},
    help={
        **OF_A_SERVER,
        "all": "every server that ./inv serve runs here",
        "timeout": f"after how many seconds SIGTERM is followed by SIGKILL; {TIMEOUT_S} by default",
    },
)
def stop(
    call: Call,
    name: str = "",
    deployment: Path | None = None,
    all: bool = False,
    timeout: int = TIMEOUT_S,
    dry_run: bool = False,
) -> Result:
    """Stop a server that ./inv serve runs, in the background or in a terminal, and wait until it is gone."""
    from npu_serving.serving.chosen_servers import chosen_servers
    from npu_serving.serving.stopping import stop_servers

    check_timeout(timeout)
    if all:
        refuse_together("--all", "it stops every server", name=name, deployment=deployment)
    if deployment is not None:
        refuse_together("--deployment", "it names the server", name=name)
    root = call.settings.build_root
    chosen = chosen_servers(root, name=name, deployment=deployment, every=all, or_else=", or --all")
    return stop_servers(root, chosen, call.console, timeout_s=timeout, dry_run=dry_run)


@command(
    optional=("name",),
    chosen_by=("deployment",),
    kinds={"deployment": Path},
    help={
        **OF_A_SERVER,
        "timeout": f"after how many seconds SIGTERM is followed by SIGKILL; {TIMEOUT_S} by default",
        "no_wait": "return when it is started, not when it is ready",
    },
)
def restart(
    call: Call,
    name: str = "",
    deployment: Path | None = None,
    timeout: int = TIMEOUT_S,
    no_wait: bool = False,
    dry_run: bool = False,
) -> Result:
    """Stop a server and start it in the background: as it was started, by the deployment file as it is now."""
    from npu_serving.serving.restarting import restart_server

    check_timeout(timeout)
    server = _one(call, name, deployment)
    return restart_server(call.settings, server, call.console, timeout_s=timeout, wait=not no_wait, dry_run=dry_run)


@command(
    optional=("name",),
    chosen_by=("deployment",),
    kinds={"deployment": Path},
    help={
        **OF_A_SERVER,
        "timeout": f"for how many seconds its models are waited for; {TIMEOUT_OF_A_RELOAD_S} by default",
    },
)
def reload(
    call: Call,
    name: str = "",
    deployment: Path | None = None,
    timeout: int = TIMEOUT_OF_A_RELOAD_S,
    dry_run: bool = False,
) -> Result:
    """Have a running server read its list of models again, by the deployment file as it is now."""
    from npu_serving.status.reloading import reload_server

    check_timeout(timeout)
    server = _one(call, name, deployment)
    return reload_server(call.settings, server, call.console, timeout_s=timeout, dry_run=dry_run)


@command(
    optional=("name",),
    chosen_by=("deployment",),
    kinds={"deployment": Path},
    lines_with="follow",
    short={"follow": "f"},
    help={
        **OF_A_SERVER,
        "lines": "how many lines of its end; 50 by default",
        "follow": "go on with what is written, until the server has ended",
    },
)
def logs(
    call: Call, name: str = "", deployment: Path | None = None, lines: int = 50, follow: bool = False
) -> Result | Iterator[Result]:
    """Show the output of a server that runs in the background, or ran there."""
    from npu_serving.serving.server_log import followed, last_lines, log_of
    from npu_serving.serving.server_record import known_servers

    if lines > MOST_LINES:
        raise RequestError(
            f"--lines can't be {lines}.", cure=f"use a number up to {MOST_LINES}, or read the file itself"
        )
    server = _one(call, name, deployment)
    log = log_of(server)
    if not follow:
        return last_lines(log, lines)

    def is_over() -> bool:
        servers = known_servers(call.settings.build_root)
        return not any(other.name == server.name and other.is_running for other in servers)

    return followed(log, lines, is_over=is_over)


def _one(call: Call, name: str, deployment: Path | None) -> KnownServer:
    from npu_serving.serving.chosen_servers import chosen_server

    if deployment is not None:
        refuse_together("--deployment", "it names the server", name=name)
    return chosen_server(call.settings.build_root, name=name, deployment=deployment)
