"""Where a linker writes the server, and finds its parameter file, under a name that gcc and every linker can take."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

_CHANGED = re.compile("[%,]")


@contextlib.contextmanager
def place_for_output(directory: Path) -> Iterator[Path]:
    """That directory, for as long as the block lasts, by a path in which nobody changes anything.

    lld writes into a file beside its output first, and puts letters of chance in the place of each `%` of the whole
    path (LLVM's createUniqueFile): then no directory has that name. gcc takes a `-Wl,@FILE` apart at each comma.
    """
    if not _CHANGED.search(str(directory)):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="npu-serving-") as elsewhere:
        link = Path(elsewhere) / "out"
        link.symlink_to(directory.absolute(), target_is_directory=True)
        yield link
