"""Where a saved link is run: what the compiler shows of it there, and the files that it reads, to be read here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.context import BuildContext
from npu_serving.building.runner import Layout, RunRequest
from npu_serving.building.saved_links import places_of
from npu_serving.linking.saved_link import SavedLink, located


class LinkPlace:
    """The runner of a saved link. Files of an image are copied out of it, into a scratch directory."""

    def __init__(self, context: BuildContext, saved: SavedLink, layout: Layout) -> None:
        self._context = context
        self._saved = saved
        self._layout = layout
        self._places = places_of(context)
        self._root = located(Path(saved.directory), "", self._places)

    @property
    def why_other(self) -> str:
        """Why the link would read something other than it read, "" where it would not."""
        return self._saved.why_other(self._root, self._places)

    def shown(self) -> str:
        """What the compiler driver says that it would start."""
        return self._run([*self._saved.command, "-###"], {**self._saved.environment, "LC_ALL": "C"})

    def find(self, names: Sequence[str]) -> Mapping[str, Path]:
        """Those of the files that are there, by name, as they can be read here."""
        found = {name: path for name in names if (path := located(self._root, name, self._places)).is_file()}
        if not self._places:
            return found
        inside = tuple(f"{place}/" for place, _ in self._places)
        of_image = [name for name in names if name.startswith("/") and not name.startswith(inside)]
        ours = {name: path for name, path in found.items() if name not in of_image}
        return {**ours, **self._copied(of_image)}

    def _copied(self, names: Sequence[str]) -> Mapping[str, Path]:
        """Copies of the image's files; cp goes on where one is not there."""
        if not names:
            return {}
        (scratch,) = self._layout.writable
        (target,) = self._context.runner.inside(self._layout).writable
        self._run(["cp", "-L", "--parents", "-t", str(target), *names], self._saved.environment)
        copies = {name: Path(os.path.normpath(f"{scratch}{name}")) for name in names}
        return {name: path for name, path in copies.items() if path.is_file()}

    def _run(self, words: Sequence[str], environment: Mapping[str, str]) -> str:
        log_path = self._context.settings.logs / f"kit-{time.strftime('%Y%m%d-%H%M%S')}.log"
        fsutil.make_directory(log_path.parent)
        directory = Path(self._saved.directory)
        request = RunRequest(tuple(words), self._layout, environment, log_path, directory=directory)
        return self._context.runner.run(request).output


@contextlib.contextmanager
def link_place(context: BuildContext, saved: SavedLink) -> Iterator[LinkPlace]:
    """The place, until the block ends: then what was copied out of an image is removed."""
    if not places_of(context):
        yield LinkPlace(context, saved, context.layout)
        return
    with fsutil.scratch_directory(context.settings.build_root) as scratch:
        yield LinkPlace(context, saved, replace(context.layout, writable=(scratch,)))
