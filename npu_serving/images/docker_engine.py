"""The Docker engine: whether one answers, what it can do, and what to type when it doesn't or can't.

Everything that talks to the engine does so inside connected(), which turns the SDK's exceptions into this project's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npu_serving.errors import DiskFullError, MissingToolError, NpuServingError, ProgramError
from npu_serving.images.docker_context import DEFAULT_HOST, EngineAddress, engine_address

if TYPE_CHECKING:
    from docker import DockerClient

ANSWER_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 120
LABEL = "org.npu-serving"
"""Every image and container of this project carries labels that begin so; nothing without them is ever removed."""
ROLE = f"{LABEL}.role"
OR_WITHOUT = "; or build without Docker: ./inv build-serving --runner host"
"""Ends a cure: not every task that needs the engine has the flag --runner."""


@dataclass(frozen=True)
class EngineFacts:
    """What the engine says of itself; the limits it doesn't support must not be asked for."""

    version: str
    api_version: str
    machine: str
    processors: int
    security_options: tuple[str, ...]
    limits_memory: bool
    limits_cpu: bool
    limits_pids: bool

    @property
    def rootless(self) -> bool:
        """The engine runs as an ordinary user, whose id is 0 inside a container."""
        return self._has("rootless")

    @property
    def remaps_users(self) -> bool:
        """User ids inside a container differ from those outside."""
        return self._has("userns")

    @property
    def confines_files(self) -> bool:
        """SELinux keeps containers from files that carry no label for them."""
        return self._has("selinux")

    def _has(self, option: str) -> bool:
        return any(item.split(",")[0] == f"name={option}" for item in self.security_options)

    def to_json(self) -> dict[str, object]:
        """What `doctor` shows of it."""
        return {"version": self.version, "api_version": self.api_version, "machine": self.machine}


def engine_answers() -> bool:
    """Whether a build could run in containers here; takes no longer than a few seconds."""
    try:
        with connected(timeout_s=ANSWER_TIMEOUT_S) as client:
            return bool(client.ping())
    except NpuServingError:
        return False


@contextlib.contextmanager
def connected(*, timeout_s: int = REQUEST_TIMEOUT_S) -> Iterator[DockerClient]:
    """A connection to the engine that `docker` would talk to, for as long as the block runs.

    Raises MissingToolError, with the cure for the case at hand, where no engine of this machine can be reached, and
    turns what goes wrong within the block into errors of this project.
    """
    import docker

    address = engine_address()
    host = address.host
    _require_this_machine(address)
    try:
        _knock(host, timeout_s)
        client = _client(address, timeout_s)
    except (docker.errors.DockerException, OSError, ValueError) as error:
        raise _unreachable(error, address) from error
    with contextlib.closing(client), explained():
        yield client


def engine_facts(client: DockerClient) -> EngineFacts:
    """What the engine at the other end is and can do."""
    info: Mapping[str, Any] = client.info()
    return EngineFacts(
        version=str(info.get("ServerVersion", "")),
        api_version=client.api.api_version,
        machine=str(info.get("Architecture", "")),
        processors=int(info.get("NCPU", 0)),
        security_options=tuple(info.get("SecurityOptions") or ()),
        limits_memory=bool(info.get("MemoryLimit")),
        limits_cpu=bool(info.get("CpuCfsQuota")),
        limits_pids=bool(info.get("PidsLimit", True)),
    )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns an exception of the SDK raised within into an error of this project."""
    import docker
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise _refused(error.explanation or str(error)) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise MissingToolError(
            f"The Docker engine stopped answering ({error}).",
            cause="it was stopped, restarted, or is out of memory or disk space",
            cure="check it with `docker info`, then run the same command again; or build without Docker: --runner host",
        ) from error


def _refused(reason: object) -> NpuServingError:
    text = str(reason)
    if "no space left on device" in text:
        return DiskFullError(
            f"The Docker engine ran out of disk space ({text}).",
            cause="the disk that holds its images and containers (docker info: Docker Root Dir) is full",
            cure="free some space there (docker system df shows what uses it), then run the same command again",
        )
    return ProgramError(
        f"The Docker engine could not do what was asked ({text}).",
        cause="the engine's configuration or this user's permissions don't allow it",
        cure="check `docker info` and the engine's log, then run the same command again" + OR_WITHOUT,
    )


def _client(address: EngineAddress, timeout_s: int) -> DockerClient:
    import docker

    if address.said_by in ("", "DOCKER_HOST"):
        return docker.from_env(timeout=timeout_s)
    tls: Any = False
    if address.tls is not None:
        ca, certificate, key = (address.tls / f"{name}.pem" for name in ("ca", "cert", "key"))
        pair = (str(certificate), str(key)) if certificate.exists() else None
        tls = docker.tls.TLSConfig(client_cert=pair, ca_cert=str(ca) if ca.exists() else None, verify=True)
    return docker.DockerClient(base_url=address.host, timeout=timeout_s, tls=tls)


def _require_this_machine(address: EngineAddress) -> None:
    """A build mounts directories of this machine, so an engine elsewhere can't run it."""
    host = address.host
    with contextlib.suppress(ValueError):  # a text that is not a URL
        parts = urllib.parse.urlsplit(host if "://" in host else f"tcp://{host}")
        if parts.scheme in ("unix", "http+unix", "npipe"):
            return
        if parts.scheme in ("tcp", "http", "https") and parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return
    raise MissingToolError(
        f"{address.said_by} is {host!r}, which is not a Docker engine on this machine."
        if address.said_by == "DOCKER_HOST"
        else f"{address.said_by[0].upper()}{address.said_by[1:]} leads to {host!r}, which is not on this machine.",
        cause="a build mounts directories of this machine into its container, so the engine has to run here",
        cure=f"{_to_the_usual(address)} to use the local engine, or run this command on that machine" + OR_WITHOUT,
    )


def _to_the_usual(address: EngineAddress) -> str:
    return "unset DOCKER_HOST" if address.said_by == "DOCKER_HOST" else "export DOCKER_CONTEXT=default"


def _knock(host: str, timeout_s: int) -> None:
    """Raises the operating system's own error where nobody listens: the SDK buries it, and leaks the socket."""
    parts = urllib.parse.urlsplit(host)
    if parts.scheme in ("unix", "http+unix"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout_s)
            door.connect(parts.path or urllib.parse.urlsplit(DEFAULT_HOST).path)
    elif parts.scheme in ("tcp", "http", "https"):
        default_port = 2376 if os.environ.get("DOCKER_TLS_VERIFY") else 2375
        socket.create_connection((parts.hostname, parts.port or default_port), timeout_s).close()


def _unreachable(error: BaseException, address: EngineAddress) -> MissingToolError:
    import docker

    host = address.host
    if isinstance(error, docker.errors.InvalidVersion):
        return MissingToolError(
            f"The Docker engine at {host} is too old ({error}).",
            cure="install Docker 18.09 or later" + OR_WITHOUT,
        )
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EPERM):
        return MissingToolError(
            f"This user has no permission to use the Docker engine at {host}.",
            cause="its socket belongs to the group docker",
            cure='sudo usermod -aG docker "$USER", then log in again' + OR_WITHOUT,
        )
    if number in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR):
        start = "sudo systemctl start docker (or: sudo apt-get install docker.io)"
        if not address.said_by or host == DEFAULT_HOST:
            return MissingToolError(
                f"No Docker engine answers at {host}.",
                cause="it is not installed or not running",
                cure=start + OR_WITHOUT,
            )
        return MissingToolError(
            f"No Docker engine answers at {host}, which {address.said_by} names.",
            cause=f"it is not running, or {address.said_by} names the wrong socket",
            cure=f"start that engine, or for the usual one {_to_the_usual(address)}, then {start}{OR_WITHOUT}",
        )
    return MissingToolError(
        f"Could not connect to the Docker engine at {host} ({error}).",
        cause="DOCKER_HOST, DOCKER_TLS_VERIFY or DOCKER_CERT_PATH is wrong, or the engine hangs",
        cure="fix these variables until `docker version` works; or build without Docker: --runner host",
    )
