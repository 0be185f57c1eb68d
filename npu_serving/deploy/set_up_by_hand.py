"""What is found of a server that was set up by hand: its configurations, and the flags and variables of its script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.deploy.processor_lists import read_processors
from npu_serving.documents.text_format import TextField, TextFormatError, read_text_format
from npu_serving.errors import RequestError
from npu_serving.options.server_environment import known_variables
from npu_serving.options.server_flags import known_flags
from npu_serving.shown_text import masked_variable, printable

PROGRAM = "tensorflow_model_server"
_CONFIGS = ("config.cfg", "models.config")  # as the guide calls them; others are known by a flag or by their fields
LARGEST_BYTES = 1 << 22  # of a configuration that a person wrote
PLATFORMS, MODELS, MONITORING, TLS, BATCHING = "platform config", "list of models", "monitoring", "TLS", "batching"
KIND_OF_FIELD = {
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
FLAG_OF_KIND = {
    PLATFORMS: "platform_config_file",
    MODELS: "model_config_file",
    MONITORING: "monitoring_config_file",
    TLS: "ssl_config_file",
    BATCHING: "batching_parameters_file",
}
_EXPORT = re.compile(r"^\s*export\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.MULTILINE)
_SINGLE_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|\\.)|'[^']*'""", re.DOTALL)
_PINNED_BY_US = re.compile(r'exec taskset -c ([0-9,-]+) "\$serve"')
_NODE_OF_OURS = re.compile(r"node=/sys/devices/system/node/node(\d{1,4})/cpulist")
ROOT_OF_CANN = "ASCEND_ROOT"  # as bin/serve of a package reads it
LISTS_OF_DIRECTORIES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")


@dataclass
class SetUpByHand:
    """What was found: of a directory, or of a server that runs."""

    directory: Path
    """What relative paths are relative to."""
    where: str = ""
    """What was looked at, for a person; the directory where it is empty."""
    user: str = ""
    """Whom the server runs as, where that is known and not root."""
    configs: dict[str, tuple[Path, tuple[TextField, ...]]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    pinning: dict[str, str | int] = field(default_factory=dict)
    """What of the deployment's section cpu the server is pinned by: cpus or numa_node."""


def found_in(directory: Path) -> SetUpByHand:
    """What the files of that directory say. RequestError for a configuration that no server could read."""
    found = SetUpByHand(directory)
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


def _read_script(found: SetUpByHand, path: Path, text: str) -> None:
    """The flags and variables of a start script, or of a file of flags."""
    joined = re.sub(r"\\\r?\n", " ", text)
    if path.name == "flags":
        lines = [line.strip() for line in joined.splitlines()]
        _read_flags(found, path, [_unquoted_flag(line) for line in lines if line.startswith("--")])
    for line in joined.splitlines():
        _read_pinning_of_ours(found, line)
        if PROGRAM in line and "--" in line and not line.lstrip().startswith("#"):
            try:
                words = shlex.split(line.partition(PROGRAM)[2], comments=True)
            except ValueError:
                found.left_out.append(f"{path}: {line.strip()[:80]}: a quote is not closed")
                continue
            _read_flags(found, path, [word for word in words if word.startswith("--")])
            _read_pinning(found, path, line.partition(PROGRAM)[0])
    for name, value in _EXPORT.findall(joined) if PROGRAM in text or path.suffix == ".sh" else ():
        _read_variable(found, path, name, value)


def _read_pinning_of_ours(found: SetUpByHand, line: str) -> None:
    """What render-deployment writes into start.sh."""
    pinned, node = _PINNED_BY_US.fullmatch(line), _NODE_OF_OURS.fullmatch(line)
    if pinned is not None:
        found.pinning = {"cpus": pinned[1]}
    elif node is not None:
        found.pinning = {"numa_node": int(node[1])}


def _read_pinning(found: SetUpByHand, path: Path, before: str) -> None:
    """Taskset or numactl in front of the server."""
    pinned = re.search(r"\btaskset\s+(?:-c|--cpu-list)[\s=]+(\S+)", before)
    node = re.search(r"\bnumactl\s.*?(?:--cpunodebind[\s=]|-N\s*)(\d+)(?=\s)", before)
    if pinned is not None:
        try:
            read_processors(pinned[1])
        except ValueError:
            found.left_out.append(f"{path}: taskset -c {printable(pinned[1])}: write the processors as cpu.cpus")
        else:
            found.pinning = {"cpus": pinned[1]}
    elif node is not None:
        found.pinning = {"numa_node": int(node[1])}
    elif re.search(r"\b(taskset|numactl)\b", before):
        found.left_out.append(f"{path}: {printable(before.strip())}: write the processors as cpu.cpus or cpu.numa_node")


def _read_flags(found: SetUpByHand, path: Path, words: Sequence[str]) -> None:
    for word in words:
        name, _, value = word[2:].partition("=")
        if name in known_flags() and ("$" in value or "`" in value):
            found.left_out.append(f"{path}: --{name}={value}: the value is known to the shell only")
        else:
            take_flags(found, [word], str(path))


def _unquoted_flag(line: str) -> str:
    """A line of our file of flags without the quotes around its value: see writers/flag_file.py."""
    name, equals, value = line.partition("=")
    quoted = re.fullmatch(r"""(["'])(.*)\1""", value)
    return f"{name}{equals}{quoted[2] if quoted else value}"


def _read_variable(found: SetUpByHand, path: Path, name: str, value: str) -> None:
    known = next((line for line in known_variables() if line.fits(name)), None)
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        words = []
    if name in LISTS_OF_DIRECTORIES:
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


def _read_config(found: SetUpByHand, path: Path, text: str) -> None:
    try:
        fields = read_text_format(text)
    except TextFormatError as error:
        if path.name in _CONFIGS or path.name in {
            Path(found.flags.get(flag, "")).name for flag in FLAG_OF_KIND.values()
        }:
            raise _unreadable(path, error) from error
        return
    except RecursionError:
        return
    kind = next((KIND_OF_FIELD[item.name] for item in fields if item.name in KIND_OF_FIELD), None)
    if kind is None:
        return
    named = found.flags.get(FLAG_OF_KIND[kind])
    if named is not None and Path(named).name != path.name:
        found.left_out.append(f"{path} is a {kind}, and the server was started with {named}")
    elif kind in found.configs:
        found.left_out.append(f"{path} is a second {kind}; {found.configs[kind][0]} was taken")
    else:
        found.configs[kind] = (path, fields)


def take_config(found: SetUpByHand, kind: str, path: Path, text: str) -> None:
    """Takes a file that a flag of a server names. RequestError where no server could read it."""
    try:
        found.configs[kind] = (path, read_text_format(text))
    except (TextFormatError, RecursionError) as error:
        raise _unreadable(path, error) from error


def take_flags(found: SetUpByHand, words: Sequence[str], where: str) -> None:
    """Takes flags as a server got them, --name=value; one that it does not have is named."""
    for word in words:
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--") or name not in known_flags():
            found.left_out.append(f"{where}: the server has no flag {printable(word.partition('=')[0])}")
        else:
            found.flags[name] = value if equals else "true"


def _unreadable(path: Path, error: Exception) -> RequestError:
    why = str(error) if isinstance(error, TextFormatError) else " its messages are nested too deeply"
    return RequestError(
        f"{path}:{why}.", cause="no server could read this file", cure=f"correct {path}, or move it away"
    )


def is_true(text: str) -> bool:
    """Whether a server reads the text as true, in a flag and in text format."""
    return text in ("true", "True", "t", "1")


def whole(path: Path, item: TextField) -> int:
    """The whole number that a field has. RequestError for anything else."""
    try:
        return int(item.text, 0)
    except ValueError as error:
        raise RequestError(
            f"{path}:{item.line}: {item.name} is {item.text[:40]!r}, not a whole number.",
            cause="no server could read this file",
            cure=f"correct {path}, or leave out the setting",
        ) from error
