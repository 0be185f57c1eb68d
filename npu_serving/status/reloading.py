"""reload: a running server gets the list of models that its file gives now, and nothing is interrupted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.model_service import reload_models
from npu_serving.asking.rest_client import model_status
from npu_serving.console import Reporter
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.deploy.rendering import MODELS_CONFIG
from npu_serving.documents.text_format import TextFormatError
from npu_serving.errors import ActionNeeded, NpuServingError, RequestError, ServerError
from npu_serving.options.server_flags import flags_in
from npu_serving.serving.asked_models import models_in
from npu_serving.serving.deployed_from import files_digest
from npu_serving.serving.server_record import KnownServer, ServerRecord
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange
from npu_serving.status.read_again import changed_files, changes_since_start, read_again
from npu_serving.status.reload_note import note_reload, polls_its_list

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_FOR_ONE_ANSWER = 5.0


@dataclass(frozen=True)
class ReloadedServer:
    """What a server's list of models has otherwise now, or would have; `seconds` is None before it was given to it."""

    server: KnownServer
    models: tuple[str, ...]
    changes: tuple[DeploymentChange, ...]
    seconds: float | None = None

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        changes = [change.to_json() for change in self.changes]
        return {"name": self.server.name, "models": list(self.models), "changes": changes, "seconds": self.seconds}

    def text(self) -> str:
        """For a person."""
        lines = [f"  {change.text()}" for change in self.changes]
        if not self.changes:
            return f"Server {self.server.name} has the models of its file already."
        if self.seconds is None:
            return "\n".join([f"Server {self.server.name} would get another list of models:", *lines])
        return "\n".join([f"Server {self.server.name} got the models of its file in {self.seconds:.1f} s:", *lines])


def reload_server(
    settings: Settings, server: KnownServer, reporter: Reporter, *, timeout_s: float, dry_run: bool = False
) -> ReloadedServer:
    """Gives the server the list of models that its deployment file, or its --model_config_file, has now.

    Returns when every model is available. Whoever changes the list at the same time waits for the other: each sends the
    whole of it. Raises ActionNeeded for a server that does not run, RequestError for one that has no list and for
    changes which need a restart, ServerError where the server refuses the list, or has not loaded it in time.
    """
    if dry_run:
        return reload_held(settings, server, reporter, timeout_s=timeout_s, dry_run=True)
    with list_held(settings, server, doing="reload", wait=True):
        return reload_held(settings, server, reporter, timeout_s=timeout_s)


def list_held(
    settings: Settings, server: KnownServer, *, doing: str, wait: bool = False
) -> contextlib.AbstractContextManager[None]:
    """Keeps others from giving that server another list of models; StateLockedError names them, or it waits."""
    return state_lock(settings.build_root / "servers" / f"{server.name}.list", doing=doing, wait=wait)


def reload_held(
    settings: Settings, server: KnownServer, reporter: Reporter, *, timeout_s: float, dry_run: bool = False
) -> ReloadedServer:
    """As reload_server(), for whoever has its list_held() already."""
    record = server.record
    if record is None or not server.is_running:
        raise ActionNeeded(f"Server {server.name} does not run.", cure=f"./inv restart {server.name}")
    text, changes, digest, path = _wanted(settings, record)
    late = [change.what for change in changes if change.due == RESTART]
    if late:
        raise RequestError(
            f"{', '.join(late)} can't change while the server runs.",
            cause="TensorFlow Serving reads its list of models again, and nothing else",
            cure=f"./inv restart {server.name}",
        )
    try:
        models = models_in(text)
    except TextFormatError as error:
        raise RequestError(f"{path}:{error}: it is not in text format.", cure="correct it") from error
    planned = ReloadedServer(server, tuple(model.name for model in models), changes)
    if dry_run or not changes:
        return planned
    begun = time.monotonic()
    with reporter.progress(f"reloading {server.name}", total=len(models), unit="models") as progress:

        def look() -> list[str]:
            missing = _missing(server.url, record, models)
            progress.update(len(models) - len(missing), detail=f"waiting for {', '.join(missing[:3])}")
            time.sleep(SECONDS_BETWEEN_LOOKS)
            return missing

        if polls_its_list(record.argv):
            fsutil.write_file(path, text)
            while missing := look():
                if time.monotonic() - begun > timeout_s:
                    raise ServerError(
                        f"Server {server.name} has not loaded {missing[0]} within {timeout_s:g} s.",
                        cause="it goes on loading it, or could not",
                        cure="./inv status shows its state and the reason",
                    )
        else:
            url = f"grpc://localhost:{record.grpc_port}"
            reload_models(url, models, timeout_s=timeout_s, while_waiting=look)
            fsutil.write_file(path, text)
            note_reload(settings.build_root, record, planned.models, digest)
    return ReloadedServer(server, planned.models, changes, time.monotonic() - begun)


def _wanted(settings: Settings, record: ServerRecord) -> tuple[str, tuple[DeploymentChange, ...], str, Path]:
    """The list's text as it is to be, what changes, the digest of all files by then, and the list's file."""
    root = settings.build_root
    if record.deployed is not None:
        adapter = record.request.adapter if record.request is not None else ""
        known = read_again(settings, record.deployed, adapter)
        if known.deployment is None:
            raise RequestError(known.trouble, cure=f"./inv check-deployment {known.as_argument}")
        changes = changes_since_start(known, record, root)
        path = record.deployed.directory(root) / MODELS_CONFIG
        return known.files[MODELS_CONFIG].text, changes, files_digest(known.files), path
    path = Path(flags_in(record.argv).get("model_config_file", ""))
    if not path.is_absolute():
        raise RequestError(
            f"Server {record.name} has no list of models that it could read again.",
            cause="it was started with the directory of one model; versions that are added there it finds by itself",
            cure=f"./inv restart {record.name} starts it again",
        )
    changes = tuple(change for change in changed_files(record, root) if change.due == RELOAD)
    return fsutil.read_text(path), changes, "", path


def _missing(url: str, record: ServerRecord, models: Sequence[ServedModel]) -> list[str]:
    """The models that are not available yet, as far as the REST API tells."""
    if not record.rest_api_port:
        return []
    return [model.name for model in models if not _is_available(url, model.name)]


def _is_available(url: str, name: str) -> bool:
    try:
        return model_status(url, name, timeout_s=SECONDS_FOR_ONE_ANSWER).available
    except NpuServingError:
        return False
