"""The documents of the REST API without arrays: states, signatures, classes, values. NumPy is not needed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from npu_serving.client.example_types import ScoredLabel
from npu_serving.client.model_types import ModelMetadata, ModelStatus, Signature, TensorInfo, VersionStatus


def parsed(body: bytes) -> object:
    """The document in an answer, with NaN and Infinity as the server writes them. ValueError for other text.

    The server writes a model's texts as the bytes that they are, in whatever encoding; text_bytes() has them back.
    """
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not JSON ({error})") from None
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None


def text_bytes(text: str) -> bytes:
    """The bytes that were read as that text, by the error handler surrogateescape (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character, escaped in the JSON
        return b"".join(
            letter.encode("utf-8", "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass")
            for letter in text
        )


def status_of(model: str, document: object) -> ModelStatus:
    """The status in an answer to GET /v1/models/NAME. ValueError for a document of another shape."""
    try:
        versions = [_version_status(entry) for entry in document["model_version_status"]]  # type: ignore[index]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError("it lacks model_version_status") from error
    return ModelStatus(model, tuple(sorted(versions, key=lambda item: -item.version)))


def metadata_of(model: str, document: object) -> ModelMetadata:
    """The metadata in an answer to GET /v1/models/NAME/metadata. ValueError for a document of another shape."""
    try:
        signatures = document["metadata"]["signature_def"]["signature_def"]  # type: ignore[index]
        version = int(document["model_spec"]["version"])  # type: ignore[index]
        found = [
            Signature(name, str(entry.get("method_name", "")), _tensors(entry["inputs"]), _tensors(entry["outputs"]))
            for name, entry in signatures.items()
        ]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError("it lacks the metadata") from error
    return ModelMetadata(model, version, tuple(sorted(found, key=lambda item: item.name)))


def classes_of(document: object) -> tuple[tuple[ScoredLabel, ...], ...]:
    """The classes of each example in an answer to :classify. ValueError for a document of another shape."""
    try:
        results = document["results"]  # type: ignore[index]
        return tuple(tuple(ScoredLabel(str(label), float(score)) for label, score in row) for row in results)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError("it lacks the results of a classification") from error


def values_of(document: object) -> list[float]:
    """The value of each example in an answer to :regress. ValueError for a document of another shape."""
    try:
        return [float(value) for value in document["results"]]  # type: ignore[index]
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError("it lacks the results of a regression") from error


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
