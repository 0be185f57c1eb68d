"""What a support bundle is made of: each part, why it is in it, and what makes it."""

from __future__ import annotations

import functools
import json
import os
import platform
import resource
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from npu_serving import fsutil
from npu_serving.asking.npu_signs import CHECK_RESULT
from npu_serving.building.inputs import runner_name
from npu_serving.building.patching import patch_findings
from npu_serving.builds.current import find_build
from npu_serving.builds.verify import verify_build
from npu_serving.cann.info import cann_info
from npu_serving.console import Silent
from npu_serving.deploy.rendering import EXPORTS, SSL_CONFIG, VARIABLES
from npu_serving.doctor.examination import ALL, examine
from npu_serving.documents.syntax import YAML, UnreadableError, parse
from npu_serving.errors import RequestError
from npu_serving.resources import usable_processors
from npu_serving.serving.server_record import KnownServer, known_servers
from npu_serving.settings import Settings
from npu_serving.settings_reference import settings_in_force
from npu_serving.status.overview import overview
from npu_serving.support.redaction import Redactor
from npu_serving.version import version_text

TAIL_BYTES = 1 << 20
"""Of one log: its end."""
MOST_LOGS = 20
"""Of each kind: the newest."""
MOST_BYTES = 64 << 20
"""Of all texts together, before they are compressed."""
_CANN_LOGS = ("ascend", "log")
LOG_VARIABLE = "ASCEND_PROCESS_LOG_PATH"

_WHY = {
    "versions.json": "what runs here: npu-serving, Python, system, kernel, C library",
    "limits.json": "processors, memory, open files: what a server may use",
    "environment.json": "variables that change what CANN and the server do; of others the names only",
    "settings.json": "the settings in force",
    "doctor.json": "what this machine lacks (./inv doctor --for all)",
    "cann-info.json": "the CANN that is installed",
    "manifest.json": "what the current build was made from",
    "verify-serving.json": "whether the current build would start",
    "status.json": "the servers, their models and how they ended",
}


@dataclass(frozen=True)
class BundlePart:
    """A file of a bundle: its name, why it is in it, and what makes its text, without secrets."""

    name: str
    why: str
    make: Callable[[], str]


def all_parts(
    settings: Settings, deployment: Path | None, offered: Mapping[str, tuple[str, ...]], redactor: Redactor
) -> Iterator[BundlePart]:
    """The parts in their order; nothing is made yet. `offered` are the settings that each task takes."""
    makers: dict[str, Callable[[], Any]] = {
        "versions.json": _versions,
        "limits.json": _limits,
        "environment.json": lambda: redactor.shown_environment(os.environ),
        "settings.json": lambda: settings_in_force(offered).to_json(),
        "doctor.json": lambda: _examined(settings),
        "cann-info.json": lambda: cann_info(settings).to_json(),
        "manifest.json": lambda: find_build(settings.dist_root).to_json(),
        "verify-serving.json": lambda: verify_build(settings).to_json(),
        "status.json": lambda: overview(settings, Path.cwd()).to_json(),
    }
    for name, why in _WHY.items():
        yield BundlePart(name, why, lambda make=makers[name]: _as_json(redactor.document(make())))  # type: ignore[misc]
    servers = known_servers(settings.build_root)
    yield from _of_deployments(_deployment_files(servers, deployment), redactor)
    yield from _of_files(_rendered(settings), redactor)
    yield from _of_files(_records(settings), redactor)
    yield from _of_files(_logs(settings, servers), redactor)


def _as_json(document: Any) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _examined(settings: Settings) -> Any:
    return examine(settings, runner_name(settings), Silent(), patches=patch_findings, purpose=ALL).to_json()


def learn_secrets(settings: Settings, deployment: Path | None, redactor: Redactor) -> None:
    """Has the redactor know what is secret here: of our environment, of the servers' commands, of the deployments."""
    redactor.learn_environment(os.environ)
    servers = known_servers(settings.build_root)
    for server in servers:
        if server.record is not None:
            redactor.learn_arguments(server.record.argv)
            if server.record.deployed is not None:
                redactor.learn_values(server.record.deployed.values)
    for path in _deployment_files(servers, deployment):
        redactor.learn_deployment(_read_yaml(path))
    for name in (EXPORTS, VARIABLES):
        for path in (settings.build_root / "deployments").glob(f"*/{name}"):
            redactor.learn_variables_of(_text(path))


def left_out(settings: Settings) -> Iterator[tuple[str, str]]:
    """Files that are there and never go in, with why."""
    for path in sorted((settings.build_root / "deployments").glob(f"*/{SSL_CONFIG}")):
        yield str(path), "it holds the server's private key"


def _versions() -> dict[str, object]:
    system: dict[str, str] = {}
    for line in _text(Path("/etc/os-release")).splitlines():
        key, separator, value = line.partition("=")
        if separator:
            system[key] = value.strip('"')
    return {
        "npu_serving": version_text(),
        "python": platform.python_version(),
        "system": system.get("PRETTY_NAME", platform.platform()),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "c_library": " ".join(platform.libc_ver()),
    }


def _limits() -> dict[str, object]:
    names = {
        "open_files": resource.RLIMIT_NOFILE,
        "address_space": resource.RLIMIT_AS,
        "locked": resource.RLIMIT_MEMLOCK,
    }
    memory = dict(line.split(":", 1) for line in _text(Path("/proc/meminfo")).splitlines() if ":" in line)
    return {
        "processors": usable_processors(),
        "memory": {name: memory.get(name, "").strip() for name in ("MemTotal", "MemAvailable", "SwapFree")},
        "limits": {name: resource.getrlimit(number) for name, number in names.items()},
    }


def _text(path: Path) -> str:
    try:
        fsutil.refuse_endless(path)
        return fsutil.read_text(path)
    except Exception:
        return ""


def _read_yaml(path: Path) -> Any:
    try:
        fsutil.refuse_endless(path)
        return parse(fsutil.read_text(path), YAML)[0]
    except Exception:
        return None


def _deployment_files(servers: tuple[KnownServer, ...], deployment: Path | None) -> list[Path]:
    """The deployment files that are known of."""
    files = [deployment] if deployment is not None else []
    for server in servers:
        if server.record is not None and server.record.deployed is not None:
            files += [server.record.deployed.file, *server.record.deployed.overlays]
    return list(dict.fromkeys(path.expanduser().absolute() for path in files))


def _of_deployments(files: list[Path], redactor: Redactor) -> Iterator[BundlePart]:
    for number, path in enumerate(files):
        make = functools.partial(_deployment_text, path, redactor)
        yield BundlePart(f"deployments/{number}-{path.name}", f"a deployment: {path}", make)


def _deployment_text(path: Path, redactor: Redactor) -> str:
    """The file without its secrets. RequestError where it can't be read: nothing says then what is secret in it."""
    fsutil.refuse_endless(path)
    try:
        return redactor.deployment(fsutil.read_text(path))
    except UnreadableError as error:
        trouble = error.troubles[-1]
        raise RequestError(
            f"{path} is left out: line {trouble.line}: {redactor.text(trouble.message)}",
            cause="it is not valid YAML, and so nothing says what in it is secret",
            cure=f"./inv check-deployment {path}",
        ) from error


def _rendered(settings: Settings) -> list[tuple[str, Path, str]]:
    """What was written by deployments: name, path, why."""
    root = settings.build_root / "deployments"
    paths = [
        path for path in sorted(root.glob("*/*")) if path.is_file() and not path.name.startswith((SSL_CONFIG, "."))
    ]
    return [(f"rendered/{path.relative_to(root)}", path, "what a server is started with") for path in paths]


def _records(settings: Settings) -> list[tuple[str, Path, str]]:
    root = settings.build_root / "servers"
    return [(f"servers/{path.name}", path, "what serve knows of a server") for path in sorted(root.glob("*.json"))]


def _logs(settings: Settings, servers: tuple[KnownServer, ...]) -> list[tuple[str, Path, str]]:
    """The newest logs of each kind."""
    found = []
    records = [server.record for server in servers if server.record is not None]
    for number, record in enumerate(records):
        if record.log is not None:
            found.append((f"logs/server-{number}-{record.log.name}", record.log, "what a server printed"))
        found.append(
            (
                f"logs/server-{number}-{CHECK_RESULT}",
                record.directory / CHECK_RESULT,
                "what the adapter left to the CPU",
            )
        )
    for path in _newest(settings.logs):
        found.append((f"logs/{path.relative_to(settings.logs)}", path, "a log of a build or a server"))
    home = os.environ.get("HOME", "/")
    place = Path(os.environ.get(LOG_VARIABLE) or Path(home, *_CANN_LOGS))
    for path in _newest(place):
        found.append((f"cann-logs/{path.relative_to(place)}", path, "a log of CANN and the adapter"))
    return [row for row in found if row[1].is_file()]


def _newest(directory: Path) -> list[Path]:
    found: list[tuple[float, Path]] = []
    for name, _, files in fsutil.walk(directory):
        for file in files:
            path = Path(name, file)
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)[:MOST_LOGS]]


def _of_files(rows: list[tuple[str, Path, str]], redactor: Redactor) -> Iterator[BundlePart]:
    for name, path, why in rows:
        yield BundlePart(name, why, _end_of(path, redactor))


def _end_of(path: Path, redactor: Redactor) -> Callable[[], str]:
    """What reads the file's end, as far as it may be in a bundle; JSON keeps its form."""

    def make() -> str:
        fsutil.refuse_endless(path)
        with fsutil.explained(path, doing="read"), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES).decode("utf-8", "replace")
        if size <= TAIL_BYTES and path.suffix == ".json":
            try:
                return _as_json(redactor.document(json.loads(data)))
            except (ValueError, RecursionError):
                data += "\n(this is not valid JSON)\n"
        cut = f"(the first {size - TAIL_BYTES} bytes are left out)\n" if size > TAIL_BYTES else ""
        # A secret that begins before the cut can't be known for one: the line goes.
        return cut + redactor.text(data.partition("\n")[2] if cut else data)

    return make
