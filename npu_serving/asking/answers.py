"""What a model server answers over REST, read from its JSON; and a prediction and a state as they are shown."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import ClassVar

from npu_serving.client.model_types import ModelStatus
from npu_serving.client.rest_documents import text_bytes
from npu_serving.console import duration_text, table

_NOT_UTF8 = (
    '({count} {values} not UTF-8 text but bytes, such as an image or text in GBK, and shown as {{"b64": BASE64}}; an '
    "output whose name ends in _bytes is written like that by TensorFlow Serving itself)"
)


@dataclass(frozen=True)
class ShownPrediction:
    """What a model answered: `predictions` row by row or `outputs` column by column, as it was asked."""

    model: str
    version: int | None
    key: str
    outputs: object
    seconds: float
    in_bytes: int = 0
    """How many texts in it are not UTF-8, and stand in it as {"b64": BASE64}."""
    is_data: ClassVar[bool] = True
    """A URL in it is the model's answer, and shown as it is."""

    def to_json(self) -> dict[str, object]:
        """The prediction as `--json` shows it; NaN and the infinities, which JSON lacks, become texts."""
        return {
            "model": self.model,
            "version": self.version,
            self.key: strict(self.outputs),
            "seconds": round(self.seconds, 6),
            **({"not_utf8": self.in_bytes} if self.in_bytes else {}),
        }

    def text(self) -> str:
        """One line for each instance or output, and the time it took."""
        if isinstance(self.outputs, list):
            lines = [_shown(value) for value in self.outputs]
        elif isinstance(self.outputs, dict):
            lines = [f"{name}: {_shown(value)}" for name, value in self.outputs.items()]
        else:
            lines = [_shown(self.outputs)]
        version = "" if self.version is None else f" version {self.version}"
        took = duration_text(self.seconds) if self.seconds >= 1 else f"{1000 * self.seconds:.1f} ms"
        if self.in_bytes:
            lines.append(
                _NOT_UTF8.format(count=self.in_bytes, values="value is" if self.in_bytes == 1 else "values are")
            )
        return "\n".join([*lines, f"({self.model}{version}, {took})"])


def status_table(status: ModelStatus) -> str:
    """The versions of a model for a person."""
    rows: list[tuple[str, ...]] = [
        (status.model, str(item.version), item.state, item.error_message) for item in status.versions
    ]
    return table(rows, header=("MODEL", "VERSION", "STATE", "ERROR"))


def with_bytes_as_base64(value: object) -> tuple[object, int]:
    """The value with {"b64": BASE64} for each text that is not UTF-8, as TensorFlow Serving writes bytes, and how many.

    Such a text is one that was decoded with `surrogateescape`. Names keep their letters, and their other bytes escaped.
    """
    if isinstance(value, str) and not _is_text(value):
        return {"b64": base64.b64encode(text_bytes(value)).decode("ascii")}, 1
    if isinstance(value, list):
        items = [with_bytes_as_base64(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = {name: with_bytes_as_base64(item) for name, item in value.items()}
        return {_escaped(name): item for name, (item, _) in pairs.items()}, sum(count for _, count in pairs.values())
    return value, 0


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str) -> str:
    return text if _is_text(text) else text_bytes(text).decode("utf-8", "backslashreplace")


def strict(value: object) -> object:
    """The value with NaN and the infinities, which JSON lacks, as the texts "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, dict):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
