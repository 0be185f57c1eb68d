"""What the loader asks the machine itself: the size of its pages, and what its processor can do.

The levels are those of the x86-64 psABI, their names those of glibc's sysdeps/x86_64/dl-hwcaps_subdirs.c.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

LARGEST_COMMON_PAGE_BYTES = {"x86_64": 4 << 10, "aarch64": 64 << 10}
"""What a machine of that kind may have, other than this one."""

_BASELINE = 1
_LEVELS = (
    ("x86-64-v2", 2, {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", 4, {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}),
    ("x86-64-v4", 8, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
"""Name, bit of GNU_PROPERTY_X86_ISA_1_NEEDED, and what /proc/cpuinfo calls what it takes."""
_HASWELL = {"avx2", "bmi1", "bmi2", "abm", "movbe", "popcnt", "fma"}
_AVX512_1 = {"avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_X86_64_BIT, _AVX512_1_BIT, _HASWELL_BIT, _ATOMICS_BIT, _TLS_BIT = 1 << 1, 1 << 2, 1 << 50, 1 << 8, 1 << 63


@dataclass(frozen=True)
class Processor:
    """A machine as the loader sees it."""

    page_bytes: int
    isa_bits: int = _BASELINE
    """The levels that it has, as GNU_PROPERTY_X86_ISA_1_NEEDED writes them."""
    levels: tuple[str, ...] = ()
    """The subdirectories of glibc-hwcaps that fit it, the best first."""
    older_names: tuple[str, ...] = ()
    """Those of which glibc made up subdirectories before 2.37, the one that counts least first: haswell, tls …"""
    older_bits: int = _TLS_BIT
    """The same as /etc/ld.so.cache writes them."""
    platform: str = ""
    """What $PLATFORM stands for: the machine, or haswell on processors of Intel's that can do as much."""

    def subdirectories(self, *, named: bool, older: bool) -> tuple[str, ...]:
        """Where the loader looks in each directory before it looks there itself, in its order."""
        found = [f"glibc-hwcaps/{level}" for level in self.levels] if named else []
        if older:
            found += [
                "/".join(name for name, is_in in zip(reversed(self.older_names), chosen) if is_in)
                for chosen in product((True, False), repeat=len(self.older_names))
                if any(chosen)
            ]
        return tuple(dict.fromkeys(found))


def level_names(isa_bits: int) -> str:
    """The levels that a marker asks for: "x86-64-v3, x86-64-v4"."""
    known = _BASELINE | sum(bit for _, bit, _ in _LEVELS)
    names = [name for name, bit, _ in _LEVELS if isa_bits & bit]
    return ", ".join(names + ([f"{isa_bits & ~known:#x} (unknown)"] if isa_bits & ~known else []))


@lru_cache(maxsize=1)
def this_processor() -> Processor:
    """The machine that this program runs on, by /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return processor_of(text, platform.machine(), os.sysconf("SC_PAGE_SIZE"))


def processor_of(cpuinfo: str, machine: str, page_bytes: int) -> Processor:
    """The machine that a text like /proc/cpuinfo describes; where it names no abilities, one that has few."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    able = set(found[1].split()) if found is not None else set()
    if machine != "x86_64":
        atomics = [("atomics", _ATOMICS_BIT)] if "atomics" in able else []
        return Processor(page_bytes, 0, (), *_older([*atomics, (machine, 0)]), machine)
    bits = _BASELINE
    levels: list[str] = []
    for name, bit, wanted in _LEVELS:
        if not wanted <= able:
            break
        bits |= bit
        levels.insert(0, name)
    intel = re.search(r"^vendor_id\s*:\s*GenuineIntel", cpuinfo, re.MULTILINE) is not None
    older = [("x86_64", _X86_64_BIT), *([("avx512_1", _AVX512_1_BIT)] if intel and able >= _AVX512_1 else [])]
    kind = ("haswell", _HASWELL_BIT) if intel and able >= _HASWELL else (machine, 0)
    return Processor(page_bytes, bits, tuple(levels), *_older([*older, kind]), kind[0])


def _older(named: list[tuple[str, int]]) -> tuple[tuple[str, ...], int]:
    """Its abilities and what the kernel calls it (AT_PLATFORM), then tls, which all have; and their bits."""
    return (*(name for name, _ in named), "tls"), _TLS_BIT | sum(bit for _, bit in named)
