"""The golden request: a question to a served model, and the answer that the last good build gave."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.client.request import PredictRequest, read_request
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.errors import RequestError
from npu_serving.models.layout import ModelPlace, model_place
from npu_serving.settings import user_path

FILE = "golden-request.json"
FORMAT = 1
RECORD = "./inv smoke --record --model-base-path PATH --request REQUEST --platform-config-file CONFIG"
"""Without the platform config it would prove nothing about the NPU."""


@dataclass(frozen=True)
class GoldenRequest:
    """A request to one model, and what is expected back.

    `expected` is what the server answers under `predictions` or `outputs`; numbers may differ by `tolerance`, taken
    relative to the expected one, and absolute below 1. `build_id` is the build whose answer it was.
    """

    model_base_path: ModelPlace
    model_name: str
    platform_config_file: Path | None
    request: PredictRequest
    expected: object
    tolerance: float
    build_id: str

    def to_json(self) -> dict[str, object]:
        """As it is written in the file."""
        config = self.platform_config_file
        return {
            "format": FORMAT,
            "model_base_path": str(self.model_base_path),
            "model_name": self.model_name,
            "platform_config_file": str(config) if config is not None else None,
            "request": json.loads(self.request.body()),
            "expected": self.expected,
            "tolerance": self.tolerance,
            "build_id": self.build_id,
        }

    def difference(self, answer: object) -> str:
        """Where `answer` differs from the expected one, in a few words; "" where it doesn't."""
        return _difference(self.expected, answer, self.tolerance, self.request.answer_key)


@dataclass(frozen=True)
class _GoldenFile:
    """A golden request as it stands in its file."""

    model_base_path: str
    model_name: str
    platform_config_file: Path | None
    request: dict[str, object] | tuple[object, ...]
    expected: object
    tolerance: float
    build_id: str


def asked_for(
    model_base_path: str | None, model_name: str, request: str | None, platform_config_file: str | None, tolerance: str
) -> GoldenRequest:
    """The golden request that the flags of `smoke --record` describe, its answer not known yet."""
    if not model_base_path or request is None:
        raise RequestError("--record needs a model and a request.", cure=RECORD)
    try:
        allowed = float(tolerance)
    except ValueError:
        allowed = math.nan
    if not 0 <= allowed < 1:
        raise RequestError(
            f"--tolerance must be a number from 0 to 1, not {tolerance!r}.", cure="use a value such as 0.001"
        )
    base = model_place(model_base_path, "--model-base-path")
    config = user_path(platform_config_file, "--platform-config-file").absolute() if platform_config_file else None
    return GoldenRequest(base, model_name or base.name, config, read_request(request), None, allowed, "")


def write_golden(dist_root: Path, golden: GoldenRequest) -> Path:
    """Keeps it beside the builds, where it outlives them; returns the file."""
    path = dist_root / FILE
    fsutil.write_file(path, json.dumps(golden.to_json(), indent=2) + "\n")
    return path


def read_golden(dist_root: Path) -> GoldenRequest | None:
    """The one that was recorded, or None. Raises RequestError for a file that holds something else."""
    path = dist_root / FILE
    if not path.exists():
        return None
    refusal = DocumentRefusal(
        f"{path} is not a golden request:", RequestError, "it was changed by hand", f"record it again: {RECORD}"
    )
    read = read_document(path, _GoldenFile, format=FORMAT, ignore_unknown=True, refusal=refusal)
    try:
        request = read_request(json.dumps(read.request))
    except RequestError as error:
        raise RequestError(f"{refusal.heading} {error.what}", cause=refusal.cause, cure=refusal.cure) from error
    return GoldenRequest(
        model_place(read.model_base_path, "model_base_path"),
        read.model_name,
        read.platform_config_file,
        request,
        read.expected,
        read.tolerance,
        read.build_id,
    )


def _difference(expected: object, answer: object, tolerance: float, where: str) -> str:
    if isinstance(expected, dict) and isinstance(answer, dict) and expected.keys() == answer.keys():
        pairs = [(f"{where}.{key}", expected[key], answer[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(answer, list) and len(expected) == len(answer):
        pairs = [(f"{where}[{i}]", one, other) for i, (one, other) in enumerate(zip(expected, answer))]
    elif expected == answer or _is_close(expected, answer, tolerance):
        return ""
    else:
        return f"{where} is {_shown(answer)}, not {_shown(expected)}"
    found = (_difference(one, other, tolerance, place) for place, one, other in pairs)
    return next((text for text in found if text), "")


def _is_close(expected: object, answer: object, tolerance: float) -> bool:
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (expected, answer)):
        return False
    one, other = float(expected), float(answer)  # type: ignore[arg-type]
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
