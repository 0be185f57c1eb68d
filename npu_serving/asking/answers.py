"""What a model server answers over REST, read from its JSON; and a prediction and a state as they are shown."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from npu_serving.client.model_types import ModelMetadata, ModelStatus, Signature, TensorInfo, VersionStatus
from npu_serving.console import duration_text, table
from npu_serving.errors import NpuServingError

_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:\s*"(.*)"\s*\}\s*', re.DOTALL)
_C_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_NOT_UTF8 = (
    '({count} {values} not UTF-8 text but bytes, such as an image or text in GBK, and shown as {{"b64": BASE64}}; an '
    "output whose name ends in _bytes is written like that by TensorFlow Serving itself)"
)
_C_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True)
class Prediction:
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
        return {"b64": base64.b64encode(_raw(value)).decode("ascii")}, 1
    if isinstance(value, list):
        items = [with_bytes_as_base64(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = {name: with_bytes_as_base64(item) for name, item in value.items()}
        return {_escaped(name): item for name, (item, _) in pairs.items()}, sum(count for _, count in pairs.values())
    return value, 0


def error_message(body: bytes) -> str | None:
    """The message of an answer `{"error": "..."}`, or None if the body isn't one.

    TensorFlow Serving escapes the message as C would (absl::CEscape): a single quote or a letter beyond ASCII makes
    the body invalid JSON, so it is read by C's rules.
    """
    found = _ERROR_BODY.fullmatch(body)
    if found is None:
        return None
    return _C_ESCAPE.sub(_unescaped, found.group(1)).decode(errors="replace")


def status_of(model: str, document: object, misfit: NpuServingError) -> ModelStatus:
    """The status in an answer to GET /v1/models/NAME; raises `misfit` for a document of another shape."""
    entries = document.get("model_version_status") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise misfit
    try:
        versions = [_version_status(entry) for entry in entries]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise misfit from error
    return ModelStatus(model, tuple(sorted(versions, key=lambda item: -item.version)))


def metadata_of(model: str, document: object, misfit: NpuServingError) -> ModelMetadata:
    """The metadata in an answer to GET /v1/models/NAME/metadata; raises `misfit` for one of another shape."""
    try:
        signatures = document["metadata"]["signature_def"]["signature_def"]  # type: ignore[index]
        version = int(document["model_spec"]["version"])  # type: ignore[index]
        found = [
            Signature(name, str(entry.get("method_name", "")), _tensors(entry["inputs"]), _tensors(entry["outputs"]))
            for name, entry in signatures.items()
        ]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise misfit from error
    return ModelMetadata(model, version, tuple(sorted(found, key=lambda item: item.name)))


def _version_status(entry: Mapping[str, object]) -> VersionStatus:
    status = _mapping(entry.get("status") or {})
    code, message = status.get("error_code", "OK"), status.get("error_message", "")
    return VersionStatus(int(str(entry["version"])), str(entry["state"]), str(code), str(message))


def _tensors(entries: Mapping[str, Mapping[str, object]]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name, str(entry["dtype"]), _shape(entry["tensor_shape"])) for name, entry in sorted(entries.items())
    )


def _shape(entry: object) -> tuple[int, ...] | None:
    shape = _mapping(entry)
    if shape.get("unknown_rank"):
        return None
    return tuple(int(dim["size"]) for dim in shape.get("dim", []))


def _mapping(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise TypeError(f"{entry!r} is not an object")
    return entry


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found.group(1)
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 0xFF])
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _C_LETTERS.get(code, code)


def _raw(text: str) -> bytes:
    """The bytes that were read as that text, by the error handler surrogateescape (PEP 383)."""
    return b"".join(
        letter.encode("utf-8", "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass")
        for letter in text
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str) -> str:
    return text if _is_text(text) else _raw(text).decode("utf-8", "backslashreplace")


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
