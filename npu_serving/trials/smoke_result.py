"""What smoke has found: how each golden request was answered, and which there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_places import RECORD
from npu_serving.builds.manifest import Build
from npu_serving.console import duration_text, table
from npu_serving.errors import EXIT_ACTION_NEEDED


@dataclass(frozen=True)
class GoldenOutcome:
    """How one golden request was answered; `why` is empty where that was as expected."""

    golden: GoldenRequest
    why: str = ""
    not_asked: str = ""
    """Why it could not be asked here; it has not failed then."""
    on_npu: bool = False
    """Whether the server said that the NPU computed the answer."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """The request without its values, and the outcome."""
        return {
            **self.golden.to_json(),
            "passed": not self.why and not self.not_asked,
            "on_npu": self.on_npu,
            "why": self.why,
            "not_asked": self.not_asked,
            "seconds": round(self.seconds, 3),
        }

    def row(self) -> tuple[str, ...]:
        """As a table shows it."""
        golden = self.golden
        result = self.why or (f"not asked: {self.not_asked}" if self.not_asked else "as expected")
        took = "" if self.not_asked or not self.seconds else duration_text(self.seconds)
        place = "" if self.why or self.not_asked else "NPU" if self.on_npu else "CPU"
        return golden.name, golden.model, golden.signature, took, place, result


@dataclass(frozen=True)
class SmokeResult:
    """How a build's server answered the golden requests."""

    build: Build
    outcomes: tuple[GoldenOutcome, ...]
    seconds: float
    recorded: Path | None = None
    """The file, where an answer was recorded and not compared."""

    @property
    def why(self) -> str:
        """Which of them were not answered as expected, and why; "" where all were."""
        failed = [outcome for outcome in self.outcomes if outcome.why]
        if len(self.outcomes) == 1:
            return "".join(outcome.why for outcome in failed)
        return "\n".join(f"{outcome.golden.name}: {outcome.why}" for outcome in failed)

    @property
    def on_npu(self) -> bool:
        """Whether the NPU computed every answer."""
        asked = [outcome for outcome in self.outcomes if not outcome.not_asked]
        return bool(asked) and all(outcome.on_npu for outcome in asked)

    @property
    def exit_code(self) -> int:
        """0, or 3 where an answer is different or missing."""
        return EXIT_ACTION_NEEDED if self.why else 0

    def to_json(self) -> dict[str, object]:
        """The outcome of each request, and of all."""
        return {
            "build_id": self.build.manifest.build_id,
            "passed": not self.why,
            "on_npu": self.on_npu,
            "why": self.why,
            "requests": [outcome.to_json() for outcome in self.outcomes],
            "recorded": str(self.recorded) if self.recorded is not None else None,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """One line for one request, a table for several."""
        name, took = self.build.manifest.build_id, duration_text(self.seconds)
        if self.recorded is not None:
            kept = f"Recorded the answer of {name} in {self.recorded}; every rebuilt server has to give the same one."
            return f"{kept}\n{self._where}"
        if len(self.outcomes) == 1:
            (only,) = self.outcomes
            if only.not_asked:
                return f"The golden request {only.golden.name} was not asked: {only.not_asked}."
            if self.why:
                return f"{name} fails the golden request ({took}): {self.why}"
            return f"{name} answers the golden request, {self._with} ({took}). {self._where}"
        rows = [outcome.row() for outcome in self.outcomes]
        failed = sum(bool(outcome.why) for outcome in self.outcomes)
        asked = sum(not outcome.not_asked for outcome in self.outcomes)
        said = f"{name} fails {failed} of {asked} golden requests" if failed else f"{name} answers the golden requests"
        lines = [
            table(rows, header=("NAME", "MODEL", "SIGNATURE", "TOOK", "BY", "ANSWER")),
            f"{said}{'' if failed else f', {self._with}'} ({took}).",
        ]
        return "\n".join(lines if failed else [*lines, self._where])

    @property
    def _with(self) -> str:
        return "without an adapter" if self.build.manifest.without_adapter else "with its adapter loaded"

    @property
    def _where(self) -> str:
        if self.build.manifest.without_adapter:
            return "The CPU computed it: that proves the models and their answers, and nothing about the NPU."
        if self.on_npu:
            return "The NPU computed it: the adapter had the model compiled for it."
        return (
            "That proves nothing about the NPU: the golden request has no platform config that asks for it, so the CPU "
            f"answered. To have the NPU proven: {RECORD}"
        )


@dataclass(frozen=True)
class GoldenList:
    """The golden requests that there are."""

    directory: Path
    requests: tuple[GoldenRequest, ...]

    def to_json(self) -> dict[str, object]:
        """Each without its values."""
        return {"directory": str(self.directory), "requests": [golden.to_json() for golden in self.requests]}

    def text(self) -> str:
        """One line for each."""
        if not self.requests:
            return f"There is no golden request in {self.directory}. Next: {RECORD}"
        rows: list[tuple[str, ...]] = [
            (each.name, each.model, each.signature, each.origin.build, each.origin.cann, each.origin.device)
            for each in self.requests
        ]
        return table(rows, header=("NAME", "MODEL", "SIGNATURE", "BUILD", "CANN", "BY"))
