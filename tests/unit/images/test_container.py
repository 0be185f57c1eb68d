"""A container's output, and that a silent one is seen to live."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from npu_serving import process
from npu_serving.images.container import _with_ticks


def test_a_container_that_prints_nothing_is_seen_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SECONDS_BETWEEN_TICKS", 0.01)
    reading, writing = os.pipe()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 4:
            os.write(writing, b"a")
        if len(looks) == 9:
            os.close(writing)

    def frames() -> Iterator[tuple[int, bytes]]:
        while piece := os.read(reading, 1):
            yield 1, piece

    assert list(_with_ticks(frames(), reading, look)) == [(1, b"a")]
    assert len(looks) >= 9
    os.close(reading)
