"""The CANN that is installed here, and the units that watch it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("cann_root", "adapter"),
    help={"cann_root": "the directory that contains cann/ (before CANN 8.5 ascend-toolkit/) and tfplugin/"},
)
def cann_info(call: Call) -> Result:
    """Show which parts of CANN are installed here, and what is wrong with them (exit code 3 if anything)."""
    from npu_serving.cann.info import cann_info

    return cann_info(call.settings)


@command(
    settings=("source", "adapter", "adapters"),
    optional=("file",),
    kinds={"add": str},
    help={
        "file": "a _tf_adapter.so, or the wheel that holds it; that of the CANN installed here by default",
        "add": "keep what it needs of the server under the name of that release, so that builds fit it from then on",
    },
)
def adapter_needs(call: Call, file: str = "", add: str | None = None, dry_run: bool = False) -> Result:
    """Show what an adapter needs of the server, of CANN and of Python, and which known releases need the same."""
    from npu_serving.building.adapter_needs import adapter_needs

    return adapter_needs(call.settings, file, add=add, dry_run=dry_run)


@command(
    kinds={"directory": Path},
    help={
        "directory": "where to write the units: /etc/systemd/system, or ~/.config/systemd/user",
        "act": "let the service rebuild instead of only reporting",
        "user": "the user that a system service runs as",
    },
)
def render_watch_units(
    call: Call, directory: Path | None = None, act: bool = False, user: str = "", dry_run: bool = False
) -> Result:
    """Write a systemd path unit that notices a new CANN, and the service that it starts."""
    from npu_serving.errors import RequestError
    from npu_serving.upgrade.watch_units import render_watch_units

    if directory is None:
        raise RequestError(
            "--directory is required.",
            cause="it is where the units are written",
            cure="./inv render-watch-units --directory /etc/systemd/system",
        )
    return render_watch_units(call.settings, directory, act=act, user=user, dry_run=dry_run)
