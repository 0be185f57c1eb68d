"""Requests of live traffic, recorded and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(help={"file": "a file that ./inv record wrote"})
def show_recording(_call: Call, file: str) -> Result:
    """Show what a recorded file holds: models, rates, and the shapes of the inputs, by which gears are chosen."""
    from npu_serving.recording.shown_recording import show_recording as shown
    from npu_serving.settings import user_path

    return shown(user_path(file, "the recorded file"))
