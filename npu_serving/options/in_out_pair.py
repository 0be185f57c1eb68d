"""The value of in_out_pair as the adapter reads it, and written so that it reads what was meant.

It has the form [[[FIRST, ...], [LAST, ...]], ...]: ParseInOutPair() of its om_partition_subgraphs_pass.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from npu_serving.errors import UnwritableValueError
from npu_serving.shown_text import in_a_line

OPTION, FLAG, MIXED = "in_out_pair", "in_out_pair_flag", "mix_compile_mode"
_NOT_IN_A_NAME = re.compile(r"[\[\], \t']")


@dataclass(frozen=True)
class InOutPair:
    """The first nodes of a range, in their order, and the last ones."""

    firsts: tuple[str, ...]
    lasts: tuple[str, ...]


def read_pairs(text: str) -> tuple[InOutPair, ...]:
    """The pairs as the adapter reads them; none where it would fail each run for the value.

    Blanks, tabs and single quotes count nowhere, double quotes are part of a name. A pair's lists after the second are
    passed over, and pairs of fewer than two.
    """
    depth = 0
    name = ""
    names: list[str] = []
    lists: list[list[str]] = []
    pairs: list[InOutPair] = []
    for character in text:
        if character == "[":
            depth += 1
        elif character in "],":
            if depth == 1 and lists:
                if len(lists) > 1:
                    pairs.append(InOutPair(tuple(lists[0]), tuple(dict.fromkeys(lists[1]))))
                lists = []
            elif depth == 2 and names:
                lists.append(names)
                names = []
            elif depth == 3 and name:
                names.append(name)
                name = ""
            depth -= character == "]"
        elif character not in " \t'":
            name += character
    return tuple(pairs)


def pairs_text(pairs: Iterable[InOutPair]) -> str:
    """The value that reads as these pairs. UnwritableValueError for a name that can't be written in it."""

    def written(names: tuple[str, ...]) -> str:
        for name in names:
            if not name or _NOT_IN_A_NAME.search(name):
                raise UnwritableValueError(
                    f"The node {in_a_line(repr(name))} can't be named in {OPTION}.",
                    cause="the adapter reads blanks, commas, brackets and single quotes as the form of the value",
                    cure="rename the node where the model is made, and export it again",
                )
        return "[" + ",".join(f"'{name}'" for name in names) + "]"

    return "[" + ",".join(f"[{written(pair.firsts)},{written(pair.lasts)}]" for pair in pairs) + "]"
