"""The linker of a build: what is there where it links, and whether that is what the settings name."""

from __future__ import annotations

from npu_serving.building.context import BuildContext
from npu_serving.building.runner import RunRequest
from npu_serving.errors import BuildFailedError
from npu_serving.linking.linkers import (
    ARGUMENT,
    AUTO,
    LLD,
    Linker,
    choose,
    found_linkers,
)


def check_linker(context: BuildContext) -> None:
    """MissingToolError where the linker that the settings name isn't where Bazel runs, or is too old.

    Nothing is asked for "auto", nor of a runner that has to be made first.
    """
    wanted = context.settings.linker
    if wanted != AUTO and not context.runner.what_is_missing():
        choose(wanted, "", linkers_here(context, wanted))


def check_linked(wanted: str, linked: str) -> None:
    """BuildFailedError where Bazel's link was made by a linker that is not the one of the settings."""
    if wanted not in (AUTO, linked) and linked:
        raise BuildFailedError(
            f"Bazel linked the server with {linked}, not with {wanted}.",
            cause=f"a toolchain of the tree, or a flag in bazel_args, has {ARGUMENT}{linked} after everything else",
            cure="leave that flag out, or: ./inv build-serving --linker auto",
        )


def relinking(context: BuildContext, made_by: str) -> str:
    """The linker that links a server again which `made_by` has linked: "auto" means lld where it is new enough, for it
    is the quickest; else the same.
    """
    if context.settings.linker != AUTO or made_by == LLD:
        return made_by
    quick = [found for found in linkers_here(context, LLD) if found.kind == LLD and found.is_new_enough]
    return LLD if quick else made_by


def linker_that_made(context: BuildContext, kind: str) -> str:
    """The linker of that kind where Bazel runs, with its version, for the manifest; "" where it does not answer."""
    return next((found.version for found in linkers_here(context, kind)), "") if kind else ""


def linkers_here(context: BuildContext, *kinds: str) -> tuple[Linker, ...]:
    """Those of these kinds that the compiler starts, where Bazel runs."""
    log_path = context.settings.logs / "linkers.log"
    environment = context.runner.environment()

    def ask(word: str) -> str:
        if word not in context.linkers_asked:
            request = RunRequest(["gcc", word, "-Wl,--version"], context.layout, environment, log_path)
            finished = context.runner.run(request)
            context.linkers_asked[word] = finished.stdout if finished.returncode == 0 else ""
        return context.linkers_asked[word]

    return found_linkers([ARGUMENT + kind for kind in kinds], ask)
