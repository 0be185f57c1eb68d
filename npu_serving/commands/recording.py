"""Requests of live traffic, recorded and shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"output": Path, "seed": int},
    help={
        "url": "the server that is asked: grpc://HOST:8500, or http://HOST:8501 for its REST API",
        "listen": "the port that clients ask in its place, or HOST:PORT",
        "output": "the file to write, such as requests.rec",
        "share": "the part of the requests to keep, such as 0.1; all by default",
        "seed": "a number that the choice of these depends on; 0 by default",
        "redact": "an input whose values are not kept, only type and shape (repeatable)",
        "max_size": "how large the file may become, such as 1GB; requests are passed on after that, and not kept",
        "duration": "end after so many seconds; by default Ctrl-C ends it",
    },
)
def record(
    call: Call,
    url: str = "",
    listen: str = "",
    output: Path | None = None,
    share: str = "1",
    seed: int = 0,
    redact: tuple[str, ...] = (),
    max_size: str = "",
    duration: str = "",
    dry_run: bool = False,
) -> Result:
    """Keep the requests that clients send to a server, in a file, while they pass through unchanged."""
    from npu_serving.cli import seconds
    from npu_serving.recording.record import plan_recording
    from npu_serving.recording.record import record as recorded

    missing = [flag for flag, given in (("--url", url), ("--listen", listen), ("--output", output)) if not given]
    if missing or output is None:
        raise RequestError(
            f"record needs {' and '.join(missing)}.",
            cause="it stands between clients and a server, and writes a file",
            cure="./inv record --url grpc://localhost:8500 --listen 9500 --output requests.rec",
        )
    plan = plan_recording(
        url=url,
        listen=listen,
        output=output.absolute(),
        share=share,
        seed=seed,
        redact=redact,
        max_size=max_size,
        duration_s=seconds(duration, "--duration") if duration else 0.0,
    )
    return plan if dry_run else recorded(plan, call.console)


@command(help={"file": "a file that ./inv record wrote"})
def show_recording(_call: Call, file: str) -> Result:
    """Show what a recorded file holds: models, rates, and the shapes of the inputs, by which gears are chosen."""
    from npu_serving.recording.shown_recording import show_recording as shown
    from npu_serving.settings import user_path

    return shown(user_path(file, "the recorded file"))
