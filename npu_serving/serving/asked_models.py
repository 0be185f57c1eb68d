"""Which models, and which of their versions, the flags of a server ask for; and what of them is not loaded yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from npu_serving import fsutil
from npu_serving.client.model_types import ModelStatus, VersionStatus
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.errors import NpuServingError
from npu_serving.models.layout import version_directories
from npu_serving.options.server_flags import flags_in

_ON_THE_WAY = ("START", "LOADING")


def asked_models(argv: Sequence[str]) -> tuple[ServedModel, ...]:
    """The models of that command line; none where its list of models can't be read: then the server will say so."""
    flags = flags_in(argv)
    listed = flags.get("model_config_file")
    if not listed:
        return (ServedModel(flags.get("model_name", "default"), flags.get("model_base_path", "")),)
    try:
        return models_in(fsutil.read_text(Path(listed)))
    except (NpuServingError, TextFormatError):
        return ()


def models_in(text: str) -> tuple[ServedModel, ...]:
    """The models of a models.config with that text; TextFormatError where it is not in text format."""
    configs = [item for top in read_text_format(text) for item in top.fields if item.name == "config"]
    return tuple(_model(config) for config in configs if last_text(config.fields, "name"))


def lacking(model: ServedModel, status: ModelStatus) -> tuple[str, ...]:
    """What is not AVAILABLE of what is asked for, a few words for each version; nothing where all of it is."""
    found = {version.version: version for version in status.versions}
    wanted = wanted_versions(model)
    if wanted:
        return tuple(_why(number, found.get(number)) for number in wanted if not _is_available(found.get(number)))
    broken = [
        version
        for version in status.versions
        if version.state in _ON_THE_WAY or (version.state == "END" and version.error_message)
    ]
    if broken:
        return tuple(_why(version.version, version) for version in broken)
    return () if status.available else ("no version is AVAILABLE",)


def _is_available(version: VersionStatus | None) -> bool:
    return version is not None and version.state == "AVAILABLE"


def _why(number: int, version: VersionStatus | None) -> str:
    if version is None:
        return f"version {number}: the server has not found it yet"
    return f"version {number}: {version.state}" + (f", {version.error_message}" if version.error_message else "")


def wanted_versions(model: ServedModel) -> tuple[int, ...]:
    """The numbers of the versions that are asked for; none where only the server sees which there are."""
    if isinstance(model.versions, tuple):
        return model.versions
    if not model.base_path.startswith("/"):
        return ()
    try:
        there = sorted(version_directories(Path(model.base_path)), reverse=True)
    except OSError:
        return ()
    return tuple(there if model.versions == "all" else there[: model.versions])


def _model(config: TextField) -> ServedModel:
    versions: int | tuple[int, ...] | Literal["all"] = 1
    for policy in (item for item in config.fields if item.name == "model_version_policy"):
        for choice in policy.fields:
            if choice.name == "all":
                versions = "all"
            elif choice.name == "specific":
                versions = tuple(_whole(item.text) for item in choice.fields if item.name == "versions")
            elif choice.name == "latest":
                versions = _whole(last_text(choice.fields, "num_versions") or "1")
    labels = {
        last_text(item.fields, "key"): _whole(last_text(item.fields, "value"))
        for item in config.fields
        if item.name == "version_labels"
    }
    name, path = last_text(config.fields, "name"), last_text(config.fields, "base_path")
    return ServedModel(name, path, last_text(config.fields, "model_platform"), versions, labels)


def _whole(text: str) -> int:
    """The number; the server refuses a list with anything else."""
    return int(text) if text.isdecimal() else 0
