"""What a person sees while a server has not answered yet: for how long, and what it may be doing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from npu_serving.console import Progress, Reporter

SECONDS_BEFORE_A_REASON = 4.0
SECONDS_BETWEEN_TICKS = 0.25
_WHY = "no answer yet: the first request of a shape compiles the model for the NPU, which takes minutes"


@contextlib.contextmanager
def said_while_waiting(reporter: Reporter, model: str) -> Iterator[None]:
    """While the block waits for an answer, the progress says for how long, and soon why that may be."""
    with reporter.progress(f"asking {model}", unit="answers") as progress, reason_shown(progress):
        yield


@contextlib.contextmanager
def reason_shown(progress: Progress, done: float = 0) -> Iterator[None]:
    """The same in progress that is shown already."""
    begun, ended = time.monotonic(), threading.Event()

    def tick() -> None:
        while not ended.wait(SECONDS_BETWEEN_TICKS):
            progress.update(done, detail=_WHY if time.monotonic() - begun > SECONDS_BEFORE_A_REASON else "")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
