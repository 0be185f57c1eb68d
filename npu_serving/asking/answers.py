"""What a model server answers, as types: states, signatures, predictions, errors."""

from __future__ import annotations

import base64
import json
import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from npu_serving.console import duration_text, table
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError

DEFAULT_SIGNATURE = "serving_default"
# Characters that may appear in a URL's path as they are (RFC 3986, pchar), but for those that end a model's name: the
# server does not decode what it finds there, so as little as possible is encoded.
SAFE_IN_NAME = "!$&'()*+,;=@"
_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:\s*"(.*)"\s*\}\s*', re.DOTALL)
_C_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_NOT_UTF8 = (
    '({count} {values} not UTF-8 text but bytes, such as an image or text in GBK, and shown as {{"b64": BASE64}}; an '
    "output whose name ends in _bytes is written like that by TensorFlow Serving itself)"
)
_C_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def model_path(model: str) -> str:
    """The path of a model in a server's REST API. UnicodeEncodeError for a name with half of a character in it."""
    return f"/v1/models/{urllib.parse.quote(model, safe=SAFE_IN_NAME)}"


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model: START, LOADING, AVAILABLE, UNLOADING or END, and what went wrong with it."""

    version: int
    state: str
    error_code: str
    error_message: str


@dataclass(frozen=True)
class ModelStatus:
    """The versions of a model, the newest first."""

    model: str
    versions: tuple[VersionStatus, ...]

    @property
    def available(self) -> bool:
        """Whether a version answers requests."""
        return any(version.state == "AVAILABLE" for version in self.versions)

    @property
    def failed(self) -> bool:
        """Whether every version has ended: none answers, and none will."""
        return bool(self.versions) and all(version.state == "END" for version in self.versions)

    @property
    def exit_code(self) -> int:
        """0 if a version is available, else 3."""
        return 0 if self.available else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """The status as `--json` shows it."""
        versions = [asdict(version) for version in self.versions]
        return {"model": self.model, "available": self.available, "versions": versions}

    def text(self) -> str:
        """The status for a person."""
        rows: list[tuple[str, ...]] = [
            (self.model, str(item.version), item.state, item.error_message) for item in self.versions
        ]
        return table(rows, header=("MODEL", "VERSION", "STATE", "ERROR"))


@dataclass(frozen=True)
class TensorInfo:
    """A named input or output; -1 stands for any size, a shape of None for any rank."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    def text(self) -> str:
        """Name, type and shape: `x: DT_FLOAT [-1, 2]`."""
        return f"{self.name}: {self.dtype} {'of any rank' if self.shape is None else list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """One way in which a model can be called."""

    name: str
    method_name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class ModelMetadata:
    """The signatures of a model's version."""

    model: str
    version: int
    signatures: tuple[Signature, ...]

    def what_it_takes(self, signature_name: str) -> str:
        """A sentence that names the inputs of that signature (the default one for an empty name)."""
        wanted = signature_name or DEFAULT_SIGNATURE
        for signature in self.signatures:
            if signature.name == wanted:
                inputs = "; ".join(item.text() for item in signature.inputs)
                return f"the signature {wanted!r} takes {inputs or 'no inputs'}"
        names = ", ".join(repr(signature.name) for signature in self.signatures)
        return f"the model has no signature {wanted!r}, only {names or 'no signature at all'}"

    def to_json(self) -> dict[str, object]:
        """The metadata as `--json` shows it."""
        return asdict(self)

    def text(self) -> str:
        """The signatures for a person."""
        rows: list[tuple[str, ...]] = [
            (signature.name, kind, tensor.text())
            for signature in self.signatures
            for kind, tensors in (("in", signature.inputs), ("out", signature.outputs))
            for tensor in tensors
        ]
        return f"{self.model} version {self.version}\n" + table(rows, header=("SIGNATURE", "", "TENSOR"))


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
            self.key: _strict(self.outputs),
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


def _strict(value: object) -> object:
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
