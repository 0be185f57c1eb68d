"""What clients of a model notice when another version takes the place of the one that is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from npu_serving.findings import WARNING, Finding
from npu_serving.models.saved_model import MetaGraph, TensorSpec
from npu_serving.shown_text import in_a_line

KIND = "signature-changed"
_CURE = "have its clients changed first, or serve it under another name or label"


def signature_changes(served: MetaGraph, new: MetaGraph, version: int) -> Iterator[Finding]:
    """A warning for what requests to `version`, the one that is served, name and the new one has otherwise."""
    for name, signature in sorted(served.signatures.items()):
        if not signature.is_for_requests:
            continue
        other = new.signatures.get(name)
        if other is None:
            yield _warning(f"It has no signature {in_a_line(name)}, which version {version} has.")
            continue
        for kind, before, after in (
            ("input", signature.inputs, other.inputs),
            ("output", signature.outputs, other.outputs),
        ):
            for what in _differences(kind, before, after):
                yield _warning(f"The signature {in_a_line(name)} {what} (version {version}).")
        if signature.method_name != other.method_name:
            yield _warning(
                f"The signature {in_a_line(name)} has the method {in_a_line(other.method_name)}, not "
                f"{in_a_line(signature.method_name)} (version {version})."
            )


def _differences(kind: str, before: Mapping[str, TensorSpec], after: Mapping[str, TensorSpec]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        shown, was, now = in_a_line(name), before.get(name), after.get(name)
        if now is None:
            yield f"lacks the {kind} {shown}"
        elif was is None:
            if kind == "input":  # a further output disturbs nobody
                yield f"needs a further input {shown}: {now.describe()}"
        elif was.describe() != now.describe():
            yield f"has the {kind} {shown} as {now.describe()}, not {was.describe()}"


def _warning(what: str) -> Finding:
    return Finding(what, _CURE, WARNING, KIND)
