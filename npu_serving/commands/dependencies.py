"""Archives: which ones a tree declares, fetching them, and taking them to a machine without network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command
from npu_serving.settings import FETCHING

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("source", FETCHING),
    kinds={"import_": Path},
    help={
        "check": "only report whether the tree and its lock agree",
        "import_": "take archives that the WORKSPACE loads from out of this directory, recognised by their content",
        "pin": "fetch archives that have no sha256 in the tree once, and write their sha256 into the lock",
        "needed": "ask Bazel which archives the server needs on x86_64 and aarch64, which takes minutes",
    },
)
def lock_deps(
    call: Call,
    check: bool = False,
    pin: bool = False,
    needed: bool = False,
    import_: Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Evaluate a serving tree's WORKSPACE and write its lock."""
    from npu_serving.building.locking import lock_source, plan_lock
    from npu_serving.errors import RequestError

    if needed and dry_run:
        raise RequestError(
            "--needed and --dry-run cannot be combined.", cure="use --check, which leaves the lock unchanged"
        )
    if import_ is not None and dry_run:
        raise RequestError("--import and --dry-run cannot be combined.", cure="leave out one of them")
    if dry_run:
        return plan_lock(call.settings, pin=pin)
    return lock_source(call.settings, call.console, check=check, pin=pin, needed=needed, by_hand=import_)


@command(
    settings=("source", FETCHING),
    kinds={"import_": Path},
    help={
        "import_": "import the files in this directory, recognised by their content, whatever their names",
        "toolchains": "fetch the tools, and the sources of tools, that images are made from, instead of the "
        "tree's archives",
        "all": "every archive that the tree declares, needed or not; with --toolchains, for every platform",
        "verify": "read every file of the store again",
        "serve": "offer the store as a mirror to other machines, until Ctrl-C",
        "listen": "where --serve listens: ADDRESS:PORT, 0.0.0.0:8280 by default",
    },
)
def fetch_deps(
    call: Call,
    import_: Path | None = None,
    toolchains: bool = False,
    all: bool = False,
    verify: bool = False,
    serve: bool = False,
    listen: str = "",
    dry_run: bool = False,
) -> Result:
    """Fetch, verify and place the archives that the build needs."""
    from npu_serving.building import dependencies
    from npu_serving.errors import RequestError

    if listen and not serve:
        raise RequestError("--listen needs --serve.", cure="add --serve, or leave out --listen")
    if verify and (serve or import_ is not None):
        raise RequestError("--verify cannot be combined with --import or --serve.", cure="leave out --verify")
    if sum([import_ is not None, serve, toolchains]) > 1:
        raise RequestError("--import, --serve and --toolchains cannot be combined.", cure="use one of them at a time")
    settings, console = call.settings, call.console
    if import_ is not None:
        return dependencies.import_dependencies(settings, import_, console, everything=all, dry_run=dry_run)
    if serve:
        return dependencies.serve_dependencies(settings, listen or "0.0.0.0:8280", console, dry_run=dry_run)
    if toolchains:
        if dry_run:
            return dependencies.plan_toolchains(settings, everything=all, verify=verify)
        return dependencies.fetch_toolchains(settings, console, everything=all, verify=verify)
    if dry_run:
        return dependencies.plan_dependencies(settings, everything=all, verify=verify)
    return dependencies.fetch_dependencies(settings, console, everything=all, verify=verify)


@command(
    settings=("source", FETCHING),
    kinds={"output": Path},
    help={
        "output": "the file to write",
        "all": "every archive that the tree declares, needed or not",
        "toolchains": "every tool of locks/toolchains.json for that machine, not only the pinned Bazel",
        "dev": "also the packages that ./inv test and lint need",
        "python": "the other machine's Python, such as 3.11; this one's by default",
        "arch": "the other machine's processor, x86_64 or aarch64; this one's by default",
        "image": "an image of this machine's Docker engine to include (repeatable)",
        "kit": "a relink kit that ./inv package --format kit made, to include (repeatable)",
    },
)
def bundle(
    call: Call,
    output: Path | None = None,
    image: tuple[str, ...] = (),
    kit: tuple[str, ...] = (),
    python: str = "",
    arch: str = "",
    all: bool = False,
    toolchains: bool = False,
    dev: bool = False,
    dry_run: bool = False,
) -> Result:
    """Put everything that a machine without network needs into one file."""
    from npu_serving.bundle import bundling
    from npu_serving.errors import RequestError
    from npu_serving.settings import user_path

    if output is None:
        raise RequestError("--output is required.", cure="./inv bundle --output FILE")
    request = bundling.BundleRequest(
        output=output,
        everything=all,
        toolchains=toolchains,
        development=dev,
        python=python,
        machine=arch,
        images=image,
        kits=tuple(user_path(name, "--kit") for name in kit),
    )
    if dry_run:
        return bundling.plan_bundle(call.settings, request)
    return bundling.make_bundle(call.settings, request, call.console)


@command(help={"bundle": "the file that ./inv bundle made", "sha256": "the digest that ./inv bundle printed"})
def unbundle(call: Call, bundle: str, sha256: str = "", dry_run: bool = False) -> Result:
    """Verify a bundle and unpack its contents to where they belong."""
    from npu_serving.bundle import unbundling
    from npu_serving.settings import user_path

    path = user_path(bundle, "the bundle")
    if dry_run:
        return unbundling.plan_unbundle(call.settings, path, sha256=sha256)
    return unbundling.unbundle(call.settings, path, call.console, sha256=sha256)
