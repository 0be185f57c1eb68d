"""status --live and --ready: one line for a probe, for little more than the start of Python.

So nothing is imported here that reads deployments or asks with more than the standard library.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.client.rest_paths import model_path
from npu_serving.errors import EXIT_ACTION_NEEDED, RequestError
from npu_serving.serving.chosen_servers import is_of
from npu_serving.serving.mapped_adapter import mapped_adapter
from npu_serving.serving.server_record import KnownServer, ServerRecord, answers_of, known_servers, record_of
from npu_serving.status.reload_note import model_names

LIVE, READY = "live", "ready"
LOCAL = "127.0.0.1"
SECONDS_FOR_AN_ANSWER = 5.0


@dataclass(frozen=True)
class ProbeAnswer:
    """Whether what was asked for is so, and if not, why not."""

    asked: str
    reasons: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 if it is so, else 3."""
        return EXIT_ACTION_NEEDED if self.reasons else 0

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {self.asked: not self.reasons, "reasons": list(self.reasons)}

    def text(self) -> str:
        """One line."""
        return f"not {self.asked}: {'; '.join(self.reasons)}" if self.reasons else self.asked


@dataclass(frozen=True)
class ProbedServers:
    """What a probe is about: all servers that run here, or those of a deployment file, or the one at a URL.

    `model` is the one that has to be ready, "" for all of them: a server elsewhere has none that is known.
    """

    build_root: Path
    url: str = ""
    deployment: Path | None = None
    model: str = ""

    def live(self) -> ProbeAnswer:
        """Whether each has its process, and its port answers."""
        if self.url and self._record_at_url() is None:
            return ProbeAnswer(LIVE, tuple(_deaf(*_address(self.url))))
        return ProbeAnswer(
            LIVE, tuple(self._reasons(lambda record: _deaf(LOCAL, record.rest_api_port or record.grpc_port)))
        )

    def ready(self) -> ProbeAnswer:
        """Whether each model of each is available and has answered, and the adapter is in the process."""
        if self.url and self._record_at_url() is None:
            if not self.model:
                raise RequestError(
                    f"./inv serve runs no server at {self.url}, so it is not known which models are to be ready.",
                    cure="name one: ./inv status MODEL --ready --url URL",
                )
            return ProbeAnswer(READY, tuple(_lacking(*_address(self.url), [self.model])))
        return ProbeAnswer(READY, tuple(self._reasons(self._not_ready)))

    def _record_at_url(self) -> ServerRecord | None:
        return record_of(self.build_root, self.url)

    def _reasons(self, of: Callable[[ServerRecord], Iterator[str]]) -> Iterator[str]:
        servers = [server for server in known_servers(self.build_root) if self._is_meant(server)]
        running = [server.record for server in servers if server.record is not None and server.is_running]
        if not running:
            ends = [server.end.what for server in servers if server.end is not None]
            of_file = f" of {self.deployment}" if self.deployment is not None else ""
            yield f"no server{of_file} runs here" + (f" ({ends[0]})" if len(ends) == 1 else "")
        for record in running:
            for reason in of(record):
                yield f"{reason} (port {_port_of(record)})" if len(running) > 1 else reason

    def _is_meant(self, server: KnownServer) -> bool:
        if self.url:
            found = self._record_at_url()
            return server.record is not None and found is not None and server.record.name == found.name
        if self.deployment is not None:
            return is_of(server, self.deployment)
        return True

    def _not_ready(self, record: ServerRecord) -> Iterator[str]:
        models = [self.model] if self.model else list(model_names(record, self.build_root))
        seen_ready = record.readiness is not None and record.readiness.ready
        if record.rest_api_port:
            lacking = list(_lacking(LOCAL, record.rest_api_port, models))
        else:
            lacking = list(_deaf(LOCAL, record.grpc_port))
            if not seen_ready:
                lacking += record.readiness.reasons if record.readiness is not None else ("it was just started",)
        yield from lacking
        if record.uses_npu and mapped_adapter(record.pid) is None:
            yield "the adapter is not in its process"
        if lacking or seen_ready:  # by which `serve` has heard an answer, or why there is none
            return
        answers = answers_of(self.build_root, record)
        yield from (f"{name} has not answered yet" for name in models if name not in answers)


def _port_of(record: ServerRecord) -> int:
    return record.rest_api_port or record.grpc_port


def _address(url: str) -> tuple[str, int]:
    """Host and port; RequestError for what has none."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise RequestError(f"{url!r} names no host and port.", cure="write it like http://HOST:PORT")
    return host, port


def _deaf(host: str, port: int) -> Iterator[str]:
    """Why nothing answers there; nothing where something does."""
    try:
        socket.create_connection((host, port), SECONDS_FOR_AN_ANSWER).close()
    except OSError as error:
        yield f"port {port} does not answer ({error.strerror or error})"


def _lacking(host: str, port: int, models: list[str]) -> Iterator[str]:
    """Which of the models has no version that is AVAILABLE, by the REST API there; one connection is enough."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS_FOR_AN_ANSWER)
    try:
        for name in models:
            connection.request("GET", model_path(name))
            states = _states(connection.getresponse().read())
            if "AVAILABLE" not in states:
                yield f"{name} is {' and '.join(states) or 'not known to the server'}"
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        yield f"port {port} does not answer ({getattr(error, 'strerror', '') or error})"
    finally:
        connection.close()


def _states(body: bytes) -> list[str]:
    """The states of a model's versions in the server's answer; none in any other."""
    try:
        document = json.loads(body.decode("utf-8", "replace"))
        return [str(version["state"]) for version in document["model_version_status"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
