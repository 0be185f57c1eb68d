"""What became of requests as an array: the type of its elements, which frames.py has the bytes of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy


def dtype() -> numpy.dtype[Any]:
    """One outcome: intended, sent and done in nanoseconds, the request's place, its answer's number, its kind."""
    import numpy

    numbers = [("intended", "<i8"), ("sent", "<i8"), ("done", "<i8"), ("request", "<u4"), ("answer", "<u4")]
    return numpy.dtype([*numbers, ("kind", "u1")])
