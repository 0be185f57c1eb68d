"""What holds for every test."""

from __future__ import annotations

import signal

import hypothesis

# A machine that is busy with other work is no failure: speed is measured in bench/, beside a rival.
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")

# Started in the background by a shell without job control, we and all that we start would ignore SIGINT; the tests of
# Ctrl-C would then wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
