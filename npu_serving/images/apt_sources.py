"""Where the image's packages come from: a snapshot of the package archive, or a mirror, in place of the base's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from npu_serving.errors import SettingsError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# One line of sources.list(5) without its options. Login data is refused: it would stay in the image.
_SOURCE = re.compile(
    r"https?://(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~+:%-]*)*"
    r" [A-Za-z0-9][A-Za-z0-9./+-]*( [a-z][a-z0-9./-]*)+",
    re.A,
)


def render_sources(sources: Sequence[str]) -> str:
    """The file for apt; empty where there are no sources, and the base image's own hold.

    A snapshot's index is past its date, so apt is told to ignore that; its signature is still checked.
    Raises SettingsError for anything but `URL SUITE COMPONENT...`.
    """
    return "".join(f"deb [check-valid-until=no] {_checked(source)[0]}\n" for source in sources)


def all_on_this_machine(sources: Sequence[str]) -> bool:
    """Whether there are sources, and packages come without a network."""
    return bool(sources) and all(_checked(source)[1] in LOOPBACK for source in sources)


def _checked(source: str) -> tuple[str, str]:
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise SettingsError(
            f"apt_sources must be URL SUITE COMPONENT..., not {source!r}.",
            cause="it needs the URL of a package archive, a suite and one or more components, separated by one space",
            cure="correct --apt-source or apt_sources in invoke.yaml: 'http://mirror.example.org/debian bookworm main'",
        )
    return source, found["host"]
