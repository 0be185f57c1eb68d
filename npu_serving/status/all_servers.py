"""Every server that `serve` runs on this machine: its models, whether it is as its file says, and how others ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from npu_serving.asking.rest_client import model_status
from npu_serving.client.model_types import VersionStatus
from npu_serving.console import clock_text, table
from npu_serving.errors import NpuServingError
from npu_serving.serving.loaded_versions import replaced_versions
from npu_serving.serving.mapped_adapter import ReplacedFile, replaced_files
from npu_serving.serving.server_record import EndNote, KnownServer, ServerRecord, answers_of, known_servers
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange
from npu_serving.status.read_again import KnownDeployment, changed_files, changes_since_start
from npu_serving.status.reload_note import model_names

SECONDS_FOR_ONE_ANSWER = 5.0
_SHOWN_MODELS, _SHOWN_CHANGES, _SHOWN_FILES = 20, 12, 4
_AT_ONCE = 8  # models that are asked
NOT_ASKED = "without a REST API it is not asked; gRPC opens when the models are loaded"


@dataclass(frozen=True)
class AskedModel:
    """A model of a server: its versions, when it was last seen to answer, or why nothing is known of it."""

    name: str
    versions: tuple[VersionStatus, ...]
    answered: float | None
    trouble: str = ""
    was_ready: bool = False
    """Whether `serve` has seen its server ready: then it has answered, or nothing is known that it could be asked."""
    is_asked: bool = True

    @property
    def is_available(self) -> bool:
        """Whether a version answers requests, as far as is known."""
        if not self.is_asked:
            return self.was_ready
        return any(version.state == "AVAILABLE" for version in self.versions)


@dataclass(frozen=True)
class AskedServer:
    """A server by its REST API (by gRPC where it has none): its process and its models, or how it ended.

    `record` is None where it doesn't run. `changes` are what its deployment file has otherwise now, `replaced` what it
    runs of files that are no longer on disk.
    """

    url: str
    record: ServerRecord | None
    models: tuple[AskedModel, ...]
    end: EndNote | None
    changes: tuple[DeploymentChange, ...] = ()
    replaced: tuple[ReplacedFile, ...] = ()

    @property
    def missing(self) -> str:
        """The first model that is not available; "" where all are."""
        return next((model.name for model in self.models if not model.is_available), "")

    @property
    def is_on_the_cpu(self) -> bool:
        """Whether it answers from the CPU, though it is meant to use the NPU."""
        record = self.record
        answers = any(model.answered is not None for model in self.models)
        return record is not None and record.uses_npu and not record.compiled and answers

    @property
    def due(self) -> str:
        """What has to be done with it for its files' sake: a restart, a reload, or nothing ("")."""
        if self.replaced or any(change.due == RESTART for change in self.changes):
            return RESTART
        return RELOAD if self.changes else ""

    def to_json(self) -> dict[str, object]:
        """The server as `--json` shows it; null is what isn't known."""
        record = self.record
        deployed = record.deployed if record is not None else None
        return {
            "url": self.url,
            "running": record is not None,
            "pid": record.pid if record is not None else None,
            "started": record.started if record is not None else None,
            "build": record.build if record is not None else None,
            "deployment": str(deployed.file) if deployed is not None else None,
            "uses_npu": record.uses_npu if record is not None else None,
            "compiled_for_npu": record.compiled if record is not None else None,
            "models": [asdict(model) for model in self.models],
            "changes": [change.to_json() for change in self.changes],
            "replaced": [{"path": str(file.path), "is_there": file.is_there} for file in self.replaced],
            "due": self.due or None,
            "end": asdict(self.end) if self.end is not None else None,
        }

    def text(self) -> str:
        """The server for a person."""
        if self.record is None:
            end = self.end
            cause = f"\n  Likely cause: {end.cause}" if end is not None and end.cause else ""
            return f"{self.url}: not running. {end.what if end is not None else ''}".rstrip() + cause
        record = self.record
        graphs = "1 graph" if record.compiled == 1 else f"{record.compiled} graphs"
        npu = f"{graphs} compiled for the NPU" if record.uses_npu else "on the CPU"
        if self.is_on_the_cpu:
            npu = "THE CPU ANSWERS, nothing was compiled for the NPU"
        alone = "" if record.is_watched else "; the ./inv serve that watched it is gone"
        lines = [f"{self.url}: process {record.pid} since {clock_text(record.started)}, {npu}{alone}"]
        shown_models = sorted(self.models, key=lambda model: model.is_available)[:_SHOWN_MODELS]
        hidden = len(self.models) - len(shown_models)
        if not hidden:
            shown_models = list(self.models)
        rows = [row for model in shown_models for row in _rows(model)]
        lines += table(rows, header=("MODEL", "VERSION", "STATE", "ANSWERED", "REASON")).split("\n")
        lines += [f"and {hidden} more models (--json shows all of them)"] if hidden else []
        if self.changes:
            lines.append("Changed since it was started:")
            shown = self.changes[:_SHOWN_CHANGES]
            lines += [f"  {change.text()}  ({change.due})" for change in shown]
            lines += [f"  and {len(self.changes) - len(shown)} more"] if len(self.changes) > len(shown) else []
        lines += [f"{file.text()} since it was started" for file in self.replaced[:_SHOWN_FILES]]
        more = len(self.replaced) - _SHOWN_FILES
        return "\n  ".join([*lines, f"and {more} more files"] if more > 0 else lines)


def all_servers(build_root: Path, deployments: Mapping[str, KnownDeployment] | None = None) -> tuple[AskedServer, ...]:
    """What is known of every server that `serve` runs on this machine, or ran last at its port; each model is asked.

    `deployments` are by the name of their source.
    """
    return tuple(_asked_server(build_root, server, deployments or {}) for server in known_servers(build_root))


def _asked_server(build_root: Path, server: KnownServer, deployments: Mapping[str, KnownDeployment]) -> AskedServer:
    record = server.record
    if record is None or not server.is_running:
        return AskedServer(server.url, None, (), server.end)
    answers = answers_of(build_root, record)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = pool.map(
            lambda name: _asked(server.url, record, name, answers.get(name)), model_names(record, build_root)
        )
        models = tuple(asked)
    known = deployments.get(record.deployed.name) if record.deployed is not None else None
    changes = changes_since_start(known, record, build_root) if known is not None else changed_files(record, build_root)
    changes += _replaced_versions(build_root, record, models)
    replaced = replaced_files(record.pid, record.started)
    return AskedServer(server.url, record, models, None, changes, replaced)


def _asked(url: str, record: ServerRecord, name: str, answered: float | None) -> AskedModel:
    was_ready = record.readiness is not None and record.readiness.ready
    if not record.rest_api_port:
        return AskedModel(name, (), answered, NOT_ASKED, was_ready, is_asked=False)
    try:
        versions = model_status(url, name, timeout_s=SECONDS_FOR_ONE_ANSWER).versions
    except NpuServingError as error:
        return AskedModel(name, (), answered, error.what, was_ready)
    return AskedModel(name, versions, answered, was_ready=was_ready)


def _replaced_versions(
    build_root: Path, record: ServerRecord, models: Sequence[AskedModel]
) -> tuple[DeploymentChange, ...]:
    """The versions whose directories have other files by now: a start would answer otherwise, in silence."""
    available = [(model.name, each.version) for model in models for each in model.versions if each.state == "AVAILABLE"]
    return tuple(
        DeploymentChange(f"models.{name}, files of version {number}", "as it was loaded", "replaced on disk", RESTART)
        for name, number in replaced_versions(build_root, record, available)
    )


def _rows(model: AskedModel) -> list[tuple[str, ...]]:
    answered = "yes" if model.answered is not None else "unproven" if model.was_ready else "not yet"
    if not model.versions:
        return [(model.name, "", "", answered, model.trouble)]
    return [(model.name, str(item.version), item.state, answered, item.error_message) for item in model.versions]
