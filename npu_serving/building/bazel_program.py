"""Finding a fitting bazel: the one set, the one on PATH, or the pinned release, fetched and verified."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving import archives, fsutil, process
from npu_serving.console import Reporter
from npu_serving.doctor.bazel_version import bazel_version, can_build, required_text
from npu_serving.errors import MissingToolError, NpuServingError, ProgramError, RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.fetch.attempts import report_of
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import FetchPlan, fetch_file, plan_fetch, try_fetch
from npu_serving.fetch.mirrors import Candidate, Places, places_of
from npu_serving.fetch.report import FetchReport, failure_error
from npu_serving.fetch.toolchains import Tool, find_tool
from npu_serving.fetch.transfer import WantedFile
from npu_serving.settings import Settings

NPM_PACKAGE = "@bazel/bazel-linux_x64"
"""Its versions are Bazel's; it holds the same bytes as the upstream release."""


@dataclass(frozen=True)
class BazelProgram:
    """A bazel that can build the tree."""

    path: Path
    version: str
    sha256: str


def find_bazel(settings: Settings, reporter: Reporter) -> BazelProgram:
    """The bazel that a build will use; the pinned release, which fetch_bazel() fetches, if this machine has none.

    RequestError for one that was set and doesn't fit; MissingToolError where there is none: for aarch64 there is no
    release before 3.6, so 0.24.1 has to be made from its dist archive (guide 6.6.1).
    """
    if settings.bazel:
        path = Path(settings.bazel).expanduser()
        if not path.is_file():
            raise RequestError(
                f"bazel is set to {path}, which is not a file.",
                cure="correct `bazel` in invoke.yaml, or leave it empty to use the pinned release",
            )
        program = _examined(path)
        if not can_build(program.version):
            raise RequestError(
                f"{path} is {_described(program)}, but this tree needs {required_text()}.",
                cause="" if program.version else "it is a script or a launcher that chooses a Bazel when it is started",
                cure="leave `bazel` in invoke.yaml empty to use the pinned release",
            )
        return program
    on_path = process.find_program("bazel")
    if on_path is not None:
        program = _examined(on_path)
        if can_build(program.version):
            return program
        reporter.note(f"{on_path} is {_described(program)}; using the pinned {pinned_bazel()} instead")
    return _pinned(settings)


def find_bazel_for_image(settings: Settings, reporter: Reporter) -> BazelProgram:
    """The bazel for the toolchain image; where nobody publishes one, the archive that the guide's image makes it from.

    Raises like find_bazel().
    """
    try:
        return find_bazel(settings, reporter)
    except MissingToolError:
        if settings.docker_flavour != "guide":
            raise
        sources = find_tool("bazel", "any", version=pinned_bazel(), kind="sources")
        return BazelProgram(ContentStore(settings.store_root).path(sources.sha256), sources.version, sources.sha256)


def fetch_bazel(program: BazelProgram, settings: Settings, reporter: Reporter) -> None:
    """Fetches the pinned release, verified, to where find_bazel() said it would be; nothing to do if it is there."""
    if program.path.is_file():
        return
    store = ContentStore(settings.store_root)
    if program.path == store.path(program.sha256):  # the archive of find_bazel_for_image()
        sources = find_tool("bazel", "any", version=program.version, kind="sources").wanted()
        fetch_file(sources, store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
        return
    fetch_release(_release(), settings, reporter)
    fsutil.copy_file(store.path(program.sha256), program.path, mode=0o755)


def _pinned(settings: Settings) -> BazelProgram:
    release = _release()
    directory = settings.build_root / "tools" / f"bazel-{release.version}-{release.sha256[:12]}"
    return BazelProgram(directory / "bazel", release.version, release.sha256)


def _release() -> Tool:
    machine = platform.machine()
    try:
        return find_tool("bazel", f"linux-{machine}", version=pinned_bazel(), kind="program")
    except MissingToolError as error:
        raise MissingToolError(
            f"Bazel {pinned_bazel()} was never released for {machine}.",
            cause="there are no such releases before 3.6, so it has to be built from "
            f"bazel-{pinned_bazel()}-dist.zip "
            "(guide 6.6.1)",
            cure="build it with JDK 11, then put it on PATH or name it under `bazel` in invoke.yaml",
        ) from error


def wanted_tool(tool: Tool, settings: Settings) -> WantedFile:
    """The tool as it is fetched: a release of Bazel from npm's package too, where npm is there and may be asked."""
    wanted = tool.wanted()
    if not _is_packaged(tool) or settings.offline or process.find_program("npm") is None:
        return wanted
    return replace(wanted, package=f"npm:{NPM_PACKAGE}@{tool.version}")


def plan_tools(tools: Sequence[Tool], settings: Settings, *, verify: bool = False) -> FetchPlan:
    """What fetch_tools() would do."""
    return plan_fetch(
        [wanted_tool(tool, settings) for tool in tools],
        ContentStore(settings.store_root),
        verify=verify,
        places=places_of(settings.mirrors, offline=settings.offline),
    )


def fetch_tools(tools: Sequence[Tool], settings: Settings, reporter: Reporter, *, verify: bool = False) -> FetchReport:
    """Fetches the tools into the store, verified; Bazel from the same places whichever task wants it.

    A mirror that the user named is asked first, then npm, whose package is at hand where nothing but a registry is
    reachable, then the release's own URLs. Raises like fetch().
    """
    plan, store = plan_tools(tools, settings, verify=verify), ContentStore(settings.store_root)
    places = places_of(settings.mirrors, offline=settings.offline)
    packaged = [wanted for wanted in plan.missing if wanted.package]
    plain = replace(plan, missing=tuple(wanted for wanted in plan.missing if not wanted.package))
    reports = [try_fetch(plain, store, places, reporter=reporter)]
    reports += [_fetch_packaged(wanted, store, settings, reporter) for wanted in packaged]
    report = replace(
        reports[0],
        fetched=tuple(file for each in reports for file in each.fetched),
        failed=tuple(failure for each in reports for failure in each.failed),
        seconds=sum(each.seconds for each in reports),
    )
    if report.failed:
        error = failure_error(report, offline=settings.offline)
        without_npm = {tool.sha256 for tool in tools if _is_packaged(tool)} - {wanted.sha256 for wanted in packaged}
        if not settings.offline and any(failure.wanted.sha256 in without_npm for failure in report.failed):
            error.cure += f"; or install npm: Bazel is then taken from its package {NPM_PACKAGE}"
        raise error
    return report


def fetch_release(release: Tool, settings: Settings, reporter: Reporter) -> None:
    """Fetches a release of Bazel into the store, verified; nothing to do if it is there."""
    fetch_tools([release], settings, reporter)


def _is_packaged(tool: Tool) -> bool:
    return (tool.name, tool.kind, tool.platform) == ("bazel", "program", "linux-x86_64")


def _fetch_packaged(wanted: WantedFile, store: ContentStore, settings: Settings, reporter: Reporter) -> FetchReport:
    """From the mirrors, the package, the declared URLs; a failure names what each of them answered."""
    plan = FetchPlan((), (wanted,), ())
    mirrors = places_of(settings.mirrors, only_mirrors=True)
    answers: tuple[tuple[str, str], ...] = ()
    if settings.mirrors:
        report = try_fetch(plan, store, mirrors, reporter=reporter)
        if report.fetched:
            return report
        answers = report.failed[0].answers
    began = time.monotonic()
    try:
        reporter.note(f"fetching {wanted.label} from {wanted.package}, which contains the release")
        _fetch_from_npm(wanted, store)
    except NpuServingError as error:  # whatever npm's registry has: the release itself may still be there
        why = error.what.splitlines()[0]
        reporter.note(f"npm could not fetch it ({why}); fetching it from {wanted.urls[0]}")
        report = try_fetch(plan, store, Places(), reporter=reporter)
        failed = [replace(item, answers=(*answers, (wanted.package, why), *item.answers)) for item in report.failed]
        return replace(report, failed=tuple(failed))
    seconds = time.monotonic() - began
    fetched = report_of(store, wanted, Candidate(wanted.package, "npm"), seconds=seconds)
    return FetchReport((fetched,), (), (), seconds)


def _fetch_from_npm(wanted: WantedFile, store: ContentStore) -> None:
    npm = process.find_program("npm")
    if npm is None:
        raise MissingToolError("npm is not there any more.", cure="install it again")
    with fsutil.scratch_directory(store.partial) as directory:
        environment = process.base_environment(proxies=True)
        package = wanted.package.partition(":")[2]
        process.run([npm, "pack", "--silent", package], cwd=directory, env=environment, timeout_s=900)
        packages = list(directory.glob("*.tgz"))
        if len(packages) != 1:
            raise ProgramError(
                f"npm pack succeeded but made {len(packages)} packages instead of one",
                cure="fetch Bazel from its own release: ./inv fetch-deps on a machine without npm",
            )
        archives.extract(packages[0], directory / "unpacked", strip_prefix="package")
        store.adopt(directory / "unpacked" / wanted.file_name, wanted.sha256)


def _examined(path: Path) -> BazelProgram:
    return BazelProgram(path.absolute(), bazel_version(path), fsutil.sha256_of(path))


def _described(program: BazelProgram) -> str:
    return f"Bazel {program.version}" if program.version else "not Bazel itself"
