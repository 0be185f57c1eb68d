"""What is said while a server has not answered yet."""

from __future__ import annotations

import io
import threading

import pytest

from npu_serving.asking import waiting
from npu_serving.asking.waiting import said_while_waiting
from npu_serving.console import Progress, Silent, SilentProgress


class Listening(Silent):
    """Keeps each detail that is shown, and says when the reason was."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.details: list[str] = []
        self.explained = threading.Event()

    def progress(self, title: str, *, total: float | None = None, unit: str = ""):
        self.titles.append(title)
        return _Shown(self)


class _Shown(SilentProgress):
    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listening.titles.append("ended")

    def update(self, done: float, *, total: float | None = None, detail: str = "", under_way=()) -> None:
        self._listening.details.append(detail)
        if detail:
            self._listening.explained.set()


def test_a_long_wait_is_explained_by_the_compilation_of_a_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_TICKS", 0.001)
    monkeypatch.setattr(waiting, "SECONDS_BEFORE_A_REASON", 0.01)
    listening = Listening()
    with said_while_waiting(listening, "resnet"):
        assert listening.explained.wait(30)
    assert listening.titles == ["asking resnet", "ended"]
    assert "compiles the model for the NPU" in listening.details[-1]
    said = len(listening.details)
    assert len(listening.details) == said, "nothing more once the answer is there"


def test_an_error_ends_the_waiting_as_well() -> None:
    listening = Listening()
    with pytest.raises(io.UnsupportedOperation), said_while_waiting(listening, "resnet"):
        raise io.UnsupportedOperation
    assert listening.titles == ["asking resnet", "ended"]
