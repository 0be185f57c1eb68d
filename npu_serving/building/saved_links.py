"""Keeping the final link of a build, as Bazel's event log has it, below build_root/links; and finding it again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.build_record import BuildRecord, LinkEvent
from npu_serving.building.context import BuildContext
from npu_serving.building.linked_files import linked_files
from npu_serving.building.newest_files import newest_files, remove_oldest
from npu_serving.console import Reporter
from npu_serving.errors import FileAccessError, NpuServingError
from npu_serving.linking.link_command import (
    linker_of,
    output_of,
    parameter_file,
    split_command,
    with_the_linker,
)
from npu_serving.linking.saved_link import (
    LinkInput,
    Places,
    SavedLink,
    digests_of,
    located,
    read_saved_link,
    write_saved_link,
)
from npu_serving.overlay.adapter import DIRECTORY
from npu_serving.settings import Settings

LINKS = "links"


def links_directory(settings: Settings) -> Path:
    """Where the saved links are, each named after its `objects`."""
    return settings.build_root / LINKS


def saved_link_of(context: BuildContext) -> SavedLink | None:
    """The saved link of what the context's tree, lock, toolchain and flags make; None where none was kept."""
    saved = read_saved_link(link_file(context.settings, context.objects_digest))
    return saved if saved is not None and saved.objects == context.objects_digest else None


def places_of(context: BuildContext) -> Places:
    """Directories as the runner sees them, and here; none for a runner that sees what we see."""
    inside, outside = context.runner.inside(context.layout), context.layout
    if inside == outside:
        return ()
    return [
        (inside.workspace, outside.workspace),
        (inside.output_user_root, outside.output_user_root),
        *zip(inside.extra, outside.extra),
    ]


def keep_link(context: BuildContext, record: BuildRecord, reporter: Reporter) -> SavedLink | None:
    """Keeps the link that this run of Bazel did, and returns it.

    Where Bazel had nothing to link, the link that made what is there is kept under the digest of today's inputs; None,
    and nothing is kept, where neither is known, or where the link could not be read: then Bazel links the next time.
    """
    saved: SavedLink | None = None
    with contextlib.suppress(NpuServingError, OSError):
        if record.link is not None:
            saved = _saved(context, record.link, record.output, reporter)
        elif record.output is not None:
            saved = _of_the_same_output(context, record.output)
        if saved is not None:
            write_saved_link(link_file(context.settings, saved.objects), saved)
            remove_oldest(links_directory(context.settings))
    return saved


def link_file(settings: Settings, objects: str) -> Path:
    """Where the link of those objects is kept."""
    return links_directory(settings) / f"{objects}.json"


def _of_the_same_output(context: BuildContext, output: Path) -> SavedLink | None:
    """The kept link that made the server that is there now, under the digest of the objects as they are called now."""
    status, places = output.stat(), places_of(context)
    made = (status.st_size, status.st_mtime_ns)
    kept = (read_saved_link(path) for path in newest_files(links_directory(context.settings)))
    for saved in (saved_link_of(context), *kept):
        if saved is None or (saved.made_size_bytes, saved.made_mtime_ns) != made:
            continue
        if not saved.why_other(located(Path(saved.directory), "", places), places):
            return replace(saved, objects=context.objects_digest)
    return None


def _saved(context: BuildContext, event: LinkEvent, output: Path | None, reporter: Reporter) -> SavedLink | None:
    places = places_of(context)
    root = located(event.directory, "", places)
    name = parameter_file(event.listed)
    lines = fsutil.read_text(located(root, name, places)).splitlines() if name else []
    words = split_command(event.listed, lines)
    if words is None or not output_of(words.command):
        return None
    words = replace(words, command=with_the_linker(words.command))  # there is one where no adapter was to be linked
    environment = {"PATH": context.runner.environment()["PATH"], "PWD": "/proc/self/cwd"}
    own: list[str] = []
    replaced: list[str] = []
    files = linked_files(words, root, places, environment, of_this_machine=context.runner.name == "host")
    for found in files.names:
        (replaced if _is_of_the_adapter(located(root, found, places), context) else own).append(found)
    status = output.stat() if output is not None else None
    return SavedLink(
        objects=context.objects_digest,
        directory=str(event.directory),
        output=output_of(words.command),
        command=words.command,
        parameters=words.parameters,
        environment=environment,
        inputs=_measured(own, root, places, _known(context.settings), reporter),
        replaced=tuple(replaced),
        linker=linker_of(words.command),
        searched=files.searched,
        libraries=files.libraries,
        made_size_bytes=status.st_size if status is not None else 0,
        made_mtime_ns=status.st_mtime_ns if status is not None else 0,
    )


def _is_of_the_adapter(path: Path, context: BuildContext) -> bool:
    """Whether it is a file of the overlay's directory in the tree, or what Bazel copied from there."""
    real = Path(os.path.realpath(path))
    return real.parent == context.source.tree.resolve() / DIRECTORY or real.parent.as_posix().endswith(f"/{DIRECTORY}")


def _known(settings: Settings) -> dict[tuple[str, int, int], str]:
    """The digests of the link that was kept last: what has the same name, size and time is not read again."""
    for path in newest_files(links_directory(settings))[:1]:
        saved = read_saved_link(path)
        if saved is not None:
            return {(item.name, item.size_bytes, item.mtime_ns): item.sha256 for item in saved.inputs}
    return {}


def _measured(
    names: Iterable[str], root: Path, places: Places, known: dict[tuple[str, int, int], str], reporter: Reporter
) -> tuple[LinkInput, ...]:
    paths = {name: located(root, name, places) for name in names}
    states = {name: path.stat() for name, path in paths.items()}
    keys = {name: (name, status.st_size, status.st_mtime_ns) for name, status in states.items()}
    unread = list(dict.fromkeys(paths[name] for name, key in keys.items() if key not in known))
    with reporter.progress("reading what the link reads", total=len(unread), unit="files") as progress:
        digests = digests_of(unread, progress.update)
    if len(digests) < len(unread):
        unreadable = next(path for path in unread if path not in digests)
        raise FileAccessError(f"{unreadable} can't be read.", cure="make it readable for this user, then build again")
    return tuple(LinkInput(name, known.get(key) or digests[paths[name]], *key[1:]) for name, key in keys.items())
