"""A deployment's server beside one that may be running: other ports, and what is said while it is waited for."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, MonitoringOptions, ServerOptions
from npu_serving.trials import spare_server
from npu_serving.trials.spare_server import FIRST_ANSWER_MS, on_spare_ports, spare_ports, ticking


class Said:
    """What a person reads of a progress."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.twice = threading.Event()

    def update(
        self, done: float, *, total: float | None = None, detail: str = "", under_way: Sequence[str] = ()
    ) -> None:
        self.details.append(f"{done:g} of {total:g}: {detail}" if total else detail)
        if len(self.details) > 1:
            self.twice.set()


def test_while_something_takes_long_it_is_said_what_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_server, "SECONDS_BETWEEN_TICKS", 1.01)
    said, before = Said(), threading.active_count()
    with ticking(said, "resnet", 1, 4):
        assert said.twice.wait(60)
    assert said.details[0] == "1 of 4: resnet"
    assert said.details[1].startswith("1 of 4: resnet, 1.0 s")
    assert threading.active_count() == before, "nobody is left to say more"


def test_the_ports_differ_and_nobody_listens_there() -> None:
    ports = spare_ports(20)
    assert len(set(ports)) == 20
    with ExitStack() as held:
        for port in ports:
            held.enter_context(socket.socket()).bind(("127.0.0.1", port))


def test_a_deployment_has_other_ports_there_no_socket_and_the_time_that_compiling_takes() -> None:
    server = ServerOptions(port=8500, rest_api_port=0, grpc_socket_path="/run/s", monitoring=MonitoringOptions())
    deployment = DeploymentFile(1, (DeployedModel("m", "/m"),), server=server, npu={})
    spare = on_spare_ports(deployment)
    assert spare.server.port != 8500
    assert spare.server.rest_api_port not in (0, spare.server.port)
    assert (spare.server.grpc_socket_path, spare.server.rest_api_timeout_in_ms) == (None, FIRST_ANSWER_MS)
    assert dataclasses.replace(spare, server=server) == deployment, "all else is the deployment's"
