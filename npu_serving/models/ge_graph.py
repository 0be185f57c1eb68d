"""Graphs as GE writes them while it compiles (ge_proto_*_Build.txt): their names, and which operators each made one.

They are protobuf's text format as its printer indents it, and hold weights where DUMP_GE_GRAPH is 1: so they are read a
line at a time, and only the lines that tell names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents.text_format import TextFormatError, read_text_format

FILE_NAME = re.compile(r"ge_proto_\d+_(.+_)?Build\.txt")
"""The graph as it was compiled, which the dumps are of; GE writes one for each stage before that as well."""
_ORIGINAL_NAMES = '      key: "_datadump_original_op_names"\n'
_LONGEST_LINE = 1 << 16  # of one with a name; weights are longer
_OF_GRAPH, _OF_OPERATOR, _OF_LIST = '  name: "', '    name: "', '          s: "'


@dataclass
class GeGraph:
    """A graph: its file, its name, and its operators with the names of those of the model that became part of each.

    An operator that no other became part of has no names.
    """

    file: Path
    name: str = ""
    operators: dict[str, tuple[str, ...]] = field(default_factory=dict)


def graph_files(directory: Path) -> list[Path]:
    """The files of compiled graphs in a directory and in those that GE makes in it for each process, by name."""
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return []
    below = [
        file for path in found if re.fullmatch(r"pid_\d+_deviceid_\d+|\d+_\d+", path.name) for file in _files(path)
    ]
    return [*(path for path in found if FILE_NAME.fullmatch(path.name) and path.is_file()), *below]


def read_ge_graphs(file: Path) -> list[GeGraph]:
    """The graphs of a file, in linear time. NoSuchFileError and FileAccessError where it can't be read.

    What is no such graph has none; of one that was cut off there is what comes before the end.
    """
    graphs: list[GeGraph] = []
    operator, in_names = "", False
    for line in _short_lines(file):
        if line == "graph {\n":
            graphs.append(GeGraph(file))
            operator, in_names = "", False
        elif not graphs:
            continue
        elif line.startswith(_OF_GRAPH) and not graphs[-1].name:
            graphs[-1].name = _quoted(line)
        elif line == "  op {\n":
            operator, in_names = "", False
        elif line.startswith(_OF_OPERATOR) and not operator:
            operator = _quoted(line)
            graphs[-1].operators.setdefault(operator, ())
        elif line == _ORIGINAL_NAMES:
            in_names = True
        elif line.startswith("    }"):
            in_names = False
        elif in_names and operator and line.startswith(_OF_LIST):
            graphs[-1].operators[operator] += (_quoted(line),)
    return graphs


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if FILE_NAME.fullmatch(path.name) and path.is_file())
    except OSError:
        return []


def _short_lines(file: Path) -> Iterator[str]:
    """The lines that may tell a name."""
    fsutil.refuse_endless(file)
    with fsutil.explained(file, doing="read"), file.open("rb") as opened:
        begins = True
        while line := opened.readline(_LONGEST_LINE):
            ends = line.endswith(b"\n")
            if begins and ends:
                yield line.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
            begins = ends


def _quoted(line: str) -> str:
    """The string at the end of a line `name: "..."`."""
    text = line.partition('"')[2].rpartition('"')[0]
    if "\\" not in text:
        return text
    try:
        return read_text_format(line)[0].text
    except TextFormatError:
        return text
