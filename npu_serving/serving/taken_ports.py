"""Ports and directories that a server of serve has, or is about to have, and that a second one may not have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from npu_serving.errors import ServerError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_record import KnownServer, known_servers


def refuse_taken(
    build_root: Path, ports: Collection[int], deployed: DeployedFrom | None, in_place_of: KnownServer | None = None
) -> None:
    """ServerError where a server of `serve` that runs has one of the ports, or is of that very deployment.

    That it is about to listen, no look at the ports shows: TensorFlow Serving opens gRPC when its models are loaded.
    One that is `in_place_of` will have been stopped by then.
    """
    for server in known_servers(build_root):
        record = server.record
        if record is None or not server.is_running or (in_place_of is not None and server.name == in_place_of.name):
            continue
        both = sorted({record.grpc_port, record.rest_api_port, record.probe_port} & set(ports) - {0})
        if both:
            raise ServerError(
                f"Port {both[0]} is that of a server of ./inv serve that runs: {server.describe()}.",
                cause="it was started before; gRPC would let both listen, and each would get half of the calls",
                cure=f"./inv stop {server.name} ends it, ./inv restart {server.name} renews it; or choose other ports",
            )
        if deployed is not None and record.deployed is not None and record.deployed.name == deployed.name:
            raise ServerError(
                f"A server of this deployment runs already, at other ports: {server.describe()}.",
                cause="both would use the same files and directory",
                cure=f"./inv stop {server.name} ends it; for a second one give the ports by --set",
            )
