"""Batching against the inputs of a model: the server puts requests together along the first dimension of each input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph, ModelSignature
from npu_serving.shown_text import in_a_line

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_sections import BatchingOptions

KIND = "batching"


def check_batching(batching: BatchingOptions | None, graph: MetaGraph, model: str, where: str) -> Iterator[Finding]:
    """The signatures whose requests fail with batching; `where` is the place of the model in the file."""
    if batching is None:
        return
    asked = {name: signature for name, signature in sorted(graph.signatures.items()) if signature.inputs}
    scalars = {name: _inputs_of(signature, size=None) for name, signature in asked.items()}
    is_every = all(scalars.values())
    for name, signature in asked.items():
        if scalars[name]:
            yield Finding(
                f"Every request of the signature {in_a_line(name)} of {model} would fail with batching: its input "
                f"{in_a_line(scalars[name][0])} is a scalar, and must have at least one dimension.",
                f"write {where}.batching: false, or export the model with a dimension for the batch",
                PROBLEM if is_every else WARNING,
                KIND,
                where,
            )
        elif fixed := _inputs_of(signature, size=1):
            yield Finding(
                f"The input {in_a_line(fixed[0])} of {model} takes one row, and batching puts several together: "
                f"requests of {in_a_line(name)} that arrive together would fail.",
                f"write {where}.batching: false, or export the model with -1 for the batch",
                PROBLEM if len(asked) == 1 else WARNING,
                KIND,
                where,
            )


def _inputs_of(signature: ModelSignature, *, size: int | None) -> list[str]:
    """The inputs whose first dimension has that size; None for those without a dimension."""
    wanted = () if size is None else (size,)
    return [
        name for name, spec in sorted(signature.inputs.items()) if spec.shape is not None and spec.shape[:1] == wanted
    ]
