"""Version numbers as programs and packages print them, compared by the rules of `packaging`; and CANN's by their own.

6.3.RC2.alpha003 is not a PEP 440 version.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

_LEADING = re.compile(r"\s*v?(\d{1,18}(?:\.\d{1,18})*)", re.ASCII)


def leading_version(text: str) -> str:
    """The numbers that a version begins with: "0.24.1" of "0.24.1- (@non-git)"; "" where there are none."""
    found = _LEADING.match(text)
    return found.group(1) if found else ""


def version_of(text: str) -> Version:
    """The same, to be compared; 0 where there are none. 3.14 and 3.14.0 are equal."""
    from packaging.version import Version

    return Version(leading_version(text) or "0")


def cann_age(release: str) -> list[tuple[bool, str, int]]:
    """A key that sorts releases of CANN: 6.3 before 6.10, and 8.0.RC3 before 8.0.0."""
    pieces = re.findall(r"(\D*)(\d*)", release.lower())  # or RC would come before alpha
    return [(not any(map(str.isalpha, text)), text, int(number or 0)) for text, number in pieces]
