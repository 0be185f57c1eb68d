"""A server that was set up by hand, as a deployment: its configurations, its start script, and what no deployment says.

Nothing is passed over in silence: whatever is found and has no place in a deployment.yaml is named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.deploy.deployment_file import ServerOptions
from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.errors import RequestError
from npu_serving.options.npu_optimizer import OPTIMIZER
from npu_serving.options.server_environment import known_variables
from npu_serving.options.server_flags import known_flags
from npu_serving.options.session_options import complete_options
from npu_serving.shown_text import masked_variable

PROGRAM = "tensorflow_model_server"
_CONFIGS = ("config.cfg", "models.config")  # as the guide calls them; others are known by a flag or by their fields
LARGEST_BYTES = 1 << 22  # of a configuration that a person wrote
PLATFORMS, MODELS, MONITORING, TLS, BATCHING = "platform config", "list of models", "monitoring", "TLS", "batching"
_OF_KIND = {
    "platform_configs": PLATFORMS,
    "model_config_list": MODELS,
    "prometheus_config": MONITORING,
    "server_key": TLS,
    "server_cert": TLS,
    "max_batch_size": BATCHING,
    "batch_timeout_micros": BATCHING,
    "max_enqueued_batches": BATCHING,
    "num_batch_threads": BATCHING,
    "allowed_batch_sizes": BATCHING,
}
_FLAG_OF_KIND = {
    PLATFORMS: "platform_config_file",
    MODELS: "model_config_file",
    MONITORING: "monitoring_config_file",
    TLS: "ssl_config_file",
    BATCHING: "batching_parameters_file",
}
_EXPORT = re.compile(r"^\s*export\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.MULTILINE)
_SINGLE_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|\\.)|'[^']*'""", re.DOTALL)
ROOT_OF_CANN = "ASCEND_ROOT"  # as bin/serve of a package reads it
_LISTS_OF_DIRECTORIES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
_SERVER_FIELDS = set(ServerOptions.__dataclass_fields__)
Document = dict[str, Any]


@dataclass(frozen=True)
class TakenOver:
    """A deployment as plain values, and what of the set-up has no place in it, a sentence each."""

    document: Document
    left_out: tuple[str, ...]


@dataclass
class _FoundByHand:
    """What was found in the directory."""

    directory: Path
    configs: dict[str, tuple[Path, tuple[TextField, ...]]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def take_over(directory: Path) -> TakenOver:
    """The deployment that the files of a directory make. RequestError where there is no model among them."""
    found = _found_in(directory)
    entries = _entries(found)
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


# ---- finding


def _found_in(directory: Path) -> _FoundByHand:
    found = _FoundByHand(directory)
    texts = {}
    with fsutil.explained(directory, doing="read"):
        paths = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
        for path in paths:
            if path.stat().st_size <= LARGEST_BYTES:
                texts[path] = fsutil.read_text(path)
    for path, text in texts.items():
        _read_script(found, path, text)
    for path, text in texts.items():
        _read_config(found, path, text)
    return found


def _read_script(found: _FoundByHand, path: Path, text: str) -> None:
    """The flags and variables of a start script, or of a file of flags."""
    joined = re.sub(r"\\\r?\n", " ", text)
    if path.name == "flags":
        lines = [line.strip() for line in joined.splitlines()]
        _read_flags(found, path, [_unquoted_flag(line) for line in lines if line.startswith("--")])
    for line in joined.splitlines():
        if PROGRAM in line and "--" in line and not line.lstrip().startswith("#"):
            try:
                words = shlex.split(line.partition(PROGRAM)[2], comments=True)
            except ValueError:
                found.left_out.append(f"{path}: {line.strip()[:80]}: a quote is not closed")
                continue
            _read_flags(found, path, [word for word in words if word.startswith("--")])
    for name, value in _EXPORT.findall(joined) if PROGRAM in text or path.suffix == ".sh" else ():
        _read_variable(found, path, name, value)


def _read_flags(found: _FoundByHand, path: Path, words: Sequence[str]) -> None:
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name not in known_flags():
            found.left_out.append(f"{path}: the server has no flag --{name}")
        elif "$" in value or "`" in value:
            found.left_out.append(f"{path}: --{name}={value}: the value is known to the shell only")
        else:
            found.flags[name] = value if equals else "true"


def _unquoted_flag(line: str) -> str:
    """A line of our file of flags without the quotes around its value: see writers/flag_file.py."""
    name, equals, value = line.partition("=")
    quoted = re.fullmatch(r"""(["'])(.*)\1""", value)
    return f"{name}{equals}{quoted[2] if quoted else value}"


def _read_variable(found: _FoundByHand, path: Path, name: str, value: str) -> None:
    known = next((line for line in known_variables() if line.fits(name)), None)
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        words = []
    if name in _LISTS_OF_DIRECTORIES:
        return  # CANN's: a server gets it from the installation that is found
    if name.startswith("NPU_SERVING_"):
        return  # of our own start.sh: for bin/serve, not for the server
    # Within ' a shell takes every character as it is; within " and elsewhere not.
    if len(words) != 1 or re.search(r"[$`]", _SINGLE_QUOTED.sub(lambda match: match[1] or "", value)):
        found.left_out.append(
            f"{path}: export {name}={masked_variable(name, value)[:60]}: the value is known to the shell only"
        )
    elif known is not None and not known.passed:
        found.left_out.append(f"{path}: {name}: {known.instead or 'the server does not read it'}")
    else:
        found.variables[name] = words[0]


def _read_config(found: _FoundByHand, path: Path, text: str) -> None:
    try:
        fields = read_text_format(text)
    except TextFormatError as error:
        if path.name in _CONFIGS or path.name in {
            Path(found.flags.get(flag, "")).name for flag in _FLAG_OF_KIND.values()
        }:
            raise RequestError(
                f"{path}:{error}.", cause="no server could read this file", cure=f"correct {path}, or move it away"
            ) from error
        return
    except RecursionError:
        return
    kind = next((_OF_KIND[item.name] for item in fields if item.name in _OF_KIND), None)
    if kind is None:
        return
    named = found.flags.get(_FLAG_OF_KIND[kind])
    if named is not None and Path(named).name != path.name:
        found.left_out.append(f"{path} is a {kind}, and the server was started with {named}")
    elif kind in found.configs:
        found.left_out.append(f"{path} is a second {kind}; {found.configs[kind][0]} was taken")
    else:
        found.configs[kind] = (path, fields)


# ---- the platform config


@dataclass
class _FoundPlatform:
    """What a platform's entry says: the NPU's options (None without NpuOptimizer), batching, and the rest."""

    npu: dict[str, Any] | None = None
    batching: Document | None = None
    cpu: Document = field(default_factory=dict)
    server: Document = field(default_factory=dict)


def _entries(found: _FoundByHand) -> dict[str, _FoundPlatform]:
    if PLATFORMS not in found.configs:
        return {}
    path, fields = found.configs[PLATFORMS]
    entries = {}
    for config in fields:
        name = last_text(config.fields, "key")
        parts = list(config.walk())
        packed = next((item for item in parts if item.name == "type_url"), None)
        if packed is not None:
            raise RequestError(
                f"{path}:{packed.line}: the platform {name!r} stands there as bytes (type_url), and is not read.",
                cause="a program printed it that did not know the type of the message within it",
                cure=f"write its options as text, in [{packed.text}] {{ ... }}",
            )
        bundles = [item for item in parts if item.name == "legacy_config"]
        entries[name] = _entry(found, path, bundles[-1].fields if bundles else ())
    return entries


def _entry(found: _FoundByHand, path: Path, fields: Iterable[TextField]) -> _FoundPlatform:
    entry = _FoundPlatform(server={"warm_up": False, "remove_unused_fields_from_bundle_metagraph": False})
    for item in fields:
        if item.name == "session_config":
            _session(found, path, item, entry)
        elif item.name == "batching_parameters":
            entry.batching = _batching(found, path, item.fields)
        elif item.name == "saved_model_tags":
            entry.server.setdefault("saved_model_tags", []).append(item.text)
        elif item.name == "enable_model_warmup":
            entry.server["warm_up"] = _is_true(item.text)
        elif item.name == "remove_unused_fields_from_bundle_metagraph":
            entry.server[item.name] = _is_true(item.text)
        elif item.name == "model_warmup_options":
            counts = [inner for inner in item.walk() if inner.name == "value"]
            entry.server["warm_up_iterations"] = _whole(path, counts[-1]) if counts else 1
        else:
            found.left_out.append(f"{path}:{item.line}: {item.name}")
    return entry


def _session(found: _FoundByHand, path: Path, session: TextField, entry: _FoundPlatform) -> None:
    threads = {
        "intra_op_parallelism_threads": "intra_op_threads",
        "inter_op_parallelism_threads": "inter_op_threads",
    }
    for item in session.fields:
        if item.name in threads:
            if _whole(path, item) > 0:
                entry.cpu[threads[item.name]] = _whole(path, item)
        elif item.name == "graph_options":
            _graph_options(found, path, item, entry)
        else:
            found.left_out.append(f"{path}:{item.line}: session_config.{item.name}")


def _graph_options(found: _FoundByHand, path: Path, options: TextField, entry: _FoundPlatform) -> None:
    for item in options.fields:
        if item.name != "rewrite_options":
            found.left_out.append(f"{path}:{item.line}: graph_options.{item.name}")
            continue
        for inner in item.fields:
            if inner.name == "custom_optimizers" and last_text(inner.fields, "name") == OPTIMIZER:
                entry.npu = _npu_options(found, path, inner)
            elif inner.name not in ("remapping", "memory_optimization"):  # which are always written
                found.left_out.append(f"{path}:{inner.line}: rewrite_options.{inner.name}")


def _npu_options(found: _FoundByHand, path: Path, optimizer: TextField) -> dict[str, Any] | None:
    options: dict[str, Any] = {}
    for item in optimizer.fields:
        if item.name != "parameter_map":
            continue
        name = last_text(item.fields, "key")
        values = [inner for value in item.fields if value.name == "value" for inner in value.fields]
        read = _read_kinds(path, values[-1]) if values else None
        if read is None:
            found.left_out.append(f"{path}:{item.line}: {name} has no value of a kind that the adapter reads")
        else:
            options[name] = read
    if options.pop("use_off_line", True) is not True:
        found.left_out.append(f"{path}: use_off_line was not true, so the CPU served: npu is false")
        return None
    mode = options.pop("graph_run_mode", None)
    if mode != 0:
        found.left_out.append(f"{path}: graph_run_mode was {mode if mode is not None else 'not set'}; 0 is written now")
    added = {name: value for name, value in complete_options(options).items() if name not in options}
    for name in sorted(set(added) - {"use_off_line", "graph_run_mode"}):
        found.left_out.append(f"{path}: {name} was not set; {added[name]} is written now")
    return options


def _read_kinds(path: Path, value: TextField) -> bool | int | str | None:
    if value.name == "b":
        return _is_true(value.text)
    if value.name == "i":
        return _whole(path, value)
    return value.text if value.name == "s" else None


def _is_true(text: str) -> bool:
    return text in ("true", "True", "t", "1")


def _whole(path: Path, item: TextField) -> int:
    try:
        return int(item.text, 0)
    except ValueError as error:
        raise RequestError(
            f"{path}:{item.line}: {item.name} is {item.text[:40]!r}, not a whole number.",
            cause="no server could read this file",
            cure=f"correct {path}, or leave out the setting",
        ) from error


def _batching(found: _FoundByHand, path: Path, fields: Iterable[TextField]) -> Document:
    made: Document = {}
    for item in fields:
        value = next((inner for inner in reversed(item.fields) if inner.name == "value"), item)
        if item.name == "allowed_batch_sizes":
            made.setdefault(item.name, []).append(_whole(path, value))
        elif item.name == "pad_variable_length_inputs":
            made[item.name] = _is_true(value.text)
        elif item.name == "thread_pool_name":
            continue  # a name in the log
        elif item.name in _OF_KIND:
            made[item.name] = _whole(path, value)
        else:
            found.left_out.append(f"{path}:{item.line}: {item.name}")
    return made


# ---- the deployment


def _models(found: _FoundByHand, entries: Mapping[str, _FoundPlatform]) -> list[Document]:
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
    in_common = _common_options(entries)
    for config in (item for top in fields for item in top.fields if item.name == "config"):
        models.append(_model(found, path, config, entries, in_common))
    return models


def _model(
    found: _FoundByHand,
    path: Path,
    config: TextField,
    entries: Mapping[str, _FoundPlatform],
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
            versions = [_whole(path, inner) for inner in item.fields if inner.name == "value"]
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
            return [_whole(path, item) for item in choice.fields if item.name == "versions"]
        if choice.name == "latest":
            counts = [_whole(path, item) for item in choice.fields if item.name == "num_versions"]
            return {"latest": counts[-1] if counts else 1}
    return {"latest": 1}


def _common_options(entries: Mapping[str, _FoundPlatform]) -> dict[str, Any]:
    """The options that all entries for the NPU have with the same value."""
    maps = [entry.npu for entry in entries.values() if entry.npu is not None]
    first = maps[0] if maps else {}
    return {key: value for key, value in first.items() if all(_same(one, key, value) for one in maps)}


def _same(options: Mapping[str, Any], key: str, value: object) -> bool:
    return key in options and (type(options[key]), options[key]) == (type(value), value)


def _in_common(found: _FoundByHand, entries: Mapping[str, _FoundPlatform]) -> Document:
    """The sections npu, cpu and parts of server that the platform config, or the flags without one, fill."""
    merged: Document = {"npu": None, "cpu": None, "server": {}}
    if any(entry.npu is not None for entry in entries.values()):
        merged["npu"] = _common_options(entries)
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
        merged["server"]["batching"] = _batching(found, path, fields)
    return merged


def _default(key: str) -> object:
    value = ServerOptions.__dataclass_fields__[key].default
    return list(value) if isinstance(value, tuple) else value


def _server(found: _FoundByHand) -> Document:
    server: Document = {}
    files = set(_FLAG_OF_KIND.values())
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
        item.name == "enable" and _is_true(item.text) for top in found.configs[MONITORING][1] for item in top.fields
    ):
        paths = [last_text(top.fields, "path") for top in found.configs[MONITORING][1]]
        server["monitoring"] = {"path": paths[-1]} if paths[-1] else {}
    if TLS in found.configs:
        found.left_out.append(
            f"{found.configs[TLS][0]}: put key and certificate into files of their own, and name those in server.tls"
        )
    return server


def _typed(kind: str, text: str) -> object:
    readers: dict[str, Callable[[str], object]] = {"int32": int, "int64": int, "bool": _is_true}
    try:
        return readers.get(kind, str)(text)
    except ValueError:
        return text


def _place(found: _FoundByHand, text: str) -> str:
    if fsutil.is_remote(text) or text.startswith("/"):
        return text
    absolute = found.directory.absolute() / text
    found.left_out.append(f"the model path {text!r} was relative to the server's directory; {absolute} is written")
    return str(absolute)
