"""What holds for every test."""

from __future__ import annotations

import hypothesis

# A machine that is busy with other work is no failure: speed is measured in bench/, beside a rival.
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")
