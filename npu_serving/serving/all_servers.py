"""status without a model: every server that `serve` runs on this machine, its models, and how those ended that ran."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from npu_serving.client.answers import VersionStatus
from npu_serving.client.rest_client import model_status
from npu_serving.console import table
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError
from npu_serving.serving.server_record import EndNote, KnownServer, ServerRecord, answered_at, known_servers
from npu_serving.writers.shell import task_argument

SECONDS_FOR_ONE_ANSWER = 5.0
NOT_ASKED = "without a REST API it is not asked; gRPC opens when the models are loaded"


@dataclass(frozen=True)
class AskedModel:
    """A model of a server: its versions, when it was last seen to answer, or why nothing is known of it."""

    name: str
    versions: tuple[VersionStatus, ...]
    answered: float | None
    trouble: str = ""
    was_ready: bool = False
    """Whether `serve` has seen its server ready: all that is known without a REST API."""

    @property
    def is_available(self) -> bool:
        """Whether a version answers requests."""
        return self.was_ready or any(version.state == "AVAILABLE" for version in self.versions)


@dataclass(frozen=True)
class AskedServer:
    """A server by its REST API: its process and its models, or how it ended."""

    url: str
    record: ServerRecord | None
    models: tuple[AskedModel, ...]
    end: EndNote | None

    def to_json(self) -> dict[str, object]:
        """The server as `--json` shows it; null is what isn't known."""
        record = self.record
        return {
            "url": self.url,
            "running": record is not None,
            "pid": record.pid if record is not None else None,
            "uses_npu": record.uses_npu if record is not None else None,
            "compiled_for_npu": record.compiled if record is not None else None,
            "models": [asdict(model) for model in self.models],
            "end": asdict(self.end) if self.end is not None else None,
        }

    def text(self) -> str:
        """The server for a person."""
        if self.record is None:
            end = self.end
            lines = [f"{self.url}: not running. {end.what if end is not None else ''}".rstrip()]
            lines += [f"Likely cause: {end.cause}"] if end is not None and end.cause else []
            return "\n".join(lines + ([f"Next: {end.cure}"] if end is not None and end.cure else []))
        npu = f"{self.record.compiled} graphs compiled for the NPU" if self.record.uses_npu else "on the CPU"
        rows = [row for model in self.models for row in _rows(model)]
        shown = table(rows, header=("MODEL", "VERSION", "STATE", "ANSWERED", "REASON"))
        missing = next((model.name for model in self.models if not model.is_available), None)
        cure = f"./inv status {task_argument('--model', missing or '')} --url {self.url} says more of it"
        if not self.record.rest_api_port:
            cure = "read what serve says of it, or give it a REST port (--rest-api-port)"
        alone = "" if self.record.is_watched else "; the ./inv serve that watched it is gone"
        return f"{self.url}: process {self.record.pid}, {npu}{alone}\n{shown}" + (f"\nNext: {cure}" if missing else "")


@dataclass(frozen=True)
class AllServers:
    """The servers of this machine that are known here, by their ports."""

    servers: tuple[AskedServer, ...]

    @property
    def exit_code(self) -> int:
        """0 where a server runs, and every model of those that run is available; else 3."""
        running = [server for server in self.servers if server.record is not None]
        good = all(model.is_available for server in running for model in server.models)
        return 0 if running and good else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """The servers as `--json` shows them."""
        return {"servers": [server.to_json() for server in self.servers]}

    def text(self) -> str:
        """The servers for a person, those that run first."""
        if not self.servers:
            return "No server was started here by ./inv serve.\nNext: ./inv serve --deployment deployment.yaml"
        ordered = sorted(self.servers, key=lambda server: server.record is None)
        return "\n\n".join(server.text() for server in ordered)


def all_servers(build_root: Path) -> AllServers:
    """What is known of every server that `serve` runs on this machine, or ran last at its port; each model is asked."""
    return AllServers(tuple(_asked(build_root, server) for server in known_servers(build_root)))


def _asked(build_root: Path, server: KnownServer) -> AskedServer:
    record = server.record
    if record is None or not server.is_running:
        return AskedServer(server.url, None, (), server.end)
    models = []
    for name in record.models:
        answered = answered_at(build_root, record, name)
        if not record.rest_api_port:
            was_ready = record.readiness is not None and record.readiness.ready
            models.append(AskedModel(name, (), answered, NOT_ASKED, was_ready))
            continue
        try:
            versions = model_status(server.url, name, timeout_s=SECONDS_FOR_ONE_ANSWER).versions
            models.append(AskedModel(name, versions, answered))
        except NpuServingError as error:
            models.append(AskedModel(name, (), answered, error.what))
    return AskedServer(server.url, record, tuple(models), None)


def _rows(model: AskedModel) -> list[tuple[str, ...]]:
    answered = "yes" if model.answered is not None else "not yet"
    if not model.versions:
        return [(model.name, "", "", answered, model.trouble)]
    return [(model.name, str(item.version), item.state, answered, item.error_message) for item in model.versions]
