"""fetch-deps: the archives of the source that is set, into the store, the distdir and the repository cache."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.building.bazel_program import BazelProgram, fetch_bazel, fetch_tools, find_bazel, plan_tools
from npu_serving.building.inputs import make_sample_archives
from npu_serving.building.locking import check_agreement
from npu_serving.building.sources import NotMeasured, ServingSource, lock_command, resolve_source, shipped_locks
from npu_serving.console import Reporter, Silent
from npu_serving.errors import MissingToolError, NoLockError, RequestError
from npu_serving.fetch.content_store import ContentStore, Placement
from npu_serving.fetch.fetching import FetchPlan, fetch, plan_fetch
from npu_serving.fetch.importing import ImportReport, import_directory
from npu_serving.fetch.mirrors import places_of
from npu_serving.fetch.report import FetchReport
from npu_serving.fetch.store_server import Address, ServeReport, StoreServer, names_of, parse_address
from npu_serving.fetch.toolchains import Tool, read_tools
from npu_serving.fetch.transfer import WantedFile
from npu_serving.lock.lockfile import Archive, Lock, read_lock
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line


@dataclass(frozen=True)
class FetchDepsResult:
    """What was fetched, and where it is now. `bazel` is None where there is none for this machine."""

    report: FetchReport
    placement: Placement
    store: Path
    distdir: Path
    bazel: BazelProgram | None
    bazel_is_new: bool
    not_measured: NotMeasured

    def to_json(self) -> dict[str, object]:
        """The report of the engine, and the places."""
        return {
            **self.report.to_json(),
            "placement": self.placement.to_json(),
            "repository_cache": str(self.store),
            "distdir": str(self.distdir),
            "not_measured": list(self.not_measured.names),
            "bazel": None
            if self.bazel is None
            else {"path": str(self.bazel.path), "version": self.bazel.version, "is_new": self.bazel_is_new},
        }

    def text(self) -> str:
        """The report, the Bazel that came along, and the flags for a Bazel that is run by hand."""
        lines = [self.report.text()]
        if self.bazel is not None and self.bazel_is_new:
            lines.append(f"Bazel {self.bazel.version} fetched and verified: {self.bazel.path}")
        lines += self.not_measured.lines()
        lines.append(f"To run Bazel by hand, use: --repository_cache={self.store} --distdir={self.distdir}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ServePlan:
    """What `--serve` offers. `missing` are files that the source needs and the store doesn't have."""

    address: Address
    source: str
    held: int
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """For --json --dry-run."""
        return {"url": self.address.url, "held": self.held, "missing": list(self.missing), "command": self.command}

    @property
    def command(self) -> str:
        """What to type on the other machines."""
        source = [] if "/" in self.source else ["--source", self.source]
        return command_line(["./inv", "fetch-deps", *source, "--mirror", self.address.url])

    def text(self) -> str:
        """For a person, before it begins."""
        lines = [f"Serving {self.held} files at {self.address.url} until Ctrl-C. On the other machines, run:"]
        lines.append(f"  {self.command}")
        if self.missing:
            lines.append(
                f"{len(self.missing)} files that {self.source} needs are missing; fetch them with ./inv fetch-deps:"
            )
            lines += [f"  {name}" for name in self.missing]
        return "\n".join(lines)


@dataclass(frozen=True)
class FetchDepsPlan:
    """What fetch_dependencies() would fetch, and what it would leave out."""

    fetching: FetchPlan
    not_measured: NotMeasured

    def to_json(self) -> dict[str, object]:
        """The plan of the engine, and what is left out."""
        return {**self.fetching.to_json(), "not_measured": list(self.not_measured.names)}

    def text(self) -> str:
        """The same for a person."""
        return "\n".join([self.fetching.text(), *self.not_measured.lines()])


def plan_dependencies(settings: Settings, *, everything: bool = False, verify: bool = False) -> FetchDepsPlan:
    """What fetch_dependencies() would do."""
    source = resolve_source(settings)
    places = source.places(settings)
    check_agreement(source, settings)
    store = ContentStore(settings.store_root)
    plan = plan_fetch(_archives(source, everything), store, verify=verify, places=places)
    plan = plan.with_plan(plan_tools(_missing_bazel(settings), settings))
    plan.refuse_without_places()
    return FetchDepsPlan(plan, NotMeasured(()) if everything else source.not_measured())


def fetch_dependencies(
    settings: Settings, reporter: Reporter, *, everything: bool = False, verify: bool = False
) -> FetchDepsResult:
    """Fetches what the server's build needs (or `everything` that the tree declares), verifies it and places it.

    Raises FetchError, PinMismatchError, DiskFullError.
    """
    with state_lock(settings.build_root, doing="fetch-deps"):
        return _fetch(settings, reporter, everything=everything, verify=verify)


def _fetch(settings: Settings, reporter: Reporter, *, everything: bool, verify: bool) -> FetchDepsResult:
    source = resolve_source(settings)
    source.places(settings)
    check_agreement(source, settings)  # as far as that goes before anything is fetched
    if source.name == "sample":
        make_sample_archives(settings)
    store = ContentStore(settings.store_root)
    archives = _archives(source, everything)
    plan = plan_fetch(archives, store, verify=verify)
    mirrors = (*settings.mirrors, *source.mirrors)
    report = fetch(plan, store, mirrors=mirrors, offline=settings.offline, reporter=reporter)
    check_agreement(source, settings)
    bazel, is_new = _fetch_bazel(settings, reporter)
    placement = store.place(archives, settings.distdir)
    left_out = NotMeasured(()) if everything else source.not_measured()
    return FetchDepsResult(report, placement, settings.store_root, settings.distdir, bazel, is_new, left_out)


def serve_dependencies(
    settings: Settings, listen: str, reporter: Reporter, *, dry_run: bool = False
) -> ServePlan | ServeReport:
    """Offers the store as a mirror to other machines, until Ctrl-C: all that any lock here names.

    Changes nothing and takes no lock, so fetches may go on beside it. Raises RequestError for an address that can't be
    listened on.
    """
    address = parse_address(listen)
    source = resolve_source(settings)
    store = ContentStore(settings.store_root)
    own: list[Archive | WantedFile] = [*_archives(source, everything=True), *(tool.wanted() for tool in read_tools())]
    others = [archive for path in shipped_locks() for archive in _all_of(read_lock(path))]
    names = names_of([*own, *others])
    needed = plan_fetch([*_archives(source, everything=False), *_bazel_files(settings)], store)
    missing = tuple(wanted.label for wanted in needed.missing)
    plan = ServePlan(address, source.name, len(store.check(set(names.values())).present), missing)
    if dry_run:
        return plan
    server = StoreServer(store, names, address, reporter)
    reporter.note(replace(plan, address=server.address).text())
    return server.run()


def import_dependencies(
    settings: Settings, directory: Path, reporter: Reporter, *, everything: bool = False, dry_run: bool = False
) -> ImportReport:
    """Adopts files fetched by hand, under whatever name, by what they hold; all archives of the lock count.

    What the build needs (or `everything` that the tree declares) and that isn't there is reported as missing.
    """
    if dry_run:
        raise RequestError(
            "--import and --dry-run cannot be combined.",
            cause="an import only copies files into the store",
            cure="leave out --dry-run",
        )
    places_of(settings.mirrors)  # a wrong one is refused, though an import asks none
    if not directory.is_dir():
        raise RequestError(
            f"The directory {directory} does not exist.", cure="use --import with the directory that contains the files"
        )
    try:
        source = resolve_source(settings)
    except NoLockError as error:  # what the files are is known when there is one, and they help to make it
        error.cure = lock_command(Path(settings.source), settings, "--import", directory)
        raise
    store = ContentStore(settings.store_root)
    archives = _archives(source, everything=True)
    tools = [Archive(tool.name, "", tool.urls, tool.sha256, tool.size_bytes) for tool in read_tools()]
    wanted: list[Archive | WantedFile] = [*_archives(source, everything), *_bazel_files(settings)]
    needed = {item.sha256 for item in wanted if item.sha256 is not None}
    with state_lock(settings.build_root, doing="fetch-deps --import"):
        report = import_directory(directory, [*archives, *tools], store, needed=needed, reporter=reporter)
        store.place(archives, settings.distdir)
    return report


def _bazel_files(settings: Settings) -> list[WantedFile]:
    return [tool.wanted() for tool in _missing_bazel(settings)]


def _missing_bazel(settings: Settings) -> list[Tool]:
    """The pinned bazel, where this machine has no suitable one and it isn't fetched yet."""
    try:
        program = find_bazel(settings, Silent())
    except MissingToolError:
        return []
    if program.path.is_file():
        return []
    return [tool for tool in read_tools() if tool.sha256 == program.sha256]


def _fetch_bazel(settings: Settings, reporter: Reporter) -> tuple[BazelProgram | None, bool]:
    """Fetches the pinned bazel where this machine has no suitable one, so that a build needs nothing more.

    Returns the bazel of a build, and whether it was fetched just now.
    """
    try:
        program = find_bazel(settings, reporter)
        is_new = not program.path.is_file()
        fetch_bazel(program, settings, reporter)
    except MissingToolError as error:
        reporter.warn(f"{error.what} {error.cause}")
        return None, False
    return program, is_new


def plan_toolchains(settings: Settings, *, everything: bool = False, verify: bool = False) -> FetchPlan:
    """What fetch_toolchains() would fetch."""
    plan = plan_tools(_tools(everything), settings, verify=verify)
    plan.refuse_without_places()
    return plan


def fetch_toolchains(
    settings: Settings, reporter: Reporter, *, everything: bool = False, verify: bool = False
) -> FetchReport:
    """Fetches the tools and the sources of tools for this machine (or for `everything`: all platforms) into the store.

    Raises FetchError, PinMismatchError, DiskFullError.
    """
    places_of(settings.mirrors)
    with state_lock(settings.build_root, doing="fetch-deps --toolchains"):
        return fetch_tools(_tools(everything), settings, reporter, verify=verify)


def _tools(everything: bool) -> tuple[Tool, ...]:
    here = f"linux-{platform.machine()}"
    return tuple(tool for tool in read_tools() if everything or tool.works_on(here))


def _archives(source: ServingSource, everything: bool) -> tuple[Archive, ...]:
    if not everything:
        return source.needed_archives()
    return _all_of(source.lock) if source.archive is not None else source.lock.archives


def _all_of(lock: Lock) -> tuple[Archive, ...]:
    return (lock.source, *lock.archives)
