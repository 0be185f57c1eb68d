"""fetch-deps: the archives of the source that is set, into the store, the distdir and the repository cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.build.bazel_program import bring_bazel, find_bazel
from npu_serving.build.inputs import make_sample_archives, needed_archives
from npu_serving.build.sources import Source, resolve_source
from npu_serving.console import Reporter, Silent
from npu_serving.deps.fetch import FetchPlan, fetch, plan_fetch
from npu_serving.deps.importing import ImportReport, import_directory
from npu_serving.deps.lock import Archive
from npu_serving.deps.report import FetchReport
from npu_serving.deps.store import ContentStore, Placement
from npu_serving.deps.toolchains import read_tools
from npu_serving.deps.transfer import Wanted
from npu_serving.errors import MissingToolError, RequestError
from npu_serving.settings import Settings


@dataclass(frozen=True)
class FetchDepsResult:
    """What was fetched, and where it is now."""

    report: FetchReport
    placement: Placement
    store: Path
    distdir: Path

    def to_json(self) -> dict[str, object]:
        """The report of the engine, and the places."""
        return {
            **self.report.to_json(),
            "placement": self.placement.to_json(),
            "repository_cache": str(self.store),
            "distdir": str(self.distdir),
        }

    def text(self) -> str:
        """The report, then the flags for a Bazel that is run by hand."""
        return (
            f"{self.report.text()}\nFor a bazel of your own: --repository_cache={self.store} --distdir={self.distdir}"
        )


def plan_dependencies(settings: Settings, *, everything: bool = False, verify: bool = False) -> FetchPlan:
    """What fetch_dependencies() would fetch."""
    wanted: list[Archive | Wanted] = [*_archives(resolve_source(settings), everything), *_missing_bazel(settings)]
    return plan_fetch(wanted, ContentStore(settings.store_root), verify=verify)


def fetch_dependencies(
    settings: Settings, reporter: Reporter, *, everything: bool = False, verify: bool = False
) -> FetchDepsResult:
    """Fetches what the server's build needs (or `everything` that the tree declares), verifies it and puts it in place.

    Raises FetchError, PinMismatchError, DiskFullError.
    """
    with fsutil.state_lock(settings.build_root, doing="fetch-deps"):
        return _fetch(settings, reporter, everything=everything, verify=verify)


def _fetch(settings: Settings, reporter: Reporter, *, everything: bool, verify: bool) -> FetchDepsResult:
    source = resolve_source(settings)
    if source.name == "sample":
        make_sample_archives(settings)
    store = ContentStore(settings.store_root)
    archives = _archives(source, everything)
    plan = plan_fetch(archives, store, verify=verify)
    mirrors = (*settings.mirrors, *source.mirrors)
    report = fetch(plan, store, mirrors=mirrors, offline=settings.offline, reporter=reporter)
    _bring_bazel(settings, reporter)
    return FetchDepsResult(report, store.place(archives, settings.distdir), settings.store_root, settings.distdir)


def import_dependencies(
    settings: Settings, directory: Path, reporter: Reporter, *, dry_run: bool = False
) -> ImportReport:
    """Adopts files fetched by hand, under whatever name, by what they hold; all archives of the lock count."""
    if dry_run:
        raise RequestError(
            "--import has no dry run.", cause="it only copies, into the store", cure="leave --dry-run out"
        )
    if not directory.is_dir():
        raise RequestError(f"There is no directory {directory}.", cure="--import takes the directory of the files")
    source = resolve_source(settings)
    store = ContentStore(settings.store_root)
    archives = _archives(source, everything=True)
    tools = [Archive(tool.name, "", tool.urls, tool.sha256, tool.size_bytes) for tool in read_tools()]
    with fsutil.state_lock(settings.build_root, doing="fetch-deps --import"):
        report = import_directory(directory, [*archives, *tools], store, reporter=reporter)
        store.place(archives, settings.distdir)
    return report


def _missing_bazel(settings: Settings) -> list[Wanted]:
    """The pinned bazel, where this machine has no fitting one and it isn't fetched yet."""
    try:
        program = find_bazel(settings, Silent())
    except MissingToolError:
        return []
    if program.path.is_file():
        return []
    return [tool.wanted() for tool in read_tools() if tool.sha256 == program.sha256]


def _bring_bazel(settings: Settings, reporter: Reporter) -> None:
    """A build is to need nothing more, so the pinned bazel comes along where this machine has no fitting one."""
    try:
        bring_bazel(find_bazel(settings, reporter), settings, reporter)
    except MissingToolError as error:
        reporter.warn(f"{error.what} {error.cause}")


def _archives(source: Source, everything: bool) -> tuple[Archive, ...]:
    if not everything:
        return needed_archives(source.lock, source.archive)
    own = (source.archive,) if source.archive is not None else ()
    return (*own, *source.lock.archives)
