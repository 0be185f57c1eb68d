"""What serve was asked for: kept in a server's record, so that restart can ask for the same from any directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving.serving.deployed_from import DeployedFrom


@dataclass(frozen=True)
class ServeRequest:
    """The flags of serve: by a deployment, or by the others. Paths in it are absolute."""

    deployed: DeployedFrom | None = None
    model_base_path: str = ""
    """A directory or a URL; "" where a flag names a list of models."""
    model_name: str = ""
    port: int = 0
    rest_api_port: int = 0
    platform_config_file: Path | None = None
    flags: tuple[str, ...] = ()
    build: str = ""
    """What was typed; "" for the build that is current when the server is started."""
    adapter: str = ""
    ready_timeout: int = 0
    probe_port: int = 0
