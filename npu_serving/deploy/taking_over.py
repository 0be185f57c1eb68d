"""A server that was set up by hand, as a deployment, and what no deployment says.

Nothing is passed over in silence: whatever is found and has no place in a deployment.yaml is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.deploy.deployment_sections import ServerOptions
from npu_serving.deploy.listed_models import policy_mistakes
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
    is_true,
    whole,
)
from npu_serving.documents.text_format import TextField, last_text
from npu_serving.errors import RequestError
from npu_serving.options.server_flags import known_flags

_SERVER_FIELDS = set(ServerOptions.__dataclass_fields__)
_CPU_FIELDS: Mapping[str, tuple[str, ...]] = {
    "tensorflow_session_parallelism": ("intra_op_threads", "inter_op_threads"),
    "tensorflow_intra_op_parallelism": ("intra_op_threads",),
    "tensorflow_inter_op_parallelism": ("inter_op_threads",),
}
"""What flags of the server set in the section cpu."""
_OF_OTHER_SECTIONS = (
    "model_name",
    "model_base_path",
    "enable_batching",
    "allow_version_labels_for_unavailable_models",
)
"""Flags that are taken with the models and batching, or that labels need."""


@dataclass(frozen=True)
class TakenOver:
    """A deployment as plain values, and what of the set-up has no place in it, a sentence each."""

    document: Document
    left_out: tuple[str, ...]
    pem_files: Mapping[Path, str] = field(default_factory=dict)
    """The texts of the key and the certificates, which the deployment names by these paths."""


def take_over(found: SetUpByHand, file: Path) -> TakenOver:
    """The deployment that a set-up makes, which is to be written to `file`. RequestError where there is no model."""
    entries = platforms_by_hand(found)
    document: Document = {"version": 1, "models": _models(found, entries)}
    server = _server(found)
    merged = _in_common(found, entries)
    server.update(merged.pop("server"))
    pem_files = _taken_tls(found, server, file)
    if server:
        document["server"] = server
    document.update({key: value for key, value in merged.items() if value is not None})
    cann = found.variables.pop(ROOT_OF_CANN, None)
    if found.variables:
        document["environment"] = found.variables
    if cann is not None:
        document["cann"] = cann
    return TakenOver(document, tuple(found.left_out), pem_files)


def _taken_tls(found: SetUpByHand, server: Document, file: Path) -> dict[Path, str]:
    """Fills in server.tls: a server is given the texts of key and certificates, and a deployment names files."""
    if TLS not in found.configs:
        return {}
    path, fields = found.configs[TLS]
    texts = {name: last_text(fields, name) for name in ("server_key", "server_cert", "custom_ca")}
    if not texts["server_key"] or not texts["server_cert"]:
        found.left_out.append(f"{path} has no {'server_cert' if texts['server_key'] else 'server_key'}: no TLS")
        return {}
    paths = {name: file.with_name(f"{file.stem}.{name}.pem") for name, text in texts.items() if text}
    server["tls"] = {name: str(place) for name, place in paths.items()}
    if is_true(last_text(fields, "client_verify")):
        server["tls"]["client_verify"] = True
    found.left_out += [
        f"{path}:{item.line}: {item.name}" for item in fields if item.name not in (*texts, "client_verify")
    ]
    return {place: texts[name] for name, place in paths.items()}


def _models(found: SetUpByHand, entries: Mapping[str, PlatformByHand]) -> list[Document]:
    if MODELS not in found.configs:
        name, place = found.flags.get("model_name", "default"), found.flags.get("model_base_path")
        if not place:
            raise RequestError(
                f"No model was found in {found.where or found.directory}.",
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
    for place, what in policy_mistakes(policy):
        raise RequestError(
            f"{path}:{place.line}:{place.column}: {what}",
            cause="no server would start with this list of models",
            cure=f"correct {path}, then run the same command again",
        )
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
    else:
        merged["cpu"] = _threads(found) or None
        if found.flags.get("enable_batching") == "true":
            path, fields = found.configs.get(BATCHING, (found.directory, ()))
            merged["server"]["batching"] = batching_by_hand(found, path, fields)
    merged["cpu"] = {**(merged["cpu"] or {}), **found.pinning} or None
    return merged


def _threads(found: SetUpByHand) -> Document:
    """The threads that flags set, the narrower flag last; 0 is the server's own choice."""
    threads: Document = {}
    for flag, fields in _CPU_FIELDS.items():
        count = _typed("int64", found.flags.get(flag, "0"))
        threads.update(dict.fromkeys(fields, count) if count != 0 else {})
    return threads


def _default(key: str) -> object:
    value = ServerOptions.__dataclass_fields__[key].default
    return list(value) if isinstance(value, tuple) else value


def _server(found: SetUpByHand) -> Document:
    server: Document = {"user": found.user} if found.user else {}
    server.update(_of_flags(found))
    if found.flags:  # the whole command line, so that the server's own defaults hold for the rest
        server.setdefault("rest_api_port", 0)
        if not any("max_num_load_retries" in said for said in (*found.flags, *found.left_out)):
            found.left_out.append("--max_num_load_retries was not set, so that loading was tried 5 times again; 0 now")
    if MONITORING in found.configs and any(
        item.name == "enable" and is_true(item.text) for top in found.configs[MONITORING][1] for item in top.fields
    ):
        paths = [last_text(top.fields, "path") for top in found.configs[MONITORING][1]]
        server["monitoring"] = {"path": paths[-1]} if paths[-1] else {}
    return server


def _of_flags(found: SetUpByHand) -> Document:
    server: Document = {}
    in_other_sections = {*FLAG_OF_KIND.values(), *_CPU_FIELDS, *_OF_OTHER_SECTIONS}
    for name, text in found.flags.items():
        flag = known_flags()[name]
        if flag.ignored_with_platform_config and PLATFORMS in found.configs:
            found.left_out.append(f"--{name} had no effect beside the platform config")
        elif name in in_other_sections:
            continue
        elif name == "grpc_channel_arguments":
            pairs = (pair.partition("=") for pair in text.split(",") if pair)
            server[name] = {key: int(value) if re.fullmatch("-?[0-9]+", value) else value for key, _, value in pairs}
        elif name == "enable_model_warmup":
            server["warm_up"] = is_true(text)
        elif name == "saved_model_tags":
            server[name] = text.split(",")
        elif name in _SERVER_FIELDS:
            server[name] = _typed(flag.type, text)
        else:
            found.left_out.append(f"--{name}={text}")
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
