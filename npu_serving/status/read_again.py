"""The deployment file of a server, read and rendered again: what it says now, beside what its server runs with."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.build_settings import settings_to_serve
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.preset_values import filled_in
from npu_serving.deploy.rendering import (
    FILES,
    MODELS_CONFIG,
    PLATFORM_CONFIG,
    RenderedFile,
    files_beside,
    rendered_files,
)
from npu_serving.errors import NpuServingError
from npu_serving.options.server_flags import flags_in
from npu_serving.serving.deployed_from import DeployedFrom, files_digest
from npu_serving.serving.server_record import ServerRecord
from npu_serving.settings import Settings
from npu_serving.shown_text import masked_word
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange, changes_between
from npu_serving.status.reload_note import polls_its_list, reload_of
from npu_serving.writers.shell import command_line

_MODELS = "model_config_file"


@dataclass(frozen=True)
class KnownDeployment:
    """A deployment file as it is now, and its server's files; `trouble` is why it can't be read or rendered."""

    source: DeployedFrom
    deployment: DeploymentFile | None = field(default=None, repr=False)
    files: Mapping[str, RenderedFile] = field(default_factory=dict, repr=False)
    trouble: str = ""

    @property
    def flags(self) -> str:
        """The flags that name it to a task."""
        return f"--deployment {self.as_argument}"

    @property
    def as_argument(self) -> str:
        """The words that name it to a task whose argument it is."""
        overlays = [word for path in self.source.overlays for word in ("--overlay", path)]
        values = [word for value in self.source.values for word in ("--set", masked_word(value))]
        return command_line([self.source.file, *overlays, *values])

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "file": str(self.source.file),
            "overlays": [str(path) for path in self.source.overlays],
            "set": [masked_word(value) for value in self.source.values],
            "models": [model.name for model in self.deployment.models] if self.deployment is not None else [],
            "uses_npu": self.deployment.uses_npu() if self.deployment is not None else None,
            "trouble": self.trouble,
        }

    def text(self) -> str:
        """In a line: how many models and for which ports, or what is wrong."""
        if self.deployment is None:
            first, _, others = self.trouble.partition("\n")
            where = "" if first.startswith(str(self.source.file)) else f"{self.source.file}: "
            return f"{where}{first}" + (f" ({others.count(chr(10)) + 1} more)" if others else "")
        count = len(self.deployment.models)
        server, npu = self.deployment.server, "the NPU" if self.deployment.uses_npu() else "the CPU"
        ports = f"gRPC {server.port}" + (f", REST {server.rest_api_port}" if server.rest_api_port else "")
        return f"{self.source.file}: {count} {'model' if count == 1 else 'models'} for {npu}, {ports}"


def read_again(settings: Settings, source: DeployedFrom, adapter: str = "") -> KnownDeployment:
    """The deployment of that source as it is now; `adapter` is the one that its server was started with by a flag."""
    settings = replace(settings, adapter=adapter) if adapter else settings
    try:
        deployment = read_deployment(source.file, source.overlays, source.values)
        whole = filled_in(deployment, settings_to_serve(settings))
        return KnownDeployment(source, deployment, rendered_files(whole, source.directory(settings.build_root)))
    except NpuServingError as error:
        return KnownDeployment(source, trouble=error.what)


def changes_since_start(known: KnownDeployment, record: ServerRecord, build_root: Path) -> tuple[DeploymentChange, ...]:
    """What the deployment has otherwise now than the running server; nothing where it can't be read."""
    started = record.deployed
    if known.deployment is None or started is None:
        return ()
    directory, note = started.directory(build_root), reload_of(build_root, record)
    digest = note.digest if note is not None else started.digest
    there = _files_in(directory)
    polls = polls_its_list(record.argv)
    before: dict[str, str | None]
    if files_digest(there) == digest:
        before = {name: file.text for name, file in there.items()}
    elif files_digest(known.files) == digest:  # whatever was written there since, was not read
        before = {name: file.text for name, file in known.files.items()}
    else:
        is_there = PLATFORM_CONFIG in there
        before = {} if is_there else dict.fromkeys(known.files)
        for name, file in there.items():
            read = note.at if note is not None and name == MODELS_CONFIG else record.started
            before[name] = file.text if _written_at(directory / name) <= read else None
    if polls and MODELS_CONFIG in there:
        before[MODELS_CONFIG] = there[MODELS_CONFIG].text
    return changes_between(before, known.files)


def changed_files(record: ServerRecord, build_root: Path) -> tuple[DeploymentChange, ...]:
    """The files that flags name to a server without a deployment and that were written since it was started."""
    note = reload_of(build_root, record)
    found = []
    for name, text in flags_in(record.argv).items():
        written = _written_at(Path(text)) if name.endswith("_file") else 0.0
        read = note.at if note is not None and name == _MODELS else record.started
        if written > read and not (name == _MODELS and polls_its_list(record.argv)):
            wanted = "removed" if written == math.inf else "changed"
            found.append(DeploymentChange(text, "as it was", wanted, RELOAD if name == _MODELS else RESTART))
    return tuple(found)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return math.inf


def _files_in(directory: Path) -> dict[str, RenderedFile]:
    """The files of a deployment in the directory, as far as they can be read."""
    found: dict[str, RenderedFile] = {}
    try:
        beside = files_beside(fsutil.read_text(directory / PLATFORM_CONFIG))
    except NpuServingError:
        beside = ()
    for name in (*FILES, *beside):
        path = directory / name
        try:
            if path.is_file():
                found[name] = RenderedFile(fsutil.read_text(path), stat.S_IMODE(path.stat().st_mode))
        except (NpuServingError, OSError):
            continue
    return found
