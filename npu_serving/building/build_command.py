"""The command that builds with given settings, for a message: typed as it stands, it does that."""

from __future__ import annotations

import dataclasses

from npu_serving.settings import Settings, load_settings, table_of
from npu_serving.writers.shell import command_line

_DECIDING = ("source", "runner", "docker_base_image", "also_fits", "bazel_args", "xla", "linker")
"""What a build is made again with; an upgrade takes it from the build, build-serving from invoke.yaml."""


def build_command(settings: Settings, *, xla: str) -> str:
    """`./inv build-serving` with a flag for each deciding setting that invoke.yaml says otherwise."""
    wanted, stated, rows = dataclasses.replace(settings, xla=xla), load_settings(), table_of()
    words = ["./inv", "build-serving"]
    for name in _DECIDING:
        value = getattr(wanted, name)
        if value != getattr(stated, name):
            for text in value if isinstance(value, tuple) else [value]:
                flag = f"--{rows[name].flag}"
                words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return command_line(words)
