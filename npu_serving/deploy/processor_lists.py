"""Lists of processors such as 0-7,16-23, as the kernel, taskset and systemd write them; numbered from 0."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST = 8191
"""The highest number that a kernel can have (CONFIG_NR_CPUS)."""
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def read_processors(text: str) -> tuple[int, ...]:
    """The processors of such a list, in order. ValueError, with what is wrong, where it isn't one."""
    found: set[int] = set()
    for part in text.split(","):
        ends = _RANGE.fullmatch(part.strip())
        if ends is None:
            raise ValueError(f"must be numbers and ranges with commas between them, such as 0-7,16-23, not {text!r}")
        low, high = int(ends[1]), int(ends[2] or ends[1])
        if high < low:
            raise ValueError(f"has the range {part.strip()}, whose end comes before its beginning")
        if high > MOST:
            raise ValueError(f"has the processor {high}, and a kernel numbers them up to {MOST}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def processors_text(processors: Iterable[int]) -> str:
    """The shortest such list of them; "" for none."""
    parts: list[list[int]] = []
    for number in sorted(set(processors)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
