"""A model of a running server while its versions change: its list of models sent, its states waited for, its answers.

ReloadConfig gives a server its whole list; which directories are there it finds only by its poll, each
file_system_poll_wait_seconds. A label is taken for a version that is AVAILABLE (server_core.cc at 1.15.0).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.model_service import reload_models
from npu_serving.asking.rest_client import model_status
from npu_serving.client.grpc_client import GrpcClient
from npu_serving.client.model_types import ModelStatus, VersionStatus
from npu_serving.console import Reporter
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.deploy.rendering import MODELS_CONFIG
from npu_serving.documents.text_format import TextFormatError
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.options.server_flags import flags_in
from npu_serving.serving.asked_models import models_in
from npu_serving.serving.loaded_versions import note_versions
from npu_serving.serving.server_record import KnownServer, ServerRecord
from npu_serving.settings import Settings
from npu_serving.shown_text import in_a_line
from npu_serving.status.reload_note import polls_its_list
from npu_serving.writers.shell import task_argument

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_FOR_AN_ANSWER = 5.0
_AVAILABLE, _END = "AVAILABLE", "END"


class ModelOfServer:
    """A model of a server that runs here."""

    def __init__(
        self, settings: Settings, server: KnownServer, model: str, reporter: Reporter, timeout_s: float
    ) -> None:
        assert server.record is not None
        self.server, self.model, self.timeout_s = server, model, timeout_s
        self._record: ServerRecord = server.record
        self._settings, self._reporter = settings, reporter

    @property
    def _grpc_url(self) -> str:
        """Where its gRPC API is."""
        return f"grpc://localhost:{self._record.grpc_port}"

    @property
    def looks_for_versions(self) -> bool:
        """Whether it ever sees a directory that came after its start."""
        return flags_in(self._record.argv).get("file_system_poll_wait_seconds", "1") != "0"

    @property
    def _list_file(self) -> Path | None:
        if self._record.deployed is not None:
            return self._record.deployed.directory(self._settings.build_root) / MODELS_CONFIG
        path = Path(flags_in(self._record.argv).get("model_config_file", ""))
        return path if path.is_absolute() else None

    @functools.cached_property
    def _listed(self) -> tuple[ServedModel, ...]:
        """The list that it had when it was first asked for. RequestError where there is none that can be read."""
        path = self._list_file
        if path is None:
            raise RequestError(
                f"Server {self.server.name} has no list of models, in which versions and labels would stand.",
                cause="it was started with the directory of one model",
                cure="./inv init-deployment --from-server PORT writes a deployment; ./inv serve --deployment FILE",
            )
        try:
            return models_in(fsutil.read_text(path))
        except TextFormatError as error:
            raise RequestError(f"{path}:{error}: it is not in text format.", cure="correct it") from error

    def send(self, **changes: object) -> None:
        """Gives it its list with this model changed so; without changes, the one that it had first.

        ServerError where it refuses the list.
        """
        models = [
            replace(each, **changes) if each.name == self.model else each  # type: ignore[arg-type]
            for each in self._listed
        ]
        path = self._list_file
        if polls_its_list(self._record.argv) and path is not None:
            fsutil.write_file(path, render_models_config(models))
            return
        reload_models(
            self._grpc_url, models, timeout_s=self.timeout_s, while_waiting=lambda: time.sleep(SECONDS_BETWEEN_LOOKS)
        )

    def note_loaded(self, version: int, path: Path) -> None:
        """Keeps which files it has loaded, for status to say when others stand there."""
        note_versions(self._settings.build_root, self._record, {(self.model, version): path})

    def as_before(self, versions: Sequence[int] = ()) -> None:
        """Gives it the list that it had first, and waits for these versions, as far as that works."""
        with contextlib.suppress(NpuServingError):
            self.send()
            for version in versions:
                self.wait_until_loaded(version)

    def versions(self) -> dict[int, VersionStatus]:
        """The states of its versions, by their numbers; none where the server knows none, or does not answer."""
        try:
            return {each.version: each for each in self._status().versions}
        except NpuServingError:
            return {}

    def available(self) -> tuple[int, ...]:
        """The versions that answer."""
        return tuple(sorted(number for number, each in self.versions().items() if each.state == _AVAILABLE))

    def wait_until_loaded(self, version: int) -> float:
        """Returns after how many seconds it was AVAILABLE.

        ServerError, with the cause, where it can't be loaded, and where it is not in time.
        """

        def missing() -> str:
            found = self.versions().get(version)
            if found is not None and found.state == _END and found.error_message:
                raise ServerError(
                    f"Server {self.server.name} could not load version {version} of {self.model}: "
                    f"{in_a_line(found.error_message)}",
                    cause="the model does not fit this server, or is damaged",
                    cure=f"./inv logs {self.server.name} shows what it printed",
                )
            return "" if found is not None and found.state == _AVAILABLE else found.state if found else "not found yet"

        seconds = self._waited(f"loading version {version} of {self.model}", missing)
        if seconds is not None:
            return seconds
        raise ServerError(
            f"Server {self.server.name} has not loaded version {version} of {self.model} within {self.timeout_s:g} s.",
            cause="it goes on loading it: the model is large, or its storage is slow",
            cure=f"./inv status {task_argument('--model', self.model)} --url {self.server.url} shows how far it is; "
            "--timeout waits longer",
        )

    def wait_until_unloaded(self, kept: int) -> None:
        """Returns when no version but that one is loaded. ServerError where that is not so in time."""

        def missing() -> str:
            loaded = [each for each in self.versions().values() if each.version != kept and each.state != _END]
            return ", ".join(f"version {each.version} is {each.state}" for each in loaded)

        if self._waited(f"unloading {self.model}", missing) is None:
            raise ServerError(
                f"Server {self.server.name} has not unloaded {self.model} within {self.timeout_s:g} s.",
                cause="requests are still being answered, or it looks for versions seldom",
                cure="--timeout waits longer",
            )

    def _waited(self, title: str, missing: Callable[[], str]) -> float | None:
        """Looks until nothing is missing: the seconds that it took, None where it took too long."""
        begun = time.monotonic()
        with self._reporter.progress(title, unit="s") as progress:
            while detail := missing():
                seconds = time.monotonic() - begun
                if seconds > self.timeout_s:
                    return None
                progress.update(seconds, detail=detail)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        return time.monotonic() - begun

    def _status(self) -> ModelStatus:
        if self._record.rest_api_port:
            return model_status(self.server.url, self.model, timeout_s=SECONDS_FOR_AN_ANSWER)
        with GrpcClient(self._grpc_url) as client:
            return client.status(self.model, timeout_s=SECONDS_FOR_AN_ANSWER)
