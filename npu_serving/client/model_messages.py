"""What is asked of a server about its models, and told to it: signatures, states, a new list of models.

The numbers of the fields are those of get_model_metadata.proto, get_model_status.proto, model_management.proto and
model_server_config.proto at 1.15.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from npu_serving.client.data_types import type_name
from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec
from npu_serving.client.model_types import ModelMetadata, ModelStatus, Signature, TensorInfo, VersionStatus
from npu_serving.client.tensor_message import read_shape
from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    MalformedMessageError,
    bytes_field,
    entry_of,
    fields,
    lenient_text_of,
    number_field,
    signed,
    tag,
    text_field,
    text_of,
)

MOST_NAMES = 50_000  # of tensors, signatures and versions in one message: more than any model has
SIGNATURES = "signature_def"
_VERSION_POLICY, _LABELS = 7, 8
_LATEST, _ALL, _SPECIFIC = 100, 101, 102
_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


class ListedModel(Protocol):
    """One model of the list, as a models.config has it."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def base_path(self) -> str:
        """The directory of its versions, or its URL."""

    @property
    def platform(self) -> str:
        """The name of its entry in the platform config."""

    @property
    def versions(self) -> int | tuple[int, ...] | Literal["all"]:
        """All of them, some, or how many of the highest."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Versions by the names that clients use."""


@dataclass(frozen=True)
class ModelEntry:
    """A model for a server's list: its name, the directory that has its versions, and which of these are served."""

    name: str
    base_path: str
    platform: str = "tensorflow"
    versions: int | tuple[int, ...] | Literal["all"] = 1
    """All of them, some by their numbers, or how many of the highest."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Versions by the names that clients use."""


def write_metadata_request(spec: ModelSpec) -> bytes:
    """The GetModelMetadataRequest for the signatures of a model."""
    return bytes_field(1, write_model_spec(spec)) + text_field(2, SIGNATURES)


def read_metadata_response(model: str, message: memoryview) -> ModelMetadata:
    """The signatures in a GetModelMetadataResponse. MalformedMessageError for other bytes."""
    version, signatures, found = 0, {}, False
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            version = read_model_spec(inner).version or 0
        elif key == tag(2, BYTES):
            name, value = entry_of(inner)
            if name == SIGNATURES:
                found = True
                signatures = _signatures(_content_of_any(value))
    if not found:
        raise MalformedMessageError(f"it has no {SIGNATURES}")
    return ModelMetadata(model, version, tuple(signatures[name] for name in sorted(signatures)))


def write_status_request(spec: ModelSpec) -> bytes:
    """The GetModelStatusRequest for the versions of a model, or for the one that is named."""
    return bytes_field(1, write_model_spec(spec))


def read_status_response(model: str, message: memoryview) -> ModelStatus:
    """The versions in a GetModelStatusResponse, the newest first. MalformedMessageError for other bytes."""
    versions: list[VersionStatus] = []
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            versions.append(_version_status(inner))
            if len(versions) > MOST_NAMES:
                raise MalformedMessageError(f"it has more than {MOST_NAMES} versions")
    return ModelStatus(model, tuple(sorted(versions, key=lambda item: -item.version)))


def write_reload_request(models: Sequence[ListedModel]) -> bytes:
    """The ReloadConfigRequest with the whole list of models."""
    listed = b"".join(bytes_field(1, b"".join(_model(model))) for model in models)
    return bytes_field(1, bytes_field(1, listed))


def read_reload_response(message: memoryview) -> tuple[str, str]:
    """The code (OK where the list was taken) and the words of a ReloadConfigResponse. MalformedMessageError."""
    code, said = _CODES[0], ""
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            code, said = _status(inner)
    return code, said


def _content_of_any(message: memoryview) -> memoryview:
    content = message[:0]
    for key, _, inner in fields(message):
        if key == tag(2, BYTES):
            content = inner
    return content


def _signatures(message: memoryview) -> dict[str, Signature]:
    found: dict[str, Signature] = {}
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            name, value = entry_of(inner)
            found[name] = _signature(name, value)
            _refuse_too_many(found)
    return found


def _signature(name: str, message: memoryview) -> Signature:
    inputs: dict[str, TensorInfo] = {}
    outputs: dict[str, TensorInfo] = {}
    method = ""
    for key, _, inner in fields(message):
        if key in (tag(1, BYTES), tag(2, BYTES)):
            tensor, value = entry_of(inner)
            of_these = inputs if key == tag(1, BYTES) else outputs
            of_these[tensor] = _tensor_info(tensor, value)
            _refuse_too_many(of_these)
        elif key == tag(3, BYTES):
            method = text_of(inner)
    ordered = (tuple(each[name] for name in sorted(each)) for each in (inputs, outputs))
    return Signature(name, method, *ordered)


def _tensor_info(name: str, message: memoryview) -> TensorInfo:
    number = 0
    shape: tuple[int, ...] | None = ()
    for key, value, inner in fields(message):
        if key == tag(2, VARINT):
            number = value
        elif key == tag(3, BYTES):
            shape = read_shape(inner)
    return TensorInfo(name, type_name(number), shape)


def _version_status(message: memoryview) -> VersionStatus:
    version, state, code, said = 0, 0, _CODES[0], ""
    for key, number, inner in fields(message):
        if key == tag(1, VARINT):
            version = signed(number)
        elif key == tag(2, VARINT):
            state = number
        elif key == tag(3, BYTES):
            code, said = _status(inner)
    return VersionStatus(version, _STATES.get(state, str(state)), code, said)


def _status(message: memoryview) -> tuple[str, str]:
    code, said = 0, ""
    for key, number, inner in fields(message):
        if key == tag(1, VARINT):
            code = number
        elif key == tag(2, BYTES):
            said = lenient_text_of(inner)
    return _CODES[code] if code < len(_CODES) else str(code), said


def _model(model: ListedModel) -> Iterator[bytes]:
    yield text_field(1, model.name)
    yield text_field(2, model.base_path)
    yield text_field(4, model.platform)
    if model.versions == "all":
        yield bytes_field(_VERSION_POLICY, bytes_field(_ALL, b""))
    elif isinstance(model.versions, tuple):
        numbers = b"".join(number_field(1, version) for version in model.versions)
        yield bytes_field(_VERSION_POLICY, bytes_field(_SPECIFIC, numbers))
    elif isinstance(model.versions, int) and model.versions != 1:
        yield bytes_field(_VERSION_POLICY, bytes_field(_LATEST, number_field(1, model.versions)))
    for label, version in model.labels.items():
        yield bytes_field(_LABELS, text_field(1, label) + number_field(2, version))


def _refuse_too_many(found: Mapping[str, object]) -> None:
    if len(found) > MOST_NAMES:
        raise MalformedMessageError(f"it has more than {MOST_NAMES} names")
