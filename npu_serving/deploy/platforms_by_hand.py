"""The platform config of a server that was set up by hand: the options, threads and batching of each entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving.deploy.set_up_by_hand import KIND_OF_FIELD, PLATFORMS, SetUpByHand, is_true, whole
from npu_serving.documents.text_format import TextField, last_text
from npu_serving.errors import RequestError
from npu_serving.options.npu_optimizer import OPTIMIZER
from npu_serving.options.session_options import OPTION_NAME, complete_options

Document = dict[str, Any]


@dataclass
class PlatformByHand:
    """What a platform's entry says: the NPU's options (None without NpuOptimizer), batching, and the rest."""

    npu: dict[str, Any] | None = None
    batching: Document | None = None
    cpu: Document = field(default_factory=dict)
    server: Document = field(default_factory=dict)


def platforms_by_hand(found: SetUpByHand) -> dict[str, PlatformByHand]:
    """The entries of the platform config by their names; none without one. RequestError for what can't be read."""
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


def _entry(found: SetUpByHand, path: Path, fields: Iterable[TextField]) -> PlatformByHand:
    entry = PlatformByHand(server={"warm_up": False, "remove_unused_fields_from_bundle_metagraph": False})
    for item in fields:
        if item.name == "session_config":
            _session(found, path, item, entry)
        elif item.name == "batching_parameters":
            entry.batching = batching_by_hand(found, path, item.fields)
        elif item.name == "saved_model_tags":
            entry.server.setdefault("saved_model_tags", []).append(item.text)
        elif item.name == "enable_model_warmup":
            entry.server["warm_up"] = is_true(item.text)
        elif item.name == "remove_unused_fields_from_bundle_metagraph":
            entry.server[item.name] = is_true(item.text)
        elif item.name == "model_warmup_options":
            counts = [inner for inner in item.walk() if inner.name == "value"]
            entry.server["warm_up_iterations"] = whole(path, counts[-1]) if counts else 1
        else:
            found.left_out.append(f"{path}:{item.line}: {item.name}")
    return entry


def _session(found: SetUpByHand, path: Path, session: TextField, entry: PlatformByHand) -> None:
    threads = {
        "intra_op_parallelism_threads": "intra_op_threads",
        "inter_op_parallelism_threads": "inter_op_threads",
    }
    for item in session.fields:
        if item.name in threads:
            if whole(path, item) > 0:
                entry.cpu[threads[item.name]] = whole(path, item)
        elif item.name == "graph_options":
            _graph_options(found, path, item, entry)
        else:
            found.left_out.append(f"{path}:{item.line}: session_config.{item.name}")


def _graph_options(found: SetUpByHand, path: Path, options: TextField, entry: PlatformByHand) -> None:
    for item in options.fields:
        if item.name != "rewrite_options":
            found.left_out.append(f"{path}:{item.line}: graph_options.{item.name}")
            continue
        for inner in item.fields:
            if inner.name == "custom_optimizers" and last_text(inner.fields, "name") == OPTIMIZER:
                entry.npu = _npu_options(found, path, inner)
            elif inner.name not in ("remapping", "memory_optimization"):  # which are always written
                found.left_out.append(f"{path}:{inner.line}: rewrite_options.{inner.name}")


def _npu_options(found: SetUpByHand, path: Path, optimizer: TextField) -> dict[str, Any] | None:
    options: dict[str, Any] = {}
    for item in optimizer.fields:
        if item.name != "parameter_map":
            continue
        name = last_text(item.fields, "key")
        if not OPTION_NAME.fullmatch(name):
            raise RequestError(
                f"{path}:{item.line}: {name!r} is not a valid name of a session option.",
                cause="the adapter would ignore it in silence: names have letters, digits and _ only",
                cure=f"correct it in {path}, or leave it out: ./inv explain --all lists the names",
            )
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
    try:
        added = {name: value for name, value in complete_options(options).items() if name not in options}
    except RequestError as error:
        where = f"{path}:{optimizer.line}"
        raise RequestError(f"{where}: {error.what}", cause=error.cause, cure=f"{error.cure}, in {path}") from error
    for name in sorted(set(added) - {"use_off_line", "graph_run_mode"}):
        found.left_out.append(f"{path}: {name} was not set; {added[name]} is written now")
    return options


def _read_kinds(path: Path, value: TextField) -> bool | int | str | None:
    if value.name == "b":
        return is_true(value.text)
    if value.name == "i":
        return whole(path, value)
    return value.text if value.name == "s" else None


def batching_by_hand(found: SetUpByHand, path: Path, fields: Iterable[TextField]) -> Document:
    """The section `batching` that those fields make."""
    made: Document = {}
    for item in fields:
        value = next((inner for inner in reversed(item.fields) if inner.name == "value"), item)
        if item.name == "allowed_batch_sizes":
            made.setdefault(item.name, []).append(whole(path, value))
        elif item.name == "pad_variable_length_inputs":
            made[item.name] = is_true(value.text)
        elif item.name == "thread_pool_name":
            continue  # a name in the log
        elif item.name in KIND_OF_FIELD:
            made[item.name] = whole(path, value)
        else:
            found.left_out.append(f"{path}:{item.line}: {item.name}")
    return made


def options_in_common(entries: Mapping[str, PlatformByHand]) -> dict[str, Any]:
    """The options that all entries for the NPU have with the same value."""
    maps = [entry.npu for entry in entries.values() if entry.npu is not None]
    first = maps[0] if maps else {}
    return {key: value for key, value in first.items() if all(_same(one, key, value) for one in maps)}


def _same(options: Mapping[str, Any], key: str, value: object) -> bool:
    return key in options and (type(options[key]), options[key]) == (type(value), value)
