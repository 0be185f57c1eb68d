"""What the packages' entry point bin/serve knows of tables that it has no Python to read: CANN's layouts, the flags."""

from __future__ import annotations

from npu_serving import fsutil
from npu_serving.cann.layout import packages
from npu_serving.cann.operator_list import operator_list_table
from npu_serving.elf.owners import owners_table
from npu_serving.options.server_flags import known_flags
from npu_serving.packaging.contents import RUNTIME
from npu_serving.writers.shell import command_line

ENTRY_POINT = RUNTIME / "serve"
LAYOUTS = ("# layouts of CANN, from npu_serving/cann/components.yaml: ./inv lint --fix\n", "# end of the layouts\n")
FLAGS = ("# flags by type, from npu_serving/options/server_flags.yaml: ./inv lint --fix\n", "# end of the flags\n")
_ARRAYS = {"int32": "integers", "int64": "integers", "float": "numbers", "bool": "switches", "string": "texts"}


def entry_point_text(text: str) -> str:
    """The script with the layouts and the flags as the tables have them, each between its two marks."""
    return _filled(_filled(text, LAYOUTS, _layouts()), FLAGS, _flags())


def entry_point_is_current() -> bool:
    """Whether the script's layouts and flags are those of the tables."""
    text = fsutil.read_text(ENTRY_POINT)
    return all(mark in text for mark in (*LAYOUTS, *FLAGS)) and text == entry_point_text(text)


def write_entry_point() -> bool:
    """Writes them into the script; True if that changed it."""
    return fsutil.write_file(ENTRY_POINT, entry_point_text(fsutil.read_text(ENTRY_POINT)), mode=0o755)


def _filled(text: str, marks: tuple[str, str], arrays: dict[str, list[str]]) -> str:
    before, first, rest = text.partition(marks[0])
    _, last, after = rest.partition(marks[1])
    lines = "".join(f"{name}=({command_line(words)})\n" for name, words in arrays.items())
    return before + first + lines + last + after


def _flags() -> dict[str, list[str]]:
    """The names of the server's flags, by what their values are."""
    arrays: dict[str, list[str]] = {}
    for flag in known_flags().values():
        arrays.setdefault(_ARRAYS[flag.type], []).append(flag.name)
    return arrays


def _layouts() -> dict[str, list[str]]:
    """Arrays of directories below CANN's root: those that can serve, the adapter's, and the driver's libraries; the
    pattern of these libraries' names; where the adapter looks for its list of operators.
    """
    known, lists = packages(), operator_list_table()
    return {
        "runtimes": [name for package in known.values() if package.serves for name in package.directories],
        "adapters": [*known["tfplugin"].directories],
        "driver_libraries": [
            f"{directory}/{name}" for directory in known["driver"].directories for name in known["driver"].libraries
        ],
        "driver_names": [f"^{owners_table().driver_libraries}$"],
        "operator_lists": [lists.current, lists.older],
        "operators_without_a_name": [lists.default_directory],
    }
