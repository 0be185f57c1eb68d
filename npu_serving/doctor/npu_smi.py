"""What `npu-smi info` prints, as values: the chips with their health and memory, and the processes that use them.

Two tables, which differ a little from chip to chip and driver to driver: each chip has two rows (a card with two chips
has four), and memory stands in one column (310P) or in two, of which the second is the HBM (910).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

OK = "OK"
_VERSION = re.compile(r"\bVersion:\s*([0-9][\w.]{0,40})")
_AMOUNT = re.compile(r"(\d{1,9})\s*/\s*(\d{1,9})")
_PERCENT = re.compile(r"(\d{1,3})\s+\d")  # before the amounts of memory
_NAMED = re.compile(r"(\d{1,4})\s+(\S.{0,40})")
_NUMBERED = re.compile(r"(\d{1,4})(?:\s+(\d{1,4}))?")


@dataclass(frozen=True)
class NpuChip:
    """A chip: the numbers of its card and of it on the card, its name (910B4, 310P3), its memory in MB.

    `memory_mb` and `used_mb` are those of the memory that models are held in: the HBM where there is one. `device` is
    the N of /dev/davinciN, where the table shows it; else that of a card with one chip is the card's.
    """

    card: int
    chip: int
    name: str
    health: str
    used_mb: int
    memory_mb: int
    device: int
    busy_percent: int | None = None
    """How much of the time its AICores work; None where the table does not say."""

    @property
    def free_mb(self) -> int:
        """What is left of it."""
        return max(0, self.memory_mb - self.used_mb)

    @property
    def is_healthy(self) -> bool:
        """Whether it reports no fault."""
        return self.health == OK


@dataclass(frozen=True)
class NpuProcess:
    """A process that holds memory of a chip; in a container the id is the host's."""

    card: int
    chip: int
    pid: int
    name: str
    memory_mb: int


@dataclass(frozen=True)
class NpuState:
    """All of it; `version` is the driver's, "" where it is not printed."""

    version: str
    chips: tuple[NpuChip, ...]
    processes: tuple[NpuProcess, ...]

    def of(self, chip: NpuChip) -> tuple[NpuProcess, ...]:
        """The processes on that chip."""
        return tuple(item for item in self.processes if (item.card, item.chip) == (chip.card, chip.chip))


def parse_npu_smi(output: str) -> NpuState:
    """What the output of `npu-smi info` says; nothing is found in one that is something else."""
    version = _VERSION.search(output)
    chips: list[NpuChip] = []
    processes: list[NpuProcess] = []
    in_processes = False
    upper: list[str] = []
    for cells in _rows(output):
        if any("Process id" in cell for cell in cells):
            in_processes = True
        elif in_processes:
            processes += _process(cells)
        elif _is_title(cells):
            upper = []
        elif not upper:
            upper = cells if _NAMED.fullmatch(cells[0]) else []
        else:
            chips += _chip(upper, cells)
            upper = []
    return NpuState(version[1] if version is not None else "", tuple(chips), tuple(processes))


def _rows(output: str) -> Iterator[list[str]]:
    for line in output.splitlines():
        text = line.strip()
        if text.startswith("|") and text.endswith("|") and len(text) > 1:
            yield [cell.strip() for cell in text[1:-1].split("|")]


def _is_title(cells: list[str]) -> bool:
    return len(cells) < 3 or cells[0].startswith(("NPU", "Chip"))


def _chip(upper: list[str], lower: list[str]) -> Iterator[NpuChip]:
    """The chip of two rows: `NPU Name | Health | …` above `Chip Device | Bus-Id | AICore Memory HBM`."""
    named, numbered = _NAMED.fullmatch(upper[0]), _NUMBERED.fullmatch(lower[0])
    amounts = [(int(used), int(whole)) for used, whole in _AMOUNT.findall(lower[2])]
    if named is None or numbered is None or not amounts:
        return
    used, whole = next((pair for pair in reversed(amounts) if pair[1]), amounts[0])
    card, chip = int(named[1]), int(numbered[1])
    device = int(numbered[2]) if numbered[2] is not None else card
    busy = _PERCENT.match(lower[2])
    yield NpuChip(card, chip, named[2], upper[1], used, whole, device, int(busy[1]) if busy is not None else None)


def _process(cells: list[str]) -> Iterator[NpuProcess]:
    place = _NUMBERED.fullmatch(cells[0])
    if place is None or len(cells) < 4 or not re.fullmatch(r"\d{1,9}", cells[1]):
        return
    memory = re.fullmatch(r"\d{1,9}", cells[3])
    yield NpuProcess(int(place[1]), int(place[2] or 0), int(cells[1]), cells[2], int(memory[0]) if memory else 0)
