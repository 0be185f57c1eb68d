"""Batching against the inputs of a model: the server puts requests together along the first dimension of each input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.model_checks.warm_up import WarmUpRequest
from npu_serving.models.saved_model import MetaGraph, ModelSignature
from npu_serving.shown_text import in_a_line

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_sections import BatchingOptions

KIND = "batching"
_CHANNELS = (1, 3, 4)  # of grey images, of coloured ones, and with transparency


def check_batching(batching: BatchingOptions | None, graph: MetaGraph, model: str, where: str) -> Iterator[Finding]:
    """The signatures whose requests fail with batching; `where` is the place of the model in the file."""
    if batching is None:
        return
    asked = {name: signature for name, signature in sorted(graph.signatures.items()) if signature.inputs}
    scalars = {name: _inputs_of(signature, size=None) for name, signature in asked.items()}
    is_every = all(scalars.values())
    if batching.pad_variable_length_inputs:
        yield Finding(
            f"Requests of {model} with inputs of other shapes are filled up to a common one where they meet, with the "
            "first value of the shorter input, not with zeros: what a model makes of it depends on who asks beside it.",
            "leave pad_variable_length_inputs out unless the model knows the real length from another input",
            WARNING,
            KIND,
            where,
        )
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
        else:
            yield from _of_rows(batching, name, signature, model, where, is_only=len(asked) == 1)


def check_warm_up_rows(
    batching: BatchingOptions | None, requests: Iterable[WarmUpRequest], file: Path
) -> Iterator[Finding]:
    """The first of the requests of a warm-up that has more rows than a batch may have: the server would refuse it."""
    if batching is None:
        return
    most = batching.largest_batch
    for request in requests:
        rows = max((shape[0] for _, shape in request.shapes if shape), default=0)
        if rows > most:
            yield Finding(
                f"Record {request.number} of {file} has {rows} rows, and a batch may have {most}: the server would not "
                "load the model.",
                "record it again with fewer rows, or write a larger batching.max_batch_size",
                PROBLEM,
                KIND,
                str(file),
            )
            return


def _of_rows(
    batching: BatchingOptions, name: str, signature: ModelSignature, model: str, where: str, *, is_only: bool
) -> Iterator[Finding]:
    """Inputs for a fixed number of rows, and those whose first dimension does not look like one of rows."""
    for key, spec in sorted(signature.inputs.items()):
        shape = spec.shape or (-1,)
        rows = shape[0]
        if rows > 1 and batching.allowed_batch_sizes != (rows,):
            yield Finding(
                f"The input {in_a_line(key)} of {model} takes {rows} rows, and batching makes batches of other sizes: "
                f"requests of {in_a_line(name)} would fail.",
                f"write batching: {{max_batch_size: {rows}, allowed_batch_sizes: [{rows}]}}, which fills them up",
                PROBLEM if is_only else WARNING,
                KIND,
                where,
            )
            return
        if len(shape) == 3 and shape[:2] == (-1, -1) and shape[2] in _CHANNELS:
            yield Finding(
                f"The input {in_a_line(key)} of {model} is {spec.describe()}, which looks like height, width and "
                "channels: batching would put the rows of several images into one.",
                f"write {where}.batching: false, or export the model with a dimension for the batch",
                WARNING,
                KIND,
                where,
            )
            return


def _inputs_of(signature: ModelSignature, *, size: int | None) -> list[str]:
    """The inputs whose first dimension has that size; None for those without a dimension."""
    wanted = () if size is None else (size,)
    return [
        name for name, spec in sorted(signature.inputs.items()) if spec.shape is not None and spec.shape[:1] == wanted
    ]
