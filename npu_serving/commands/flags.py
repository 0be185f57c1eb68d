"""What the tasks share: the help of flags that occur more than once, and the way from a result to the screen.

Nothing heavy is imported up here or in the modules beside it, so that `--list` costs no more than invoke itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npu_serving.cli import Result
    from npu_serving.console import Console

SETTINGS_HELP = {
    "source": "what is built: a version, the path of a serving tree or of its archive, or `sample`",
    "adapter": "_tf_adapter.so: `auto` (that of the CANN installed here), a path, or `sample`",
    "runner": "where Bazel runs: host, docker, or auto",
    "mirror": "tried before the pinned URLs: a base URL, or NEW=OLD to replace the beginning of a URL (repeatable)",
    "base_image": "the image that the toolchain image is made from",
    "flavour": "what the toolchain image holds: `distro` (the distribution's compiler and Python) or `guide`",
    "apt_source": "where the image's packages come from, in place of the base's own sources: URL SUITE COMPONENT... "
    "(repeatable)",
    "offline": "open no connection",
    "disk_cache": "a directory in which results of actions are kept, for any tree and output root",
    "remote_cache": "a cache that machines share: http(s)://HOST[:PORT][/PATH] or grpc(s)://HOST:PORT",
    "remote_executor": "machines that run the actions: grpc(s)://HOST:PORT",
    "jobs": "how many actions Bazel runs at once",
    "build": "a build of list-builds; the current one by default",
    "json": "print one JSON document",
    "dry_run": "print the plan, change nothing",
}


def help_for(*names: str, **further: str) -> dict[str, str]:
    """The help of a task's flags: shared ones by name, its own with their text."""
    return {**{name: SETTINGS_HELP[name] for name in names}, **further}


def refuse_together(flag: str, because: str, **others: object) -> None:
    """RequestError for those of the other flags that were given, by name, where `flag` leaves them without effect."""
    from npu_serving.errors import RequestError

    given = " and ".join(f"--{name.replace('_', '-')}" for name, value in others.items() if value)
    if given:
        raise RequestError(f"{given} would have no effect with {flag}.", cause=because, cure=f"leave out {given}")


def run(work: Callable[[Console], Result | None], *, as_json: bool = False) -> None:
    """Prints the result of `work(console)` and leaves with its exit code; shows an error as a person needs it."""
    from npu_serving.cli import answer

    answer(work, as_json=as_json)


def run_each(work: Callable[[Console], Iterator[Result]], *, as_json: bool = False) -> None:
    """Prints each result of `work(console)` as it comes, one line each, and leaves with the last one's exit code."""
    from npu_serving.cli import answer_each

    answer_each(work, as_json=as_json)
