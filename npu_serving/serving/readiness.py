"""Whether a server is ready: every port that is named answers, every model is AVAILABLE and has answered a request.

TensorFlow Serving 1.15 opens its gRPC port only after every first load, and only logs that its REST port is taken. TF
Adapter reads its options when a graph is first run. So neither a port nor AVAILABLE proves that requests are answered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from npu_serving.asking import rest_client
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.npu_signs import NpuSigns
from npu_serving.console import duration_text
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.errors import NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.serving.asked_models import asked_models, lacking
from npu_serving.serving.ending import adapter_words, last_words
from npu_serving.serving.first_request import FirstRequest
from npu_serving.serving.mapped_adapter import mapped_adapter
from npu_serving.serving.server_apis import LOCAL, ServerApis
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import note_answer
from npu_serving.serving.watched_model import ModelReadiness, WatchedModel
from npu_serving.writers.shell import task_argument

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_LATER_LOOKS = 1.0
LOOKS_BETWEEN_NOTES = 50  # for a record in a file: of looks between which nothing has changed but the time
SECONDS_FOR_AN_ANSWER = 5.0
SECONDS_TO_THE_NEXT_TRY = 10.0
SECONDS_TO_END = 10.0
PROGRESS_AT = (10.0, 30.0, 60.0)  # seconds after the start; afterwards once a minute
LINES_KEPT = 1000  # of what the server printed last, in which the cause of a failure is looked for
_TIMED_OUT = ("HTTP status 504", "did not answer within", "deadline", "timed out")
COMPILES = (
    "a first request compiles the model for the NPU, which takes minutes; the compile cache keeps that for the next "
    "start, unless op_compiler_cache_mode is disable"
)


@dataclass(frozen=True)
class ReadyTerms:
    """What belongs to being ready, besides the models."""

    golden: tuple[GoldenRequest, ...] = ()
    timeout_s: int = 0
    """After how many seconds a server that is not ready is ended; 0 for never."""
    probe_port: int = 0
    """Where probes are answered; 0 for none. Somebody will ask, so it is looked after when it is ready, too."""
    by_name: bool = False
    """Whether golden requests are for the models of their names, wherever they were recorded."""

    def golden_of(self, model: ServedModel) -> tuple[GoldenRequest, ...]:
        """The golden requests of a model."""
        place = "" if self.by_name else model.base_path
        return tuple(golden for golden in self.golden if golden.is_of(model.name, place))


@dataclass(frozen=True)
class Readiness:
    """What was last seen of a server; ready where it is alive and there is no reason against it."""

    alive: bool
    reasons: tuple[str, ...]
    models: tuple[ModelReadiness, ...]

    @property
    def ready(self) -> bool:
        """Whether requests may be sent."""
        return self.alive and not self.reasons

    def to_json(self) -> dict[str, object]:
        """As the probes show it."""
        return {
            "alive": self.alive,
            "ready": self.ready,
            "reasons": list(self.reasons),
            "models": [model.to_json() for model in self.models],
        }


class ReadinessWatch:
    """Looks at a server, from its start until it is ready or has ended, in a thread of its own."""

    def __init__(
        self,
        plan: ServerPlan,
        terms: ReadyTerms,
        *,
        build_root: Path,
        say: Callable[[str], None],
        on_look: Callable[[bool, Sequence[str]], None] = lambda _ready, _reasons: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._terms, self._build_root, self._say, self._clock = plan, terms, build_root, say, clock
        self._on_look = on_look
        self._models = [WatchedModel(model, terms.golden_of(model)) for model in asked_models(plan.argv)]
        self._ports = _ports_of(plan)
        has_tls = any(word.startswith("--ssl_config_file=") for word in plan.argv)
        self._apis = ServerApis(plan.rest_api_port, plan.port, has_tls)
        self._begun = clock()
        self._changed = threading.Event()
        self._guard = threading.Lock()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._signs = NpuSigns()
        self._ended = False
        self._was_ready = False
        self._pid = 0
        self._open: set[str] = set()
        self._adapter: Path | None = None
        self._next_look_for_adapter = 0.0
        self._thread: threading.Thread | None = None
        self._state = Readiness(True, ("the server is being started",), tuple(watched.now for watched in self._models))
        self.error: ServerError | None = None
        """Why the server was ended that was not ready in time."""

    @property
    def state(self) -> Readiness:
        """What was last seen."""
        return self._state

    def began(self, pid: int) -> None:
        """The server runs, as this process."""
        self._pid, self._begun = pid, self._clock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def saw(self, line: str, signs: NpuSigns) -> None:
        """It has printed this line; `signs` are those seen so far."""
        with self._guard:
            self._lines.append(line)
        if signs != self._signs:
            self._signs = replace(signs)
            self._changed.set()

    def ended(self) -> None:
        """It has ended."""
        self._ended = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(SECONDS_FOR_AN_ANSWER)
        self._state = replace(self._state, alive=False, reasons=("the server has ended",))

    def output(self) -> str:
        """What the server printed last."""
        with self._guard:
            return "\n".join(self._lines)

    # ---- the thread

    def _watch(self) -> None:
        told_at, looks = list(PROGRESS_AT), 0
        while not self._ended:
            self._changed.clear()
            reasons = tuple(self._reasons())
            if self._ended:
                break
            before, self._state = self._state, Readiness(True, reasons, tuple(item.now for item in self._models))
            seconds = self._clock() - self._begun
            if self._state.ready and not before.ready:
                self._say(self._ready_text(seconds))
                self._was_ready = True
            elif before.ready and not self._state.ready:
                self._say(f"npu-serving: no longer ready: {'; '.join(reasons)}")
            if self._state.ready != before.ready or looks % LOOKS_BETWEEN_NOTES == 0:
                self._on_look(self._state.ready, reasons)
            looks += 1
            if self._was_ready and not self._terms.probe_port:
                return
            if not self._was_ready and self._is_too_late(seconds):
                self._end_it(reasons)
                return
            if not self._was_ready and seconds >= told_at[0]:
                self._say(self._progress_text(seconds, reasons))
                told_at = [at for at in told_at if at > seconds] or [seconds + PROGRESS_AT[-1]]
            self._changed.wait(SECONDS_BETWEEN_LATER_LOOKS if self._was_ready else SECONDS_BETWEEN_LOOKS)

    def _is_too_late(self, seconds: float) -> bool:
        return 0 < self._terms.timeout_s <= seconds

    def _reasons(self) -> list[str]:
        if self._was_ready:
            self._open.clear()
        self._open |= {api for api, address in self._ports.items() if api not in self._open and _listens(address)}
        closed = [api for api in self._ports if api not in self._open]
        reasons = [f"{api} is not open yet" for api in closed]
        if self._plan.uses_npu and not self._has_adapter():
            reasons.append("the process has not loaded the adapter, so the CPU would answer")
        if self._plan.rest_api_port and f"the REST port {self._plan.rest_api_port}" in self._open:
            for watched in self._models:
                self._look_at(watched)
        elif not self._plan.rest_api_port and not closed:
            for watched in self._models:
                watched.waits_for = self._proof_of(watched)  # gRPC opens when the models are loaded
        reasons += [f"{watched.model.name}: {watched.waits_for}" for watched in self._models if watched.waits_for]
        return reasons + self._of_the_cpu(reasons)

    def _has_adapter(self) -> bool:
        now = self._clock()
        if self._adapter is None and now >= self._next_look_for_adapter:  # it reads all of /proc
            self._next_look_for_adapter = now + SECONDS_BETWEEN_LATER_LOOKS
            self._adapter = mapped_adapter(self._pid)
        return self._adapter is not None

    def _of_the_cpu(self, reasons: Sequence[str]) -> list[str]:
        """A reason where the NPU is meant, and nothing was compiled for it though every model has answered."""
        all_answered = bool(self._models) and all(watched.answered for watched in self._models)
        if reasons or not all_answered or not self._plan.uses_npu or self._signs.compiled:
            return []
        return ["the CPU has answered: the adapter has had nothing compiled for the NPU (next: ./inv cann-info)"]

    def _look_at(self, watched: WatchedModel) -> None:
        model = watched.model
        if self._was_ready or not watched.loaded:
            try:
                status = rest_client.model_status(self._apis.rest_url, model.name, timeout_s=SECONDS_FOR_AN_ANSWER)
            except NpuServingError as error:
                watched.waits_for = error.what
                return
            # Once it was ready, a version that is being loaded beside the one that answers takes nothing away.
            missing = () if self._was_ready and status.available else lacking(model, status)
            watched.versions, watched.waits_for = status.versions, "; ".join(missing)
            watched.loaded = watched.loaded or not missing
            self._tell_failures(watched)
            if missing:
                return
        watched.waits_for = self._proof_of(watched)

    def _tell_failures(self, watched: WatchedModel) -> None:
        for version in watched.versions:
            text = f"{watched.model.name}, version {version.version}, has failed to load: {version.error_message}"
            if version.state == "END" and version.error_message and text not in watched.told:
                watched.told.add(text)
                error = ServerError(text, cure="correct what the message names, then start the server again")
                self._say(f"npu-serving: {_with_cure(error, self.output())}")

    def _proof_of(self, watched: WatchedModel) -> str:
        """What is missing of its proof; "" where it has answered, or where nothing can be asked of it."""
        if watched.is_proven:
            return ""
        others = [other for other in self._models if other.asked_at is not None]
        now = self._clock()
        if not others and now >= watched.not_before:  # one after the other: each compiles with all processors
            watched.asked_at, watched.not_before = now, now + SECONDS_TO_THE_NEXT_TRY
            watched.first_asked_at = watched.first_asked_at or now
            threading.Thread(target=self._ask, args=(watched,), daemon=True).start()
        failed = f" failed: {watched.failure}" if watched.failure else ""
        if watched.asked_at is not None:
            failed = f", an earlier try{failed}" if failed else ""
            return f"its first request has run for {duration_text(now - (watched.first_asked_at or now))}{failed}"
        if watched.failure:
            return f"its first request{failed}"
        waits = f", after that of {others[0].model.name}" if others else ""
        return f"it has answered no request yet; its first one comes{waits}"

    # ---- the thread of a request

    def _ask(self, watched: WatchedModel) -> None:
        first: FirstRequest | None = None
        try:
            while not self._ended:
                first = watched.next_request(self._apis)
                if first is None:
                    break
                answer = first.sent(self._apis, watched.model.name, timeout_s=rest_client.PREDICT_TIMEOUT_S)
                self._answered(watched, first, answer.outputs)
        except NpuServingError as error:
            self._refused(watched, first, error)
        finally:
            watched.asked_at = None
            self._changed.set()

    def _answered(self, watched: WatchedModel, first: FirstRequest, outputs: object) -> None:
        watched.has_answered(first)
        watched.failure = ""
        note_answer(self._build_root, self._apis.rest_url or self._apis.grpc_url, watched.model.name)
        difference = first.golden.difference(outputs) if first.golden is not None else ""
        if difference and first.golden is not None:
            name = first.golden.name
            of_name = "" if name == watched.model.name else f" of {name}"
            self._say(f"warning: {watched.model.name} does not give the recorded answer{of_name}: {difference}")

    def _refused(self, watched: WatchedModel, first: FirstRequest | None, error: NpuServingError) -> None:
        if self._ended:
            return
        if isinstance(error, UnreachableError) or any(word.lower() in error.what.lower() for word in _TIMED_OUT):
            # The compilation goes on behind it, and the next request gets its result.
            watched.not_before = self._clock() + SECONDS_BETWEEN_LATER_LOOKS
            watched.failure = error.what
            return
        known = adapter_words(f"{self.output()}\n{error.what}")
        is_optional = first is not None and first.golden is None and not first.is_needed
        refuses_zeros = first is not None and first.golden is None and isinstance(error, RequestError)
        if first is not None and (is_optional or (known is None and refuses_zeros)):
            watched.is_unproven(first, f"it refuses zeros: {error.what}")
            watched.not_before = 0.0  # the next signature
            return
        watched.failure, watched.not_before = error.what, self._clock() + SECONDS_TO_THE_NEXT_TRY
        text = f"{watched.model.name} does not answer: {error.what}"
        if text not in watched.told:
            watched.told.add(text)
            self._say(f"npu-serving: {_with_cure(ServerError(text, cure=error.cure), self.output())}")

    # ---- what is said

    def _ready_text(self, seconds: float) -> str:
        answered = [f"{item.model.name} ({item.answered})" for item in self._models if item.answered]
        unproven = [f"{item.model.name} ({item.unproven})" for item in self._models if item.unproven]
        said = ["npu-serving: ready after " + duration_text(seconds)]
        said += [f"answered: {', '.join(answered)}"] if answered else []
        said += [] if self._models else ["which models there are is not known: their list can't be read here"]
        said += [f"not proven to answer: {', '.join(unproven)}"] if unproven else []
        unknown = next((item.model.name for item in self._models if item.unproven), None)
        if unknown is not None and self._plan.rest_api_port:
            url = f"http://localhost:{self._plan.rest_api_port}"
            said.append(f"prove it: ./inv predict {task_argument('--model', unknown)} --url {url} --request REQUEST")
        return "; ".join(said)

    def _progress_text(self, seconds: float, reasons: Sequence[str]) -> str:
        text = f"npu-serving: not ready after {duration_text(seconds)}: {'; '.join(reasons)}"
        if self._plan.uses_npu and any(watched.asked_at is not None for watched in self._models):
            return f"{text} ({COMPILES})"
        known = last_words(self.output())
        return f"{text}\nLikely cause: {known.cause}\nNext: {known.cure}" if known is not None else text

    def _end_it(self, reasons: Sequence[str]) -> None:
        """Ends the server: by SIGTERM, and by SIGKILL where that is not heeded."""
        seconds = duration_text(float(self._terms.timeout_s))
        text = f"The server was not ready within {seconds} (--ready-timeout), so it was ended: {'; '.join(reasons)}."
        asks = any(watched.asked_at is not None for watched in self._models)
        longer = "give it longer (--ready-timeout), or look at what it printed last"
        self.error = _with_cure(ServerError(text, cause=COMPILES if asks else "", cure=longer), self.output())
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            until = self._clock() + SECONDS_TO_END
            while not self._ended and self._clock() < until:
                self._changed.wait(SECONDS_BETWEEN_LOOKS)
                self._changed.clear()


def _with_cure(error: ServerError, output: str) -> ServerError:
    """The error with the known cause and cure of what was printed, where there is one."""
    known = last_words(f"{output}\n{error.what}")
    return ServerError(error.what, cause=known.cause, cure=known.cure) if known is not None else error


def _ports_of(plan: ServerPlan) -> Mapping[str, tuple[str, int]]:
    """The addresses that have to answer, by what they are called."""
    ports = {f"the gRPC port {plan.port}": (LOCAL, plan.port)}
    if plan.rest_api_port:
        ports[f"the REST port {plan.rest_api_port}"] = (LOCAL, plan.rest_api_port)
    for word in plan.argv:
        if word.startswith("--grpc_socket_path=") and word.partition("=")[2]:
            path = word.partition("=")[2]
            ports[f"the socket {path}"] = (path, 0)
    return ports


def _listens(address: tuple[str, int]) -> bool:
    host, port = address
    kind, where = (socket.AF_INET, address) if port else (socket.AF_UNIX, host)
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.settimeout(SECONDS_FOR_AN_ANSWER)
        try:
            probe.connect(where)
        except OSError:
            return False
    return True
