"""Which server is meant: by a port, a model, a deployment, or by being the only one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from model_server import record

from npu_serving.errors import ActionNeeded, RequestError
from npu_serving.serving.chosen_servers import chosen_server, chosen_servers
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_record import RecordKeeper


def put(root: Path, rest: int, *, runs: bool = True, **changes: object) -> None:
    keeper = RecordKeeper(root, record(rest, **changes))
    keeper.began(os.getpid() if runs else 2**22 + 1)
    if not runs:
        keeper.ended(None)


def names(root: Path, name: str = "", **words: object) -> list[str]:
    return [server.name for server in chosen_servers(root, name=name, **words)]  # type: ignore[arg-type]


def test_any_of_its_ports_its_name_and_its_model_mean_a_server(tmp_path: Path) -> None:
    put(tmp_path, 8501, grpc_port=8500, probe_port=8502, models=("resnet",))
    put(tmp_path, 0, grpc_port=9000, models=("bert", "gpt"))
    for name in ("8501", "8500", "8502", "resnet"):
        assert names(tmp_path, name) == ["8501"]
    for name in ("9000", "grpc-9000", "bert", "gpt"):
        assert names(tmp_path, name) == ["grpc-9000"]
    assert names(tmp_path, every=True) == ["8501", "grpc-9000"]


def test_without_a_name_the_only_one_that_runs_is_meant(tmp_path: Path) -> None:
    assert names(tmp_path) == []
    put(tmp_path, 1, runs=False)
    assert names(tmp_path) == ["1"], "the only one that is known: restart and logs mean it"
    put(tmp_path, 8501)
    assert names(tmp_path) == ["8501"]
    put(tmp_path, 8503)
    with pytest.raises(RequestError, match=r"2 servers run here: 8501: process .*; 8503: process ") as caught:
        chosen_server(tmp_path)
    assert caught.value.cure == "name one of them", "only stop has an --all"
    assert names(tmp_path, every=True) == ["8501", "8503"]


def test_who_names_a_port_means_the_server_that_runs_and_not_one_that_ran_there(tmp_path: Path) -> None:
    put(tmp_path, 8501, grpc_port=8500, runs=False)
    assert names(tmp_path, "8500") == ["8501"]
    put(tmp_path, 8601, grpc_port=8500)
    assert names(tmp_path, "8500") == ["8601"]


def test_a_deployment_means_all_servers_of_it(tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    put(tmp_path, 8501, deployed=DeployedFrom(file))
    put(tmp_path, 8503, deployed=DeployedFrom(file, values=("server.port=1",)))
    put(tmp_path, 8505)
    assert names(tmp_path, deployment=file) == ["8501", "8503"]
    with pytest.raises(RequestError, match="Several servers are of that deployment: 8501, 8503"):
        chosen_server(tmp_path, deployment=file)
    with pytest.raises(ActionNeeded, match=r"is known here by"):
        names(tmp_path, deployment=tmp_path / "other.yaml")


def test_a_model_of_several_servers_is_not_guessed(tmp_path: Path) -> None:
    put(tmp_path, 8501, models=("m",))
    put(tmp_path, 8503, models=("m",))
    with pytest.raises(RequestError, match="'m' means several servers: 8501, 8503"):
        names(tmp_path, "m")


def test_an_unknown_name_is_answered_with_those_that_are_known_and_who_else_listens_there(tmp_path: Path) -> None:
    with pytest.raises(ActionNeeded, match=r"known here by 'x'") as caught:
        names(tmp_path, "x")
    assert "./inv serve --deployment deployment.yaml --detach" in caught.value.cure
    put(tmp_path, 1, runs=False)
    put(tmp_path, 8501)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with pytest.raises(ActionNeeded, match=rf"by '{port}'; process {os.getpid()} .* is left alone") as caught:
            names(tmp_path, port)
    assert caught.value.cure == "name one of these: 1 (has ended); 8501"


def test_one_server_is_to_be_there_where_one_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ActionNeeded, match=r"No server of ./inv serve runs here") as caught:
        chosen_server(tmp_path)
    assert "--detach" in caught.value.cure
    put(tmp_path, 1, runs=False)
    assert chosen_server(tmp_path).name == "1"
    put(tmp_path, 2, runs=False)
    with pytest.raises(ActionNeeded) as caught:
        chosen_server(tmp_path)
    assert caught.value.cure == "name one that has ended: 1, 2"
