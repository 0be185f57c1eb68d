"""verify-serving: will this server start here, with its adapter, and with the CANN that is installed now?

First whether the build is undamaged (here); then the checks of elf/compat.py, whose findings() lists them in order: the
adapter linked in, the same processor, each library found and new enough, each symbol defined, one std::string, the same
sizes of variables, no stray stub library.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving.builds import manifest
from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.builds.fitting import (
    Needing,
    fit_text,
    fits_of,
    judged_adapters,
    needing_of,
    needs_by_release,
    unread_lists,
)
from npu_serving.builds.manifest import Build, ReleaseFit
from npu_serving.cann.adapter import Adapter, told_apart
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann, cann_of
from npu_serving.cann.link_stubs import link_stub_findings
from npu_serving.cann.operator_list import finding_for, operator_lists
from npu_serving.elf.compat import check_server
from npu_serving.elf.explain import ExplainResult, explain
from npu_serving.elf.loader import library_path_of
from npu_serving.elf.report import NOT_FOUND, UNDEFINED_SYMBOL, CompatReport, finding_json, finding_text
from npu_serving.elf.subject import ServerCase, needed_by_nobody
from npu_serving.elf.symbols import read_elf
from npu_serving.elf.unresolved import RELINK
from npu_serving.errors import (
    EXIT_ACTION_NEEDED,
    ElfError,
    FileAccessError,
    MissingSymbolsError,
    NpuServingError,
    RequestError,
    VerificationError,
)
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.findings import PROBLEM, Finding
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import WITHOUT_ADAPTER, Settings

REBUILD = "./inv rebuild-after-cann"
_OTHER_ADAPTER = "./inv cann-info shows which adapter is installed; it may be for another TensorFlow"


@dataclass(frozen=True)
class VerifyResult:
    """The report on one server; `installed` is set when the adapter installed now is not the one it was linked with."""

    server: Path
    report: CompatReport
    linked: Mapping[str, str] = field(default_factory=dict)
    """The adapter that it was linked with, as its manifest describes it."""
    installed: Adapter | None = None
    about_the_npu: tuple[Finding, ...] = ()
    """What keeps a server that starts from the NPU: CANN's list of operators, stubs in the place of its libraries."""
    releases: tuple[ReleaseFit, ...] = ()
    """How it fits the releases of the adapter that are known; none for a server that is not a build of ours."""
    unread: tuple[Finding, ...] = ()
    """Files of the user's, about further releases, that can't be read."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done."""
        is_needed = self.installed is not None or any(finding.needs_action for finding in self.about_the_npu)
        return EXIT_ACTION_NEEDED if is_needed else self.report.exit_code

    @property
    def headline(self) -> str:
        """The first thing that is wrong with it, in a few words."""
        return _headline(self.report)

    def to_json(self) -> dict[str, object]:
        """The report."""
        return {
            "server": str(self.server),
            "linked_with_cann": self.linked.get("cann_version", ""),
            "installed_adapter": self.installed.describe() if self.installed else None,
            **self.report.to_json(),
            "about_the_npu": [finding_json(finding) for finding in self.about_the_npu],
            "releases": [item.to_json() for item in self.releases],
            "unread_lists": [finding_json(finding) for finding in self.unread],
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The findings, then what to do about a CANN that was replaced."""
        lines = [str(self.server), self.report.text(), *(finding_text(finding) for finding in self.about_the_npu)]
        lines += [*fit_text(self.releases), *(finding_text(finding) for finding in self.unread)]
        if self.installed is not None:
            linked, installed = told_apart(self.linked, self.installed)
            lines.append(f"It was linked with {linked}, but the installed one is {installed}.")
            lines.append(f"Next: {REBUILD}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Fit:
    """Whether a build fits the CANN that is installed now; `why` says what is wrong, or what is not known.

    `cure` is what to type where it does not fit.
    """

    fits: bool
    why: str = ""
    cure: str = ""


WITHOUT_CANN = Fit(True, "as far as can be known without CANN")


def fit_of(build: Build, settings: Settings) -> Fit:
    """Whether the build would start here, as it is, and carries the adapter of the CANN that is installed.

    Whatever can't be read is an answer as well, so that one damaged build doesn't hide the others.
    """
    try:
        cann = cann_of(settings_of(build, settings))
    except NpuServingError as error:
        return _unfit(error)
    return fit_with(build, cann)


def fit_with(build: Build, cann: Cann) -> Fit:
    """The same, with a CANN that was looked for already. The build is judged with the adapter that it will run with:
    its own.
    """
    try:
        installed = cann.adapter_if_installed
        report = verify_directory(build.directory, cann.library_path)
        damaged = build.damaged_file(without=manifest.SERVER)  # which is read for the report as far as a start needs it
    except NpuServingError as error:
        return _unfit(error)
    if build.manifest.without_adapter:
        return Fit(False, "it has no adapter: every model would run on the CPU", "./inv build-serving")
    other = installed if installed is not None and installed.sha256 != build.manifest.adapter.get("sha256") else None
    if not report.fits_where_a_driver_is:
        return Fit(False, _headline(report), REBUILD if other is not None else "./inv verify-serving")
    if damaged:
        return Fit(False, f"its {damaged} was removed or changed since it was built", REBUILD)
    if installed is None:
        return WITHOUT_CANN
    if other is not None:
        carried, here = told_apart(build.manifest.adapter, other)
        return Fit(False, f"it contains {carried}, but {here} is installed", REBUILD)
    return Fit(True, "" if report.ok else "as far as can be known without the NPU driver")


def _unfit(error: NpuServingError) -> Fit:
    return Fit(False, error.what.rstrip("."), error.cure)


def verify_build(settings: Settings, name: str = "") -> VerifyResult:
    """The report on a build (the current one by default) with the adapter of the CANN that is installed now.

    Nothing is started. Where no CANN is installed, the build is checked with the adapter it carries. Raises
    VerificationError for a build that is damaged in a way that the report would not show.
    """
    return verify_found_build(settings, find_build(settings.dist_root, name))


def verify_found_build(settings: Settings, build: Build) -> VerifyResult:
    """The same for a build that was looked for already."""
    case, installed, cann = _build_case(settings, build)
    try:
        report = check_server(case)
    except (ElfError, FileAccessError) as error:
        raise _damaged(build, error.what) from error
    file = build.damaged_file(read_again=True) if report.fits_where_a_driver_is else ""
    if file:  # the loader may find another one, such as CANN's own adapter
        raise _damaged(build, f"its {file} was removed or changed since it was built.")
    has_adapter = not build.manifest.without_adapter
    return VerifyResult(
        case.server,
        report,
        build.manifest.adapter,
        installed,
        _about_the_npu(report, case, cann),
        releases_of(build, settings) if has_adapter else (),
        unread_lists(build.manifest, settings.adapters) if has_adapter else (),
    )


def releases_of(build: Build, settings: Settings) -> tuple[ReleaseFit, ...]:
    """How the build's server fits what is known now, and the files that it was to fit.

    Raises ElfError and FileAccessError where the server can't be read.
    """
    return fits_of(build.server, needs_by_release(judged_adapters(build.manifest, settings.adapters)))


def _damaged(build: Build, why: str) -> VerificationError:
    return VerificationError(
        f"The build {build.directory.name} is damaged: {why}",
        cure=REBUILD + ("" if build.current else f" --build {build.directory.name}"),
    )


def verify_files(settings: Settings, server: Path) -> VerifyResult:
    """The report on any server, with the adapter that the settings name, or the one it would find by itself."""
    case, cann = _files_case(settings, server)
    report = check_server(case)
    return VerifyResult(server, report, about_the_npu=_about_the_npu(report, case, cann))


def explain_symbol(settings: Settings, symbol: str, *, name: str = "", server: Path | None = None) -> ExplainResult:
    """All about one symbol of a build (the current one by default), or of any `server`, with the adapter as above."""
    if server is not None:
        return explain(_files_case(settings, server)[0], symbol)
    return explain(_build_case(settings, find_build(settings.dist_root, name))[0], symbol)


def _build_case(settings: Settings, build: Build) -> tuple[ServerCase, Adapter | None, Cann]:
    """How a build is judged, the adapter that is installed if it isn't the one it was linked with, and CANN."""
    settings = settings_of(build, settings)
    cann = cann_of(settings)
    installed = cann.adapter_if_installed
    is_the_same = installed is not None and installed.sha256 == build.manifest.adapter.get("sha256")
    if is_the_same or build.manifest.without_adapter:
        installed = None
    case = ServerCase(
        build.server,
        adapter=installed.path if installed is not None else None,
        adapter_elf=installed.elf if installed is not None else None,
        library_path=_deployed_library_path(cann),
        cann_absent=not cann.library_path,
        without_adapter=build.manifest.without_adapter,
        former_definers=manifest.read_definers(build.directory),
        needing=needing_of(build.manifest, settings.adapters),
    )
    return case, installed, cann


def _files_case(settings: Settings, server: Path) -> tuple[ServerCase, Cann]:
    if not os.path.exists(server):  # noqa: PTH110 - Path.exists() raises for long names
        raise RequestError(f"The server {server} does not exist.", cure="name an existing tensorflow_model_server")
    named = settings.adapter not in ("auto", WITHOUT_ADAPTER)
    settings = with_sample(settings)
    cann = cann_of(settings)
    adapter = None
    if named:  # "sample" is now the adapter that is found in the sample's CANN
        adapter = cann.adapter if cann.setting == "auto" else cann.named_adapter(digest=False)
    case = ServerCase(
        server,
        adapter=adapter.path if adapter is not None else None,
        adapter_elf=adapter.elf if adapter is not None else None,
        adapter_soname=_needed_as(server, adapter.path) if adapter is not None else ADAPTER_SONAME,
        library_path=_deployed_library_path(cann),
    )
    return case, cann


def _about_the_npu(report: CompatReport, case: ServerCase, cann: Cann) -> tuple[Finding, ...]:
    """What would have a server that starts here run its models on the CPU, or on nothing."""
    findings = link_stub_findings(report.libraries, case.library_path)
    runtime = cann.installation.runtime if cann.installation is not None else None
    if runtime is not None and not case.without_adapter:
        env = cann_environment(cann.installation, os.environ).added_to(os.environ)
        operators = finding_for(operator_lists(env), runtime)
        findings += [operators] if operators is not None else []
    return tuple(findings)


def _needed_as(server: Path, adapter: Path) -> str:
    """The name by which a server asks for an adapter: without a SONAME, the one of the file that it was linked with."""
    needed = read_elf(server).needed
    known = (read_elf(adapter).soname or adapter.name, adapter.name, ADAPTER_SONAME, f"lib{ADAPTER_SONAME}")
    return next((name for name in known if name in needed), known[0])


def verify_directory(
    directory: Path,
    library_path: Sequence[Path],
    adapter: Adapter | None = None,
    *,
    without_adapter: bool = False,
    needing: Needing = needed_by_nobody,
) -> CompatReport:
    """The report on a build directory as it is, with its own adapter or with another one in its place, or without.

    `needing` has the findings name the releases that are known to need a missing symbol.
    """
    return check_server(
        ServerCase(
            directory / manifest.SERVER,
            adapter=adapter.path if adapter is not None else None,
            adapter_elf=adapter.elf if adapter is not None else None,
            library_path=tuple(library_path),
            cann_absent=not library_path,
            without_adapter=without_adapter,
            needing=needing,
        )
    )


def check_directory(
    directory: Path,
    library_path: Sequence[Path],
    *,
    without_adapter: bool = False,
    needing: Needing = needed_by_nobody,
) -> CompatReport:
    """The same, of the build as it is; VerificationError where its server would not run models on the NPU, or, without
    an adapter, not start; MissingSymbolsError where it lacks what its adapter needs of it.
    """
    report = verify_directory(directory, library_path, without_adapter=without_adapter, needing=needing)
    if without_adapter and not report.ok:
        raise VerificationError(
            f"The server for the CPU would not start.\n{report.text()}",
            cure="do what the findings above say, then run the same command again",
        )
    if not report.fits_where_a_driver_is:
        # Of a server that was just linked, "link it again" cures nothing: it leads here again.
        told = replace(report, findings=tuple(map(_without_relink, report.findings)))
        what = f"The new server would not run models on the NPU, so the current build stays.\n{told.text()}"
        cure = "do what the findings above say, then run the same command again"
        lacks = tuple(name for finding in report.findings if _lacks(finding) for name in finding.symbols)
        if lacks:
            raise MissingSymbolsError(what, symbols=lacks, cure=cure)
        raise VerificationError(what, cure=cure)
    return report


def _lacks(finding: Finding) -> bool:
    return finding.severity == PROBLEM and finding.kind == UNDEFINED_SYMBOL


def _without_relink(finding: Finding) -> Finding:
    return replace(finding, cure=_OTHER_ADAPTER) if _lacks(finding) and finding.cure == RELINK else finding


def _headline(report: CompatReport) -> str:
    for finding in report.findings:
        if finding.severity == PROBLEM:
            named = finding.where if finding.kind in NOT_FOUND else ", ".join(finding.details[:1])
            return f"{finding.kind}: {named or finding.where}"
    return report.verdict


def _deployed_library_path(cann: Cann) -> tuple[Path, ...]:
    """LD_LIBRARY_PATH as `serve` sets it: CANN's directories, then what the caller has set."""
    return tuple(dict.fromkeys((*cann.library_path, *library_path_of(os.environ))))
