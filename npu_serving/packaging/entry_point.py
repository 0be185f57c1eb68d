"""The layouts of CANN within the packages' entry point bin/serve, which has no Python to read their table with."""

from __future__ import annotations

from npu_serving import fsutil
from npu_serving.cann.layout import packages
from npu_serving.packaging.contents import RUNTIME
from npu_serving.writers.shell import command_line

ENTRY_POINT = RUNTIME / "serve"
FIRST = "# layouts of CANN, from npu_serving/cann/components.yaml: ./inv lint --fix\n"
LAST = "# end of the layouts\n"


def entry_point_text(text: str) -> str:
    """The script with the layouts as the table has them, between its two marks."""
    before, first, rest = text.partition(FIRST)
    _, last, after = rest.partition(LAST)
    return before + first + _layouts() + last + after


def entry_point_is_current() -> bool:
    """Whether the script's layouts are those of the table."""
    text = fsutil.read_text(ENTRY_POINT)
    return FIRST in text and text == entry_point_text(text)


def write_entry_point() -> bool:
    """Writes them into the script; True if that changed it."""
    return fsutil.write_file(ENTRY_POINT, entry_point_text(fsutil.read_text(ENTRY_POINT)), mode=0o755)


def _layouts() -> str:
    """Arrays of directories below CANN's root: those that can serve, the adapter's, and the driver's libraries."""
    known = packages()
    arrays = {
        "runtimes": [name for package in known.values() if package.serves for name in package.directories],
        "adapters": [*known["tfplugin"].directories],
        "driver_libraries": [
            f"{directory}/{name}" for directory in known["driver"].directories for name in known["driver"].libraries
        ],
    }
    return "".join(f"{name}=({command_line(words)})\n" for name, words in arrays.items())
