"""Keeping the final link of a build, as Bazel's event log has it, below build_root/links; and finding it again."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.building.build_record import BuildRecord, LinkEvent
from npu_serving.building.context import BuildContext
from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError
from npu_serving.linking.link_command import (
    LinkWords,
    bare_command,
    directories_named,
    files_named,
    libraries_named,
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
MOST_KEPT = 16
_SCRIPT_BYTES = 1 << 16  # of a library that is a text for the linker, such as libc.so
_NAME = re.compile(r"[^\s()]+")


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
            _remove_older(context.settings)
    return saved


def link_file(settings: Settings, objects: str) -> Path:
    """Where the link of those objects is kept."""
    return links_directory(settings) / f"{objects}.json"


def _kept(settings: Settings) -> list[Path]:
    """The files of the saved links, the newest first."""
    files = links_directory(settings).glob("*.json")
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _remove_older(settings: Settings) -> None:
    for path in _kept(settings)[MOST_KEPT:]:
        fsutil.remove(path)


def _of_the_same_output(context: BuildContext, output: Path) -> SavedLink | None:
    """The kept link that made the server that is there now, under the digest of the objects as they are called now."""
    status, places = output.stat(), places_of(context)
    made = (status.st_size, status.st_mtime_ns)
    kept = (read_saved_link(path) for path in _kept(context.settings))
    for saved in (saved_link_of(context), *kept):
        if saved is None or (saved.made_size_bytes, saved.made_mtime_ns) != made:
            continue
        if not saved.changed_input(located(Path(saved.directory), "", places), places):
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
    for found in [*files_named(words), *_libraries(words, root, places)]:
        (replaced if _is_of_the_adapter(located(root, found, places), context) else own).append(found)
    if context.runner.name == "host":
        own += _of_the_system(words, root, environment)
    status = output.stat() if output is not None else None
    return SavedLink(
        objects=context.objects_digest,
        directory=str(event.directory),
        output=output_of(words.command),
        command=words.command,
        parameters=words.parameters,
        environment=environment,
        inputs=_measured(dict.fromkeys(own), root, places, _known(context.settings), reporter),
        replaced=tuple(dict.fromkeys(replaced)),
        linker=linker_of(words.command),
        made_size_bytes=status.st_size if status is not None else 0,
        made_mtime_ns=status.st_mtime_ns if status is not None else 0,
    )


def _is_of_the_adapter(path: Path, context: BuildContext) -> bool:
    """Whether it is a file of the overlay's directory in the tree, or what Bazel copied from there."""
    real = Path(os.path.realpath(path))
    return real.parent == context.source.tree.resolve() / DIRECTORY or real.parent.as_posix().endswith(f"/{DIRECTORY}")


def _libraries(words: LinkWords, root: Path, places: Places) -> Iterator[str]:
    """What is behind `-l` and found in a directory of Bazel's, as `DIRECTORY/libNAME.so`."""
    directories = [name for name in directories_named(words) if not Path(name).is_absolute()]
    for library in libraries_named(words):
        for directory in directories:
            names = [library[1:]] if library.startswith(":") else [f"lib{library}.so", f"lib{library}.a"]
            found = [f"{directory}/{name}" for name in names]
            there = [name for name in found if located(root, name, places).is_file()]
            if there:
                yield there[0]
                break


def _of_the_system(words: LinkWords, root: Path, environment: dict[str, str]) -> list[str]:
    """The files of this machine that the link reads and the command doesn't name: driver, linker, crt1.o, libc …

    What gcc says that it would start (-###) names most of them; a library that is a text names others.
    """
    # With one object and none of the libraries of ours: what is asked for is what gcc adds.
    asked = [word for word in words.command if not word.startswith(("-L", "-Wl,@", "@"))]
    printed = process.run([*asked, "-###"], cwd=root, env=environment, timeout_s=60).stderr
    command = bare_command(printed)
    linker = _program(words.command[0], f"ld.{linker_of(words.command)}", root, environment)
    linker = linker or _program(words.command[0], "ld", root, environment)
    programs = [words.command[0], *command[:1], linker]
    named = [word for word in command[1:] if word.startswith("/") and Path(word).is_file()]
    searched = [word[2:] for word in command if word.startswith("-L/")]
    libraries = dict.fromkeys([*(word[2:] for word in command if word.startswith("-l")), *libraries_named(words)])
    named += [found for library in libraries for found in _found(library, searched)]
    return [os.path.normpath(name) for name in [*programs, *named] if name]


def _program(driver: str, name: str, root: Path, environment: dict[str, str]) -> str:
    answer = process.run([driver, f"-print-prog-name={name}"], cwd=root, env=environment, timeout_s=60).stdout.strip()
    found = process.find_program(answer, path=environment["PATH"])
    return str(found) if found is not None else ""


def _found(library: str, directories: Sequence[str]) -> Iterator[str]:
    """The file that a linker takes for `-l`, and what that names where it is a text."""
    names = [f"lib{library}.so", f"lib{library}.a"]
    path = next(
        (path for directory in directories for path in (Path(directory, name) for name in names) if path.is_file()),
        None,
    )
    if path is None:
        return
    yield str(path)
    if path.stat().st_size <= _SCRIPT_BYTES:
        text = fsutil.read_text(path)
        if not text.startswith(("\x7fELF", "!<")):
            named = (Path(directory, name) for name in _NAME.findall(text) for directory in directories)
            yield from (str(path) for path in named if path.is_file())


def _known(settings: Settings) -> dict[tuple[str, int, int], str]:
    """The digests of the link that was kept last: what has the same name, size and time is not read again."""
    for path in _kept(settings)[:1]:
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
    unread = [paths[name] for name, key in keys.items() if key not in known]
    with reporter.progress("reading what the link reads", total=len(unread), unit="files") as progress:
        digests = digests_of(unread, progress.update)
    return tuple(LinkInput(name, known.get(key) or digests[paths[name]], *key[1:]) for name, key in keys.items())
