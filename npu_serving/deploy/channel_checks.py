"""The settings of gRPC in a deployment, by their names: one that gRPC does not know is passed over in silence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.documents import read_document
from npu_serving.findings import WARNING, Finding

KIND = "unknown-channel-argument"
TABLE = Path(__file__).with_name("grpc_channel_arguments.yaml")


@dataclass(frozen=True)
class ChannelArguments:
    """grpc_channel_arguments.yaml."""

    names: tuple[str, ...]


def check_channel_arguments(names: Iterable[str]) -> Iterator[Finding]:
    """Those that the server's gRPC does not know, with the nearest that it does."""
    asked = list(names)
    known = read_document(TABLE, ChannelArguments).names if asked else ()
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            what = f"gRPC does not know the setting {name}, and would silently pass over it."
            cure = f"write {near[0]}" if near else "leave it out"
            yield Finding(what, cure, WARNING, KIND, "server.grpc_channel_arguments")
