"""What a setting has reached under load, kept in a file of its own: an interrupted `tune` goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from npu_serving import fsutil
from npu_serving.documents import Rule, read_document
from npu_serving.errors import NpuServingError
from npu_serving.load.results import Level
from npu_serving.tuning.knobs import TunedSetting

FORMAT = 1
LEAST_GAIN = 1.05
"""More requests at once with less than this many times the throughput only wait for each other."""


@dataclass(frozen=True)
class MeasuredSetting:
    """The best load that a setting bears within the budget; `why` there is none."""

    setting: str
    concurrency: Annotated[int, Rule(minimum=0)] = 0
    throughput: Annotated[float, Rule(minimum=0)] = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    stable: bool = True
    limit: str = ""
    """What kept the server from more than was measured, where it was the sender."""
    why: str = ""
    date: str = ""

    @property
    def is_within(self) -> bool:
        """Whether it holds the budget under any load."""
        return not self.why


@dataclass(frozen=True)
class KeptSettings:
    """Those of one question: the same build, deployment, request and budget, whose digest names the directory."""

    directory: Path

    def of(self, setting: TunedSetting) -> MeasuredSetting | None:
        """What was measured of it before; None where nothing was, or nothing that can be read."""
        path = self._file(setting)
        if not path.is_file():
            return None
        try:
            return read_document(path, MeasuredSetting, format=FORMAT)
        except NpuServingError:  # it is measured again
            return None

    def keep(self, setting: TunedSetting, measured: MeasuredSetting) -> None:
        """Writes it down."""
        fsutil.make_directory(self.directory)
        document = {"format": FORMAT, **dataclasses.asdict(measured)}
        fsutil.write_file(self._file(setting), json.dumps(document, indent=2) + "\n")

    def _file(self, setting: TunedSetting) -> Path:
        return self.directory / f"{digest_of(setting.values)[:16]}.json"


def digest_of(value: object) -> str:
    """A SHA-256 in hexadecimal of something that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def best_load(
    setting: TunedSetting, loads: Sequence[int], p99_ms: float, measure: Callable[[int], Level]
) -> MeasuredSetting:
    """The load of those (requests at once, rising) with the highest throughput whose p99 is within the budget.

    A load with an error counts as outside. It ends at the first load that is outside, has no more throughput, or whose
    bottleneck was the sender.
    """
    best: MeasuredSetting | None = None
    why = ""
    for at_once in loads:
        level = measure(at_once)
        p99 = level.percentile_ms(99)
        if level.failed or p99 is None:
            why = f"{level.failed} requests failed with {at_once} at once"
            break
        if p99 > p99_ms:
            why = f"p99 was {p99:.3g} ms with {at_once} at once"
            break
        gain = level.throughput / best.throughput if best is not None and best.throughput else LEAST_GAIN
        limit = level.generator.bottleneck
        if best is None or level.throughput > best.throughput:
            best = MeasuredSetting(
                setting.text, at_once, level.throughput, level.percentile_ms(50), p99, level.stable, limit
            )
        if gain < LEAST_GAIN or limit:
            break
    return best if best is not None else MeasuredSetting(setting.text, why=why)
