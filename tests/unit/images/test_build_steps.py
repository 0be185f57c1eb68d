"""What a failed image build says, why, and what to do: one message and one cure for each known trouble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from npu_serving.console import Silent
from npu_serving.errors import DiskFullError, NpuServingError, ProgramError
from npu_serving.images.build_steps import _follow


def failed(tmp_path: Path, *lines: str) -> NpuServingError:
    """The error for a build that printed these lines and ended; the last one is the engine's own word."""
    *printed, last = lines

    def events() -> Iterator[Mapping[str, Any]]:
        for line in printed:
            yield {"stream": f"{line}\n"}
        yield {"errorDetail": {"message": last}, "error": last}

    with Silent().progress("x", unit="steps") as progress, pytest.raises(NpuServingError) as caught:
        _follow(events(), tmp_path / "log", progress)
    return caught.value


@pytest.mark.parametrize("line", ["write /usr/x: no space left on device", "E: No space left on device"])
def test_a_full_disk_of_the_engine_is_told_as_that(tmp_path: Path, line: str) -> None:
    error = failed(tmp_path, "Step 1/5 : FROM x", line)
    assert isinstance(error, DiskFullError)
    assert "docker system df" in error.cure
    assert str(tmp_path / "log") in error.cause


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("exec /bin/sh: exec format error", "for this machine"),
        ("Err:1 http://mirror/debian bookworm InRelease  Temporary failure resolving 'mirror'", "--apt-source"),
        ("E: Failed to fetch http://mirror/x.deb  404  Not Found", "--apt-source"),
        ("E: Unable to locate package gcc-8", "Ubuntu 18.04 or a Debian 12"),
        ("/usr/local/share/npu-serving/install-packages.sh: 24: apt-get: not found", "Ubuntu 18.04 or a Debian 12"),
    ],
)
def test_each_known_trouble_has_its_cure_and_the_log_is_named(tmp_path: Path, line: str, cure: str) -> None:
    error = failed(tmp_path, "Step 5/6 : RUN", line, "The command returned a non-zero code: 100")
    assert isinstance(error, ProgramError)
    assert cure in error.cure
    assert error.cause
    assert str(tmp_path / "log") in error.what
    assert line in (tmp_path / "log").read_text()


def test_an_unknown_trouble_shows_the_end_of_the_output_and_invents_no_cause(tmp_path: Path) -> None:
    error = failed(tmp_path, "strange words", "The command returned a non-zero code: 3")
    assert "strange words" in error.what
    assert error.cause == ""
