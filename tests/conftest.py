"""What holds for every test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import hypothesis
import pytest

# A machine that is busy with other work is no failure: speed is measured in bench/, beside a rival.
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

# Started in the background by a script, as with nohup, we would ignore these, and so would every program that a test
# starts and then sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _handlers_of_the_process() -> Iterator[None]:
    """What a task called in this process does about signals ends with its test."""
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
