"""in_out_pair against the nodes of a model: for names that it lacks, the adapter silently takes the whole graph."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph
from npu_serving.shown_text import in_a_line

KIND = "in-out-pair"
OPTION = "in_out_pair"
_MOST_COMPARED = 20_000  # nodes; among more, the search for the nearest name would take seconds
_PAIR = re.compile(r"\[\[([^\[\]]*)\],\[([^\[\]]*)\]")


def check_ranges(options: Mapping[str, object], graph: MetaGraph, where: str) -> Iterator[Finding]:
    """Names of first and last operators that the graph does not have; `where` is the place of the options in the file.

    The form of the option, and what it goes together with, is judged with all other options.
    """
    value = options.get(OPTION)
    names = _names(value) if isinstance(value, str) else []
    nodes = graph.graph.by_name
    unknown = [name for name in names if name not in nodes]
    if not unknown:
        return
    known = list(nodes) if len(nodes) < _MOST_COMPARED else []
    near = {name: difflib.get_close_matches(name.rpartition(":")[0] or name, known, n=1) for name in unknown[:5]}
    details = tuple(
        f"{in_a_line(name)}" + (f": perhaps {in_a_line(found[0])}" if found else "") for name, found in near.items()
    )
    are_all = len(unknown) == len(names)
    effect = "the whole graph would be taken, as if the option were not there" if are_all else "they would be ignored"
    what = f"{OPTION} names {len(unknown)} of {len(names)} operators that the model does not have: {effect}."
    cure = "write the names of nodes, without :0"
    yield Finding(what, cure, PROBLEM if are_all else WARNING, KIND, f"{where}.{OPTION}", details=details)


def _names(text: str) -> list[str]:
    """All names in the pairs, as the adapter reads them: blanks, tabs and single quotes do not count."""
    plain = re.sub(r"[ \t']", "", text)
    return [name for pair in _PAIR.finditer(plain) for part in pair.groups() for name in part.split(",") if name]
