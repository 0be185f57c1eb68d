"""Which engine the `docker` program would talk to: DOCKER_HOST, DOCKER_CONTEXT or the context that is in use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from npu_serving.errors import MissingToolError

DEFAULT_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class EngineAddress:
    """Where the engine is, and what said so: a variable, a context, or "" for the usual socket.

    `tls` holds ca.pem, cert.pem and key.pem of a context that has them.
    """

    host: str
    said_by: str = ""
    tls: Path | None = None


def engine_address() -> EngineAddress:
    """The engine that the docker program would talk to here (its rules: docker/cli, cli/command/cli.go).

    Raises MissingToolError for a context that does not exist.
    """
    host = os.environ.get("DOCKER_HOST")
    if host:
        return EngineAddress(host, "DOCKER_HOST")
    at_home = os.path.expanduser("~/.docker")  # noqa: PTH111 - Path.home() raises for a user without one
    directory = Path(os.environ.get("DOCKER_CONFIG") or at_home)
    name = os.environ.get("DOCKER_CONTEXT") or str(_document(directory / "config.json").get("currentContext") or "")
    if name in ("", "default"):
        return EngineAddress(DEFAULT_HOST)
    place = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    endpoints = _document(directory / "contexts" / "meta" / place / "meta.json").get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    found = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(found, str) or not found:
        raise MissingToolError(
            f"The Docker context {name!r} has no engine.",
            cause=f"DOCKER_CONTEXT or {directory / 'config.json'} names it, and it was removed or is damaged",
            cure="docker context ls shows those that exist; choose one: export DOCKER_CONTEXT=default",
        )
    tls = directory / "contexts" / "tls" / place / "docker"
    return EngineAddress(found, f"the Docker context {name!r}", tls if tls.is_dir() else None)


def _document(path: Path) -> dict[str, object]:
    """The JSON object in the file; an empty one where there is none, as the docker program has it."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        read = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
    return {}
