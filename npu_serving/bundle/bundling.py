"""bundle: what a build on another machine needs, found, fetched and put into one file."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.bazel_program import fetch_tools, plan_tools
from npu_serving.building.inputs import make_sample_archives
from npu_serving.building.locking import check_agreement
from npu_serving.building.sources import NotMeasured, ServingSource, resolve_source
from npu_serving.bundle.placing import WHEELS
from npu_serving.bundle.wheels import PinnedPackage, Target, fetch_wheels, held_wheels, pinned_packages
from npu_serving.bundle.writer import (
    ARCHIVE,
    IMAGE,
    KINDS,
    KIT,
    TOOL,
    WHEEL,
    BundleMember,
    Manifest,
    places,
    write_bundle,
)
from npu_serving.console import Reporter, amount_text, duration_text, table
from npu_serving.errors import RequestError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import FetchPlan, fetch, plan_fetch
from npu_serving.fetch.mirrors import places_of
from npu_serving.fetch.toolchains import Tool, read_tools
from npu_serving.images.image_files import image_file_name, image_size_bytes, save_image
from npu_serving.lock.lockfile import Archive
from npu_serving.relink_kit.kit_file import check_checksum, read_kit
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

BAZEL = "bazel"
SCRATCH = ".bundling"
"""Below the build root: where images lie as files, on their way into a bundle or out of one."""


@dataclass(frozen=True)
class BundleRequest:
    """What goes into a bundle. `python` and `machine` are the other machine's; empty for those of this one."""

    output: Path
    everything: bool = False
    """All archives that the tree declares, needed or not."""
    toolchains: bool = False
    """All tools of locks/toolchains.json that are for that machine, not Bazel alone."""
    development: bool = False
    """The packages of ./inv test and lint, too."""
    python: str = ""
    machine: str = ""
    images: tuple[str, ...] = ()
    """Names of images of this machine's engine."""
    kits: tuple[Path, ...] = ()
    """Relink kits that ./inv package made."""

    @property
    def target(self) -> Target:
        """The Python and processor of the other machine; RequestError for those that this project doesn't support."""
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return Target(self.python or here, self.machine or platform.machine())


@dataclass(frozen=True)
class BundlePlan:
    """What would go in, and what of it would have to be fetched first."""

    request: BundleRequest
    source: ServingSource
    archives: tuple[Archive, ...]
    tools: tuple[Tool, ...]
    packages: tuple[PinnedPackage, ...]
    fetching: FetchPlan
    wheels_to_fetch: bool
    not_measured: NotMeasured

    def to_json(self) -> dict[str, object]:
        """For --dry-run --json."""
        target = self.request.target
        return {
            "output": str(self.request.output),
            "python": target.python,
            "machine": target.machine,
            "archives": [archive.name for archive in self.archives],
            "tools": [f"{tool.name} {tool.version} ({tool.kind})" for tool in self.tools],
            "packages": [f"{package.name} {package.version}" for package in self.packages],
            "images": list(self.request.images),
            "kits": [str(kit) for kit in self.request.kits],
            "wheels_to_fetch": self.wheels_to_fetch,
            "fetch": self.fetching.to_json(),
            "not_measured": list(self.not_measured.names),
        }

    def text(self) -> str:
        """For a person."""
        target = self.request.target
        lines = [
            f"Would write {self.request.output}, for Python {target.python} on {target.machine}, with:",
            f"  {len(self.archives)} archives of TensorFlow Serving {self.source.lock.serving_version}",
            *(f"  {tool.name} {tool.version}, {tool.kind}" for tool in self.tools),
            f"  {len(self.packages)} Python packages"
            + (", which would be fetched first" if self.wheels_to_fetch else ""),
            *(f"  the image {image}" for image in self.request.images),
            *(f"  the relink kit {kit}" for kit in self.request.kits),
            *(f"  (left out: {name}, for which no sha256 is pinned)" for name in self.fetching.unpinned),
        ]
        return "\n".join([*lines, *self.not_measured.lines(), self.fetching.text()])


@dataclass(frozen=True)
class BundleResult:
    """The bundle that was written; `sha256` is that of the file, as sha256sum prints it."""

    path: Path
    sha256: str
    size_bytes: int
    manifest: Manifest
    left_out: tuple[str, ...]
    not_measured: NotMeasured
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Everything, members included."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "machine": self.manifest.machine,
            "python": self.manifest.python,
            "members": [vars(member) for member in self.manifest.members],
            "left_out": list(self.left_out),
            "not_measured": list(self.not_measured.names),
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """What it holds, and what to type on the other machine."""
        rows = [
            (f"  {kind}s", str(len(members)), amount_text(sum(member.size_bytes for member in members), "bytes"))
            for kind in KINDS
            if (members := self.manifest.of_kind(kind))
        ]
        lines = [
            f"{self.path}: {amount_text(self.size_bytes, 'bytes')} for Python {self.manifest.python} on "
            f"{self.manifest.machine}, in {duration_text(self.seconds)}",
            table(rows),
            *(f"Left out: {name}, for which no sha256 is pinned." for name in self.left_out),
            *self.not_measured.lines(),
            f"sha256 {self.sha256}",
            "Copy it to the other machine together with a clone of this project. There, run:",
            "  " + command_line(["./inv", "unbundle", self.path.name, "--sha256", self.sha256]),
        ]
        return "\n".join(lines)


def plan_bundle(settings: Settings, request: BundleRequest) -> BundlePlan:
    """What make_bundle() would do. Changes nothing but memos. Raises what that raises before it changes anything."""
    plan = _plan(settings, request)
    plan.fetching.refuse_without_places()
    return plan


def _plan(settings: Settings, request: BundleRequest) -> BundlePlan:
    target = request.target
    fsutil.refuse_other_than_file(request.output)
    fsutil.refuse_unwritable(request.output.parent)
    for name in request.images:
        image_size_bytes(name)
    for kit in request.kits:
        _check_kit(kit, target)
    source = resolve_source(settings)
    check_agreement(source, settings)
    archives = _archives(source, request)
    tools = _tools(request)
    packages = pinned_packages(PROJECT_ROOT, target, development=request.development)
    places = source.places(settings)
    to_fetch = [item for item in archives if source.archive_file is None or item != source.archive]
    fetching = plan_fetch(to_fetch, ContentStore(settings.store_root), places=places)
    fetching = fetching.with_plan(plan_tools(tools, settings))
    return BundlePlan(
        request=request,
        source=source,
        archives=archives,
        tools=tools,
        packages=packages,
        fetching=fetching,
        wheels_to_fetch=held_wheels(_wheel_directory(settings, request), packages) is None,
        not_measured=NotMeasured(()) if request.everything else source.not_measured(target.machine),
    )


def make_bundle(settings: Settings, request: BundleRequest, reporter: Reporter) -> BundleResult:
    """Fetches what is missing, and writes the bundle; the same inputs give the same bytes.

    Raises FetchError, PinMismatchError, DiskFullError; then there is no file, or still the earlier one.
    """
    started = time.monotonic()
    places_of(settings.mirrors)
    with state_lock(settings.build_root, doing="bundle"):
        plan = _plan(settings, request)
        fsutil.check_writable(request.output.parent)  # before much is fetched for a file that can't be written
        store = ContentStore(settings.store_root)
        _fetch_archives(plan, store, settings, reporter)
        wheels = _fetch_wheels(plan, settings, reporter)
        scratch = settings.build_root / SCRATCH
        try:
            images = _save_images(request, scratch, reporter)
            members, files = _members(plan, store, wheels, images)
            target = request.target
            manifest = Manifest(plan.source.lock.serving_version, target.machine, target.python, members)
            _, size_bytes = places(manifest)
            directory = request.output.parent
            fsutil.check_space(directory, size_bytes, what="The files of the bundle", instead="name another --output")
            sha256 = write_bundle(request.output, manifest, files, reporter)
        finally:
            fsutil.remove(scratch)
    if not any(tool.name == BAZEL and tool.kind == "program" for tool in plan.tools):
        reporter.warn(
            f"The bundle has no Bazel for {target.machine}: nobody publishes one (guide 6.6.1 says how to build it)."
        )
    if plan.source.archive is None and plan.source.copied_from is None:
        reporter.note(f"The tree {plan.source.tree} itself is not in the bundle: copy it to the other machine as well.")
    return BundleResult(
        request.output,
        sha256,
        size_bytes,
        manifest,
        plan.fetching.unpinned,
        plan.not_measured,
        time.monotonic() - started,
    )


def _check_kit(path: Path, target: Target) -> None:
    """KitError for a file of another kind, RequestError for one that the other machine can't run, and what
    check_checksum() raises.
    """
    machine = read_kit(path).file.machine
    if machine != target.machine:
        raise RequestError(
            f"The relink kit {path} is for {machine}, and the bundle for {target.machine}.",
            cure=f"leave it out, or make the bundle for that machine: --arch {machine}",
        )
    check_checksum(path)


def _archives(source: ServingSource, request: BundleRequest) -> tuple[Archive, ...]:
    machine = request.target.machine
    if request.everything:
        own = (source.archive,) if source.archive is not None else ()
        return (*own, *source.lock.archives)
    return source.needed_archives(machine)


def _tools(request: BundleRequest) -> tuple[Tool, ...]:
    """The tools for that machine: Bazel in any case, as a program or, where nobody publishes one, as its sources."""
    fitting = [tool for tool in read_tools() if tool.works_on(f"linux-{request.target.machine}")]
    if request.toolchains:
        return tuple(fitting)
    bazel = [tool for tool in fitting if tool.name == BAZEL]
    return tuple([tool for tool in bazel if tool.kind == "program"] or bazel)


def _fetch_archives(plan: BundlePlan, store: ContentStore, settings: Settings, reporter: Reporter) -> None:
    source = plan.source
    if source.copied_from is not None:
        make_sample_archives(settings)
    if source.archive is not None and source.archive_file is not None:
        store.adopt(source.archive_file, source.archive.sha256 or "")
    fetch_tools(plan.tools, settings, reporter)
    missing = plan_fetch(plan.archives, store)
    fetch(missing, store, mirrors=(*settings.mirrors, *source.mirrors), offline=settings.offline, reporter=reporter)


def _wheel_directory(settings: Settings, request: BundleRequest) -> Path:
    target = request.target
    return settings.build_root / "wheels" / f"{target.tag}-{target.machine}{'-dev' if request.development else ''}"


def _fetch_wheels(plan: BundlePlan, settings: Settings, reporter: Reporter) -> dict[str, Path]:
    directory = _wheel_directory(settings, plan.request)
    held = held_wheels(directory, plan.packages)
    if held is not None:
        return held
    local = PROJECT_ROOT / WHEELS if settings.offline else None
    return fetch_wheels(directory, plan.packages, plan.request.target, reporter, local=local)


def _save_images(request: BundleRequest, directory: Path, reporter: Reporter) -> tuple[Path, ...]:
    paths = tuple(directory / image_file_name(name) for name in dict.fromkeys(request.images))
    for name, path in zip(dict.fromkeys(request.images), paths):
        save_image(name, path, reporter)
    return paths


def _members(
    plan: BundlePlan, store: ContentStore, wheels: dict[str, Path], images: tuple[Path, ...]
) -> tuple[tuple[BundleMember, ...], dict[str, Path]]:
    """The bundle's members, and for each digest the file that holds the bytes."""
    pinned = {archive.sha256: (ARCHIVE, archive.file_name) for archive in plan.archives if archive.sha256 is not None}
    pinned.update({tool.sha256: (TOOL, tool.file_name) for tool in plan.tools})
    files = {sha256: store.path(sha256) for sha256 in pinned}
    named = dict(pinned)
    for kind, paths in ((WHEEL, tuple(wheels.values())), (IMAGE, images), (KIT, plan.request.kits)):
        for path in paths:
            sha256 = fsutil.sha256_of(path)
            named[sha256] = (kind, path.name)
            files[sha256] = path
    members = [
        BundleMember(kind, file_name, sha256, files[sha256].stat().st_size)
        for sha256, (kind, file_name) in named.items()
    ]
    return tuple(sorted(members, key=lambda member: member.name)), files
