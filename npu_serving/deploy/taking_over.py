"""A server that was set up by hand, as a deployment, and what no deployment says.

Nothing is passed over in silence: whatever is found and has no place in a deployment.yaml is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.deploy.deployment_sections import ServerOptions
from npu_serving.deploy.platforms_by_hand import (
    Document,
    PlatformByHand,
    batching_by_hand,
    options_in_common,
    platforms_by_hand,
)
from npu_serving.deploy.set_up_by_hand import (
    BATCHING,
    FLAG_OF_KIND,
    MODELS,
    MONITORING,
    PLATFORMS,
    ROOT_OF_CANN,
    TLS,
    SetUpByHand,
    found_in,
    is_true,
    whole,
)
from npu_serving.documents.text_format import TextField, last_text
from npu_serving.errors import RequestError
from npu_serving.options.server_flags import known_flags

_SERVER_FIELDS = set(ServerOptions.__dataclass_fields__)


@dataclass(frozen=True)
class TakenOver:
    """A deployment as plain values, and what of the set-up has no place in it, a sentence each."""

    document: Document
    left_out: tuple[str, ...]


def take_over(directory: Path) -> TakenOver:
    """The deployment that the files of a directory make. RequestError where there is no model among them."""
    found = found_in(directory)
    entries = platforms_by_hand(found)
    document: Document = {"version": 1, "models": _models(found, entries)}
    server = _server(found)
    merged = _in_common(found, entries)
    server.update(merged.pop("server"))
    if server:
        document["server"] = server
    document.update({key: value for key, value in merged.items() if value is not None})
    cann = found.variables.pop(ROOT_OF_CANN, None)
    if found.variables:
        document["environment"] = found.variables
    if cann is not None:
        document["cann"] = cann
    return TakenOver(document, tuple(found.left_out))


def _models(found: SetUpByHand, entries: Mapping[str, PlatformByHand]) -> list[Document]:
    if MODELS not in found.configs:
        name, place = found.flags.get("model_name", "default"), found.flags.get("model_base_path")
        if not place:
            raise RequestError(
                f"No model was found in {found.directory}.",
                cause="it has neither a list of models (models.config) nor a script that starts the server with one",
                cure="name the models: ./inv init-deployment --model NAME=PATH",
            )
        return [{"name": name, "base_path": _place(found, place)}]
    path, fields = found.configs[MODELS]
    models = []
    in_common = options_in_common(entries)
    for config in (item for top in fields for item in top.fields if item.name == "config"):
        models.append(_model(found, path, config, entries, in_common))
    return models


def _model(
    found: SetUpByHand,
    path: Path,
    config: TextField,
    entries: Mapping[str, PlatformByHand],
    in_common: Mapping[str, Any],
) -> Document:
    model: Document = {
        "name": last_text(config.fields, "name"),
        "base_path": _place(found, last_text(config.fields, "base_path")),
    }
    platform = "tensorflow"
    for item in config.fields:
        if item.name == "model_version_policy":
            model["versions"] = _versions(path, item)
        elif item.name == "version_labels":
            versions = [whole(path, inner) for inner in item.fields if inner.name == "value"]
            model.setdefault("labels", {})[last_text(item.fields, "key")] = versions[-1] if versions else 0
        elif item.name == "model_platform":
            platform = item.text
        elif item.name not in ("name", "base_path"):
            found.left_out.append(f"{path}:{item.line}: {item.name}")
    entry = entries.get(platform)
    if entries and entry is None:
        found.left_out.append(f"{path}:{config.line}: the platform {platform!r} is not in the platform config")
    if entry is not None and len(entries) > 1:
        own = None if entry.npu is None else {k: v for k, v in entry.npu.items() if k not in in_common}
        if own is None and any(other.npu is not None for other in entries.values()):
            model["npu"] = False
        elif own:
            model["npu"] = own
        if entry.batching is not None:
            model["batching"] = entry.batching
    return model


def _versions(path: Path, policy: TextField) -> object:
    for choice in policy.fields:
        if choice.name == "all":
            return "all"
        if choice.name == "specific":
            return [whole(path, item) for item in choice.fields if item.name == "versions"]
        if choice.name == "latest":
            counts = [whole(path, item) for item in choice.fields if item.name == "num_versions"]
            return {"latest": counts[-1] if counts else 1}
    return {"latest": 1}


def _in_common(found: SetUpByHand, entries: Mapping[str, PlatformByHand]) -> Document:
    """The sections npu, cpu and parts of server that the platform config, or the flags without one, fill."""
    merged: Document = {"npu": None, "cpu": None, "server": {}}
    if any(entry.npu is not None for entry in entries.values()):
        merged["npu"] = options_in_common(entries)
    if entries:
        first = next(iter(entries.values()))
        for entry in entries.values():
            if (entry.cpu, entry.server) != (first.cpu, first.server):
                path = found.configs[PLATFORMS][0]
                found.left_out.append(f"{path}: threads, tags and warm-up of the first platform count for all of them")
                break
        merged["cpu"] = first.cpu or None
        merged["server"] = {key: value for key, value in first.server.items() if value != _default(key)}
        if len(entries) == 1 and first.batching is not None:
            merged["server"]["batching"] = first.batching
    elif found.flags.get("enable_batching") == "true":
        path, fields = found.configs.get(BATCHING, (found.directory, ()))
        merged["server"]["batching"] = batching_by_hand(found, path, fields)
    return merged


def _default(key: str) -> object:
    value = ServerOptions.__dataclass_fields__[key].default
    return list(value) if isinstance(value, tuple) else value


def _server(found: SetUpByHand) -> Document:
    server: Document = {}
    files = set(FLAG_OF_KIND.values())
    elsewhere = {"model_name", "model_base_path", "allow_version_labels_for_unavailable_models"}
    for name, text in found.flags.items():
        if name in files or name in elsewhere:
            continue
        flag = known_flags()[name]
        if flag.ignored_with_platform_config and PLATFORMS in found.configs:
            found.left_out.append(f"--{name} had no effect beside the platform config")
        elif name == "enable_batching":
            continue  # its own section
        elif name == "grpc_channel_arguments":
            pairs = (pair.partition("=") for pair in text.split(",") if pair)
            server[name] = {key: int(value) if re.fullmatch("-?[0-9]+", value) else value for key, _, value in pairs}
        elif name in _SERVER_FIELDS:
            server[name] = _typed(flag.type, text)
        else:
            found.left_out.append(f"--{name}={text}")
    if MONITORING in found.configs and any(
        item.name == "enable" and is_true(item.text) for top in found.configs[MONITORING][1] for item in top.fields
    ):
        paths = [last_text(top.fields, "path") for top in found.configs[MONITORING][1]]
        server["monitoring"] = {"path": paths[-1]} if paths[-1] else {}
    if TLS in found.configs:
        found.left_out.append(
            f"{found.configs[TLS][0]}: put key and certificate into files of their own, and name those in server.tls"
        )
    return server


def _typed(kind: str, text: str) -> object:
    readers: dict[str, Callable[[str], object]] = {"int32": int, "int64": int, "bool": is_true}
    try:
        return readers.get(kind, str)(text)
    except ValueError:
        return text


def _place(found: SetUpByHand, text: str) -> str:
    if fsutil.is_remote(text) or text.startswith("/"):
        return text
    absolute = found.directory.absolute() / text
    found.left_out.append(f"the model path {text!r} was relative to the server's directory; {absolute} is written")
    return str(absolute)
