"""Which model is asked: the ModelSpec of every request, and of the answers that name who answered.

The numbers of the fields are those of model.proto at 1.15.0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from npu_serving.wire_bytes import BYTES, VARINT, bytes_field, fields, number_field, signed, tag, text_field, text_of

_MOST_KNOWN_BYTES = 500  # of a spec that is read once for all answers that have it


@dataclass(frozen=True)
class ModelSpec:
    """The model that is asked, and which of its versions (by number or by label) and signatures."""

    name: str
    version: int | None = None
    label: str = ""
    signature_name: str = ""


@functools.lru_cache(maxsize=256)
def write_model_spec(spec: ModelSpec) -> bytes:
    """The ModelSpec; a label counts where there is no version."""
    version = b""
    if spec.version is not None:
        version = bytes_field(2, number_field(1, int(spec.version)) if spec.version else b"")
    elif spec.label:
        version = text_field(4, spec.label)
    return text_field(1, spec.name) + version + text_field(3, spec.signature_name)


def read_model_spec(message: memoryview) -> ModelSpec:
    """The model that is named. MalformedMessageError for other bytes."""
    return _known_spec(bytes(message)) if len(message) <= _MOST_KNOWN_BYTES else _read(message)


@functools.lru_cache(maxsize=256)
def _known_spec(message: bytes) -> ModelSpec:
    return _read(memoryview(message))


def _read(message: memoryview) -> ModelSpec:
    name, label, signature_name = "", "", ""
    version: int | None = None
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            name = text_of(inner)
        elif key == tag(2, BYTES):
            version = 0
            for of_value, number, _ in fields(inner):
                if of_value == tag(1, VARINT):
                    version = signed(number)
        elif key == tag(3, BYTES):
            signature_name = text_of(inner)
        elif key == tag(4, BYTES):
            label = text_of(inner)
    return ModelSpec(name, version, label, signature_name)
