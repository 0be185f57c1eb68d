"""A golden request: a question to a served model, and the answer that the last good build gave; how they compare.

Smoke, readiness, warm-up and whatever compares answers ask the same ones. Where they are kept: golden_files.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.asking.request import PredictRequest
from npu_serving.client.model_types import DEFAULT_SIGNATURE

REST, GRPC = "rest", "grpc"


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off: atol + rtol * |expected|, as numpy.allclose has it."""

    rtol: float = field(default=0.001, metadata={"help": "relative to the expected value", "minimum": 0})
    atol: float = field(default=0.001, metadata={"help": "absolute", "minimum": 0})

    def allows(self, expected: float, answer: float) -> bool:
        """Whether the answer is near enough; NaN to NaN, infinity to the same infinity."""
        if math.isnan(expected) or math.isnan(answer):
            return math.isnan(expected) and math.isnan(answer)
        if math.isinf(expected) or math.isinf(answer):
            return expected == answer
        return abs(expected - answer) <= self.atol + self.rtol * abs(expected)


@dataclass(frozen=True)
class GoldenOrigin:
    """What gave the answer that is expected. "" for what is not known."""

    build: str = field(default="", metadata={"help": "the build that answered"})
    cann: str = field(default="", metadata={"help": "the release of CANN it ran with"})
    device: str = field(default="", metadata={"help": "what computed it: npu and the device's number, or cpu"})
    date: str = field(default="", metadata={"help": "when, in UTC, such as 2025-01-31T12:00:00Z"})


@dataclass(frozen=True)
class GoldenRequest:
    """A request to one model, and what is expected back.

    `expected` is what the server answers under `predictions` or `outputs`. `tolerances` are those of single outputs, by
    name. Without `version` and `label` the newest version is asked. `model_base_path` ("" where it is not said) and
    `platform_config_file` are what the server had that gave the answer.
    """

    name: str
    model: str
    request: PredictRequest
    expected: object = None
    tolerance: Tolerance = Tolerance()
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    version: int | None = None
    label: str = ""
    api: str = REST
    model_base_path: str = ""
    platform_config_file: Path | None = None
    origin: GoldenOrigin = GoldenOrigin()

    @property
    def signature(self) -> str:
        """The signature that is asked."""
        return self.request.signature_name or DEFAULT_SIGNATURE

    @property
    def needs_grpc(self) -> bool:
        """Whether it is asked over gRPC only: REST knows no labels."""
        return self.api == GRPC or bool(self.label)

    def is_of(self, model: str, base_path: str = "") -> bool:
        """Whether it was recorded for the model of that name, and from there where both say where that is."""
        return self.model == model and (not base_path or self.model_base_path in ("", base_path))

    def to_json(self) -> dict[str, object]:
        """What it is, without its values."""
        config = self.platform_config_file
        return {
            "name": self.name,
            "model": self.model,
            "signature": self.signature,
            "version": self.version,
            "label": self.label,
            "api": GRPC if self.needs_grpc else REST,
            "model_base_path": self.model_base_path,
            "platform_config_file": str(config) if config is not None else None,
            "build": self.origin.build,
            "cann": self.origin.cann,
            "device": self.origin.device,
            "date": self.origin.date,
        }

    def difference(self, answer: object) -> str:
        """Where `answer` differs from the expected one, in a few words; "" where it doesn't."""
        tolerance = self.tolerance
        if len(self.tolerances) == 1 and not _is_named(self.expected):
            tolerance = next(iter(self.tolerances.values()))  # the values of a single output come without its name
        return self._difference(self.expected, answer, tolerance, self.request.answer_key)

    def _difference(self, expected: object, answer: object, allowed: Tolerance, where: str) -> str:
        if isinstance(expected, dict) and isinstance(answer, dict) and expected.keys() == answer.keys():
            pairs = [
                (f"{where}.{key}", expected[key], answer[key], self.tolerances.get(key, allowed)) for key in expected
            ]
        elif isinstance(expected, list) and isinstance(answer, list) and len(expected) == len(answer):
            pairs = [(f"{where}[{i}]", one, other, allowed) for i, (one, other) in enumerate(zip(expected, answer))]
        elif _is_same(expected, answer, allowed):
            return ""
        else:
            return f"{where} is {_shown(answer)}, not {_shown(expected)}"
        found = (self._difference(one, other, near, place) for place, one, other, near in pairs)
        return next((text for text in found if text), "")


def _is_named(expected: object) -> bool:
    rows = expected if isinstance(expected, list) else [expected]
    return any(isinstance(row, dict) for row in rows)


def _is_same(expected: object, answer: object, allowed: Tolerance) -> bool:
    if isinstance(expected, bool) or isinstance(answer, bool):
        return expected is answer
    if isinstance(expected, (int, float)) and isinstance(answer, (int, float)):
        return expected == answer or allowed.allows(_as_float(expected), _as_float(answer))
    return type(expected) is type(answer) and expected == answer


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond every float
        return math.inf if number > 0 else -math.inf


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
