"""A model of a running server: the whole list goes to it, by its API or by the file that it reads again itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_server import serving
from model_server import record
from serving_messages import message_class

from npu_serving.client.model_types import VersionStatus
from npu_serving.console import Silent
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.errors import RequestError, ServerError
from npu_serving.publishing.served_model import ModelOfServer
from npu_serving.serving.asked_models import models_in
from npu_serving.serving.server_record import KnownServer
from npu_serving.settings import Settings

MODELS = [ServedModel("a", "/models/a", labels={"stable": 1}), ServedModel("b", "/models/b")]


@pytest.fixture
def lists() -> list[Any]:
    return []


@pytest.fixture
def port(lists: list[Any]) -> Iterator[int]:
    def answer(data: bytes, _context: grpc.ServicerContext) -> bytes:
        config = message_class("tensorflow.serving.ReloadConfigRequest").FromString(data).config
        lists.append({each.name: each for each in config.model_config_list.config})
        return b""

    with serving({"HandleReloadConfigRequest": answer}, service="tensorflow.serving.ModelService") as server:
        yield int(server.url.rpartition(":")[2])


def of_server(tmp_path: Path, port: int, *words: str, timeout_s: float = 60) -> ModelOfServer:
    file = tmp_path / "models.config"
    file.write_text(render_models_config(MODELS))
    made = record(0, grpc_port=port, argv=("server", f"--model_config_file={file}", *words))
    return ModelOfServer(Settings(build_root=tmp_path), KnownServer("grpc-1", made, None), "a", Silent(), timeout_s)


def test_the_whole_list_is_sent_with_one_model_changed_and_the_file_stays(
    tmp_path: Path, port: int, lists: list[Any]
) -> None:
    served = of_server(tmp_path, port)
    before = (tmp_path / "models.config").read_text()
    served.send(versions=(1, 2), labels={})
    (sent,) = lists
    assert list(sent) == ["a", "b"]
    assert list(sent["a"].model_version_policy.specific.versions) == [1, 2]
    assert not sent["a"].version_labels
    served.as_before()
    assert dict(lists[1]["a"].version_labels) == {"stable": 1}
    assert (tmp_path / "models.config").read_text() == before


def test_a_server_that_reads_its_list_again_gets_it_by_the_file_and_the_former_one_afterwards(
    tmp_path: Path, port: int, lists: list[Any]
) -> None:
    served = of_server(tmp_path, port, "--model_config_file_poll_wait_seconds=1")
    served.send(versions=(1, 2), labels={})
    changed = models_in((tmp_path / "models.config").read_text())
    assert (changed[0].versions, changed[0].labels, changed[1]) == ((1, 2), {}, MODELS[1])
    served.as_before()
    assert list(models_in((tmp_path / "models.config").read_text())) == MODELS
    assert lists == []


def test_a_server_without_a_list_says_how_it_gets_one(tmp_path: Path, port: int) -> None:
    made = record(0, grpc_port=port, argv=("server", "--model_base_path=/models/a", "--model_name=a"))
    served = ModelOfServer(Settings(build_root=tmp_path), KnownServer("grpc-1", made, None), "a", Silent(), 1)
    with pytest.raises(RequestError, match="has no list of models"):
        served.send(versions=(1,))
    assert served.looks_for_versions
    polls_once = record(0, argv=("server", "--file_system_poll_wait_seconds=0"))
    served = ModelOfServer(Settings(), KnownServer("grpc-1", polls_once, None), "a", Silent(), 1)
    assert not served.looks_for_versions


def test_a_version_is_waited_for_until_it_is_there_has_failed_or_takes_too_long(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = of_server(tmp_path, port, timeout_s=0.2)
    states: list[list[VersionStatus]] = [
        [],
        [VersionStatus(2, "LOADING", "OK", ""), VersionStatus(1, "AVAILABLE", "OK", "")],
        [VersionStatus(2, "AVAILABLE", "OK", "")],
    ]
    monkeypatch.setattr(
        served, "versions", lambda: {each.version: each for each in (states.pop(0) if len(states) > 1 else states[0])}
    )
    assert served.wait_until_loaded(2) >= 0
    states[:] = [[VersionStatus(2, "END", "UNKNOWN", "no such\nop")]]
    with pytest.raises(ServerError, match=r"could not load version 2 of a: no such\\nop"):
        served.wait_until_loaded(2)
    states[:] = [[VersionStatus(1, "AVAILABLE", "OK", ""), VersionStatus(2, "LOADING", "OK", "")]]
    with pytest.raises(ServerError, match=r"has not loaded version 2 of a within 0\.2 s"):
        served.wait_until_loaded(2)
    with pytest.raises(ServerError, match=r"has not unloaded a within 0\.2 s"):
        served.wait_until_unloaded(2)
    states[:] = [[VersionStatus(1, "END", "OK", "")]]
    served.wait_until_unloaded(2)
