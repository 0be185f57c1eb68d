"""A server linked again by the saved link: Bazel's own command, in its execroot, without Bazel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving import fsutil, known_failures
from npu_serving.building.context import BuildContext
from npu_serving.building.runner import RunRequest
from npu_serving.building.saved_links import places_of, saved_link_of
from npu_serving.console import Reporter
from npu_serving.errors import BuildFailedError
from npu_serving.known_failures import diagnose
from npu_serving.linking.link_command import LinkWords, with_linker, with_output, with_parameter_file
from npu_serving.linking.output_place import place_for_output
from npu_serving.linking.saved_link import SavedLink, located
from npu_serving.overlay.adapter import DIRECTORY
from npu_serving.process import Finished, failure
from npu_serving.shown_text import hiding

SERVER_NAME = "server"
PARAMETERS = "server.params"
KILLED = "\nld terminated with signal 9\n"  # where it is gcc itself that was killed, nobody else says so


@dataclass(frozen=True)
class UsableLink:
    """The saved link of a context, or why there is none that would make what Bazel makes: then Bazel links."""

    saved: SavedLink | None
    why_not: str = ""
    is_gone: bool = False
    """Whether the link, or something that it reads, is not there any more; False where something differs."""


def usable_link(context: BuildContext) -> UsableLink:
    """Looks whether the context's saved link is there, and all that it reads is what it was. Changes nothing."""
    saved = saved_link_of(context)
    if saved is None:
        return UsableLink(None, "no link was kept of what this source, toolchain and these flags make", is_gone=True)
    root = _root(context, saved)
    if context.output_base.resolve() not in root.resolve().parents:  # build_root was copied, with its saved links
        elsewhere = f"the link was saved for {saved.directory}, which is not where this tree is built"
        return UsableLink(None, elsewhere, is_gone=True)
    other = saved.difference(root, places_of(context))
    if other is not None:
        return UsableLink(None, other.why, other.is_gone)
    lost = next((name for name in saved.replaced if _of_the_overlay(context, root, name) is None), "")
    return UsableLink(None, f"{lost} is no longer the overlay's") if lost else UsableLink(saved)


@contextlib.contextmanager
def relinked(
    context: BuildContext,
    saved: SavedLink,
    reporter: Reporter,
    *,
    linker: str = "",
    words: LinkWords | None = None,
) -> Iterator[Path]:
    """The server that the saved link makes of the overlay as it is in the tree, until the block ends.

    It is made beside the builds, so that a build can take it by a rename; nothing of Bazel's is written to. `linker`
    is one to take in place of the command's own, `words` are others than the link's own. The caller holds the lock on
    build_root, has applied the overlay, and asked usable_link() after that. BuildFailedError, with the cause where it
    is a known one, where the link fails.
    """
    layout, log_path = context.layout, context.settings.logs / f"link-{time.strftime('%Y%m%d-%H%M%S')}.log"
    fsutil.make_directory(log_path.parent)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(fsutil.scratch_directory(context.settings.dist_root))
        layout = replace(layout, writable=(scratch,))
        inside = stack.enter_context(place_for_output(context.runner.inside(layout).writable[0]))
        command = with_output(words.command if words is not None else saved.command, str(inside / SERVER_NAME))
        if words is not None:
            fsutil.write_file(scratch / PARAMETERS, "".join(f"{line}\n" for line in words.parameters))
            command = with_parameter_file(command, str(inside / PARAMETERS))
        if linker:
            command = with_linker(command, linker)
        environment = context.runner.environment()
        temporary = {name: environment[name] for name in ("TMPDIR",) if name in environment}
        with reporter.progress("linking", unit="seconds") as progress:
            started = time.monotonic()

            def look() -> None:
                progress.update(time.monotonic() - started)

            finished = context.runner.run(
                RunRequest(
                    command,
                    layout,
                    {**saved.environment, **temporary},
                    log_path,
                    on_tick=look,
                    directory=Path(saved.directory),
                )
            )
        server = scratch / SERVER_NAME
        if finished.returncode != 0 or not server.is_file():
            raise explain_link(finished, log_path, renewable=not context.settings.without_adapter)
        yield server


def explain_link(finished: Finished, log_path: Path, *, renewable: bool = True) -> BuildFailedError:
    """The error for a link that failed, with the known cause and cure if what was printed shows one.

    `renewable` is False for a server without an adapter, which rebuild-after-cann refuses.
    """
    base = failure(finished, log_path=log_path)
    instead = ", or have Bazel link: ./inv rebuild-after-cann --with-bazel" if renewable else ""
    printed = hiding(finished.argv)(finished.output)
    known = diagnose(known_failures.LINKING, printed + (KILLED if finished.returncode in (-9, 137) else ""))
    shown = [f"    {line[:400]}" for line in printed.splitlines() if line.strip()][-6:]
    return BuildFailedError(
        "\n".join(
            [
                f"The link failed with status {finished.returncode}; the server that was there stays.",
                *shown,
                f"The command and its full output are in {log_path}",
            ]
        ),
        cause=known.cause if known is not None else "",
        cure=known.cure if known is not None else f"look for the first error in {log_path}{instead}",
        returncode=base.returncode,
        output=base.output,
    )


def _root(context: BuildContext, saved: SavedLink) -> Path:
    return located(Path(saved.directory), "", places_of(context))


def _of_the_overlay(context: BuildContext, root: Path, name: str) -> Path | None:
    """The file of the overlay that the link finds under that name, or whose copy it finds; None where it finds another.

    Bazel copies one of the stubs: it begins with "lib" then, as the linker wants it.
    """
    directory = context.source.tree / DIRECTORY
    found = located(root, name, places_of(context))
    base = found.name
    for own in (directory / base, directory / base.removeprefix("lib")):
        if (
            own.is_file()
            and found.is_file()
            and (own.samefile(found) or fsutil.sha256_of(own) == fsutil.sha256_of(found))
        ):
            return own
    return None
