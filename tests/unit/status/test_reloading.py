"""reload: a running server gets its file's list of models, and nothing else changes in silence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_server import serving
from model_server import record
from serving_messages import message_class

from npu_serving.console import Silent
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.render_deployment import plan_files, write_files
from npu_serving.deploy.rendering import MODELS_CONFIG, rendered_files
from npu_serving.errors import ActionNeeded, RequestError, ServerError
from npu_serving.serving.deployed_from import DeployedFrom, files_digest
from npu_serving.serving.server_record import KnownServer, RecordKeeper, known_servers
from npu_serving.settings import Settings
from npu_serving.status.all_servers import AskedServer, all_servers
from npu_serving.status.reloading import ReloadedServer, reload_server

A, B = ({"name": name, "base_path": f"/models/{name}"} for name in "ab")


class Site:
    """A deployment, and its server: this process, whose gRPC API keeps the lists that it gets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(build_root=root / "build")
        self.file = root / "d.yaml"
        self.lists: list[list[str]] = []
        self.refusal = ""
        self.url = ""

    def answer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        if self.refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        config = message_class("tensorflow.serving.ReloadConfigRequest").FromString(data).config
        self.lists.append([model.name for model in config.model_config_list.config])
        return b""

    def says(self, *models: dict[str, str], **sections: Any) -> None:
        server = {"port": self.port, "rest_api_port": 0, **sections.pop("server", {})}
        whole = {"version": 1, "models": list(models), "server": server, **sections}
        self.file.write_text(json.dumps(whole))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def starts(self, *words: str) -> None:
        """As `serve` does, by the file as it is."""
        deployment = read_deployment(self.file)
        directory = DeployedFrom(self.file).directory(self.settings.build_root)
        write_files(plan_files(deployment, directory))
        deployed = DeployedFrom(self.file, digest=files_digest(rendered_files(deployment, directory)))
        self.list = directory / MODELS_CONFIG
        self.keeps(deployed=deployed, argv=("server", *words), started=time.time())

    def keeps(self, **changes: Any) -> None:
        kept = record(0, grpc_port=self.port, models=("a",), uses_npu=False, **changes)
        self.keeper = RecordKeeper(self.settings.build_root, kept)
        self.keeper.began(os.getpid())

    def known(self) -> KnownServer:
        (server,) = known_servers(self.settings.build_root)
        return server

    def reload(self, *, dry_run: bool = False) -> ReloadedServer:
        return reload_server(self.settings, self.known(), Silent(), timeout_s=60, dry_run=dry_run)

    def shown(self) -> AskedServer:
        from npu_serving.status.read_again import read_again

        source = DeployedFrom(self.file)
        (found,) = all_servers(self.settings.build_root, {source.name: read_again(self.settings, source)})
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with serving({"HandleReloadConfigRequest": made.answer}, service="tensorflow.serving.ModelService") as server:
        made.url = server.url
        made.says(A)
        yield made


def test_the_server_gets_the_list_and_then_nothing_differs_any_more(site: Site) -> None:
    site.starts()
    assert site.reload().text() == f"Server grpc-{site.port} has the models of its file already."
    site.says(A, B)
    assert site.shown().due == "reload"
    planned = site.reload(dry_run=True)
    assert (site.lists, planned.models) == ([], ("a", "b"))
    assert planned.text().splitlines() == [
        f"Server grpc-{site.port} would get another list of models:",
        "  models.b: nothing -> /models/b",
    ]
    done = site.reload()
    assert site.lists == [["a", "b"]]
    assert "got the models of its file in" in done.text()
    found = site.shown()
    assert (found.due, [model.name for model in found.models]) == ("", ["a", "b"])
    site.keeper.is_ready(True, ())  # what `serve` keeps does not undo it
    assert site.shown().due == ""
    site.says(B)
    assert site.shown().due == "reload"
    site.reload()
    assert site.lists[1:] == [["b"]]


def test_what_needs_a_restart_is_refused_before_anything_is_sent(site: Site) -> None:
    site.starts()
    before = site.list.read_text()
    site.says(A, B, npu={})
    for dry_run in (True, False):
        with pytest.raises(RequestError, match="can't change while the server runs") as caught:
            site.reload(dry_run=dry_run)
        assert "npu" in caught.value.what
        assert caught.value.cure == f"./inv restart grpc-{site.port}"
    assert (site.lists, site.list.read_text()) == ([], before)


def test_a_list_that_the_server_refuses_stays_due_and_is_not_written(site: Site) -> None:
    site.starts()
    before = site.list.read_text()
    site.says(A, B)
    site.refusal = "no such version"
    with pytest.raises(ServerError, match="no such version"):
        site.reload()
    assert (site.list.read_text(), site.shown().due) == (before, "reload")
    site.refusal = ""
    site.reload()
    assert site.shown().due == ""


def test_a_server_that_reads_its_list_by_itself_is_sent_nothing(site: Site) -> None:
    site.says(A, server={"model_config_file_poll_wait_seconds": 1})
    site.starts("--model_config_file_poll_wait_seconds=1")
    site.says(A, B, server={"model_config_file_poll_wait_seconds": 1})
    site.reload()
    assert site.lists == []
    assert '"b"' in site.list.read_text()
    assert site.shown().due == ""


def test_a_server_of_flags_reads_the_list_that_a_flag_names(site: Site, tmp_path: Path) -> None:
    listed = tmp_path / "models.config"
    listed.write_text('model_config_list { config { name: "x" base_path: "/x" model_platform: "tensorflow" } }')
    past = time.time() - 100
    os.utime(listed, (past, past))
    site.keeps(argv=("server", f"--model_config_file={listed}"), started=past + 1)
    assert "already" in site.reload().text()
    os.utime(listed, (past + 2, past + 2))
    site.reload()
    assert site.lists == [["x"]]
    assert "already" in site.reload().text()
    listed.write_text("model_config_list {")
    with pytest.raises(RequestError, match="not in text format"):
        site.reload()


def test_what_can_not_be_reloaded_says_what_to_type_instead(site: Site) -> None:
    site.keeps(argv=("server", "--model_base_path=/models/a"))
    with pytest.raises(RequestError, match="has no list of models") as caught:
        site.reload()
    assert "./inv restart" in caught.value.cure
    site.starts()
    site.file.write_text("version: 1")
    with pytest.raises(RequestError) as caught:
        site.reload()
    assert caught.value.cure == f"./inv check-deployment {site.file}"
    site.keeper.ended(None)
    with pytest.raises(ActionNeeded, match="does not run"):
        site.reload()
