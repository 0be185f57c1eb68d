"""Dumps of operators and GE's graphs as they lie on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

TIME, LATER = "20240131120000", "20240131130000"
GRAPH = "ge_default_20240131120005_1"


def dump(directory: Path, name: str, size: int = 7, mapped_to: str = "") -> Path:
    """A dump of that name; with `mapped_to` it is called so, and mapping.csv has its name."""
    directory.mkdir(parents=True, exist_ok=True)
    if mapped_to:
        with (directory / "mapping.csv").open("a") as mapping:
            mapping.write(f"{mapped_to},{name}\n")
    path = directory / (mapped_to or name)
    path.write_bytes(b"x" * size)
    return path


def step_of(dump_path: Path, step: int = 0, *, model: str = GRAPH, time: str = TIME, device: int = 0) -> Path:
    return dump_path / time / str(device) / model / "1" / str(step)


def graph_file(path: Path, operators: Mapping[str, Sequence[str]], name: str = GRAPH) -> Path:
    """A ge_proto_*_Build.txt in the form of GE's: operators, and the names of those that each was made of."""
    lines = ["graph {", f'  name: "{name}"', '  input: "data:0"']
    for operator, originals in operators.items():
        listed = [f'          s: "{original}"' for original in originals]
        lines += [
            "  op {",
            f'    name: "{operator}"',
            '    type: "Conv2D"',
            "    attr {",
            '      key: "_datadump_original_op_names"',
            "      value {",
            "        list {",
            *listed,
            "          val_type: VT_LIST_STRING",
            "        }",
            "      }",
            "    }",
            "    attr {",
            '      key: "_datadump_original_op_types"',
            "      value {",
            "        list {",
            '          s: "Not-a-name"',
            "        }",
            "      }",
            "    }",
            "    output_desc {",
            '      name: "y"',
            "    }",
            "  }",
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "}", ""]))
    return path
