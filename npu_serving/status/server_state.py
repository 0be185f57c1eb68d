"""status: the state of a model, and how much of it is proven. Loaded is not yet answered, and answered not yet the NPU.

TF Adapter reads its options when a graph is first run: a wrong one fails the first request, or ends the server. So
AVAILABLE says no more than that the model was loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving.asking.answers import status_table
from npu_serving.asking.npu_signs import left_to_the_cpu
from npu_serving.asking.rest_client import model_status
from npu_serving.client.model_types import ModelStatus
from npu_serving.console import clock_text
from npu_serving.errors import EXIT_ACTION_NEEDED, UnreachableError
from npu_serving.serving.server_record import EndNote, ServerRecord, answered_at, end_of, record_of
from npu_serving.writers.shell import task_argument


@dataclass(frozen=True)
class ServerState:
    """A model's versions, and what is known beyond them.

    `record` is None for a server that `serve` doesn't run on this machine. `answered` is when a request to the model
    was last seen to be answered, in seconds since the epoch; None where that isn't known.
    """

    status: ModelStatus
    record: ServerRecord | None
    answered: float | None
    on_the_cpu: str

    @property
    def is_proven_on_the_cpu(self) -> bool:
        """Whether it answers from the CPU, though it is meant to use the NPU."""
        record = self.record
        return record is not None and record.uses_npu and not record.compiled and self.answered is not None

    @property
    def exit_code(self) -> int:
        """0 if a version is available; 3 if none is, or if the CPU answers in the NPU's place."""
        return 0 if self.status.available and not self.is_proven_on_the_cpu else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """The state as `--json` shows it; null is what isn't known."""
        record = self.record
        return {
            **self.status.to_json(),
            "answered": self.answered,
            "uses_npu": record.uses_npu if record is not None else None,
            "compiled_for_npu": record.compiled if record is not None else None,
            "left_to_the_cpu": self.on_the_cpu or None,
        }

    def text(self) -> str:
        """The versions, then what is proven."""
        if not self.status.available:
            return status_table(self.status)
        return "\n".join(
            line for line in (status_table(self.status), self._answering(), self._npu(), self.on_the_cpu) if line
        )

    def _answering(self) -> str:
        if self.answered is not None:
            return f"It answered a request at {clock_text(self.answered)}."
        return (
            "AVAILABLE means loaded, not that it answers: NpuOptimizer's options are read at the first request.\n"
            f"Next: ./inv predict {task_argument('--model', self.status.model)} --request REQUEST"
        )

    def _npu(self) -> str:
        record = self.record
        if record is None:
            return "Whether the NPU answers only the server's own output shows; ./inv serve reads it."
        if not record.uses_npu:
            return "It runs on the CPU: no platform config asks for the NPU."
        if record.compiled:
            return f"The NPU is used: {_graphs(record.compiled)} compiled for it since {clock_text(record.started)}."
        if self.answered is None:
            return f"Nothing has been compiled for the NPU since {clock_text(record.started)}."
        return (
            f"THE CPU ANSWERS: nothing has been compiled for the NPU since {clock_text(record.started)}, though the "
            "platform config asks for it.\nNext: ./inv cann-info"
        )


def server_state(build_root: Path, url: str, model: str, version: int | None) -> ServerState:
    """The state of a model of the server at that URL.

    Raises what model_status() raises; where nothing answers, with how the server ended that `serve` ran there.
    """
    try:
        status = model_status(url, model, version)
    except UnreachableError as error:
        raise _with_its_end(error, end_of(build_root, url)) from error
    record = record_of(build_root, url)
    if record is None:
        return ServerState(status, None, None, "")
    answered = answered_at(build_root, record, model)
    return ServerState(status, record, answered, left_to_the_cpu(record.directory, record.started))


def _with_its_end(error: UnreachableError, end: EndNote | None) -> UnreachableError:
    if end is None:
        return error
    when = f" until {clock_text(end.ended)}" if end.ended else ""
    what = f"{error.what}\n./inv serve ran a server there{when}. {end.what}"
    return UnreachableError(what, cause=end.cause or "it was ended on purpose", cure=end.cure or error.cure)


def _graphs(count: int) -> str:
    return "1 graph was" if count == 1 else f"{count} graphs were"
