"""What a model server says of a model: the states of its versions, its signatures with their inputs and outputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

DEFAULT_SIGNATURE = "serving_default"


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

    def to_json(self) -> dict[str, object]:
        """The status as `--json` shows it."""
        versions = [asdict(version) for version in self.versions]
        return {"model": self.model, "available": self.available, "versions": versions}


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

    def signature(self, name: str = "") -> Signature | None:
        """The signature of that name, the default one for an empty name; None where the model has none of it."""
        wanted = name or DEFAULT_SIGNATURE
        return next((item for item in self.signatures if item.name == wanted), None)

    def what_it_takes(self, signature_name: str) -> str:
        """A sentence that names the inputs of that signature (the default one for an empty name)."""
        wanted = signature_name or DEFAULT_SIGNATURE
        signature = self.signature(wanted)
        if signature is not None:
            inputs = "; ".join(item.text() for item in signature.inputs)
            return f"the signature {wanted!r} takes {inputs or 'no inputs'}"
        names = ", ".join(repr(signature.name) for signature in self.signatures)
        return f"the model has no signature {wanted!r}, only {names or 'no signature at all'}"
