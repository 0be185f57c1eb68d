"""verify-serving: will this server start here, with its adapter, and with the CANN that is installed now?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.build import artifact
from npu_serving.build.artifact import Build
from npu_serving.build.builds import find_build
from npu_serving.build.made_with import settings_of
from npu_serving.cann.install import Adapter, find_adapter, find_installation
from npu_serving.elf.compat import check_server
from npu_serving.elf.report import ERROR, CompatReport
from npu_serving.errors import MissingToolError, NpuServingError, RequestError
from npu_serving.settings import Settings

ADAPTER_SONAME = "_tf_adapter.so"


@dataclass(frozen=True)
class VerifyResult:
    """The report on one server; `installed` is set when the adapter installed now is not the one it was linked with."""

    server: Path
    report: CompatReport
    linked_cann: str = ""
    installed: Adapter | None = None

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done."""
        return 3 if self.installed is not None else self.report.exit_code

    @property
    def headline(self) -> str:
        """The first thing that speaks against it, in a few words."""
        return _headline(self.report)

    def to_json(self) -> dict[str, object]:
        """The report."""
        return {
            "server": str(self.server),
            "linked_with_cann": self.linked_cann,
            "installed_adapter": self.installed.describe() if self.installed else None,
            **self.report.to_json(),
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The findings, then what to do about a CANN that was replaced."""
        lines = [str(self.server), self.report.text()]
        if self.installed is not None:
            lines.append(
                f"It was linked with the adapter of CANN {self.linked_cann}; the one installed now is that of CANN "
                f"{self.installed.cann_version}.\nNext: ./inv rebuild-after-cann"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Fit:
    """Whether a build fits the CANN that is installed now; `why` tells what speaks against it, or what is not known."""

    fits: bool
    why: str = ""


def fit_of(build: Build, settings: Settings) -> Fit:
    """Whether the build would start here, as it is, and carries the adapter of the CANN that is installed.

    Whatever can't be read is an answer as well, so that one damaged build doesn't hide the others.
    """
    try:
        settings = settings_of(build, settings)
        installed = _installed_adapter(settings)
        report = verify_directory(build.directory, _library_path(settings))
    except NpuServingError as error:
        return Fit(False, error.what)
    if not report.ok:
        return Fit(False, _headline(report))
    if installed is None:
        return Fit(True, "as far as can be told without CANN")
    if installed.sha256 != build.manifest.adapter.get("sha256"):
        carried = build.manifest.adapter.get("cann_version") or "another version"
        return Fit(False, f"it carries the adapter of CANN {carried}, installed is {installed.cann_version}")
    return Fit(True)


def verify_build(settings: Settings, name: str = "") -> VerifyResult:
    """The report on a build (the current one by default) with the adapter of the CANN that is installed now.

    Nothing is started. Where no CANN is installed, the build is checked with the adapter it carries.
    """
    build = find_build(settings.dist_root, name)
    settings = settings_of(build, settings)
    library_path = _library_path(settings)
    installed = _installed_adapter(settings)
    replaced = installed is not None and installed.sha256 != build.manifest.adapter.get("sha256")
    adapter = installed.path if installed is not None and replaced else None
    report = verify_directory(build.directory, library_path, adapter)
    return VerifyResult(
        build.server, report, build.manifest.adapter.get("cann_version", ""), installed if replaced else None
    )


def verify_files(settings: Settings, server: Path) -> VerifyResult:
    """The report on any server, with the adapter that the settings name, or the one it would find by itself."""
    adapter = None if settings.adapter == "auto" else find_adapter(settings.adapter, settings.cann_root).path
    if not server.is_file():
        raise RequestError(f"There is no server {server}.", cure="give the path of a tensorflow_model_server")
    report = check_server(server, adapter=adapter, library_path=_library_path(settings))
    return VerifyResult(server, report)


def verify_directory(directory: Path, library_path: Sequence[Path], adapter: Path | None = None) -> CompatReport:
    """The report on a build directory as it stands, with the adapter it carries or with another one in its place."""
    return check_server(
        directory / artifact.SERVER,
        adapter_soname=ADAPTER_SONAME,
        adapter=adapter,
        library_path=tuple(library_path),
        cann_absent=not library_path,
    )


def _headline(report: CompatReport) -> str:
    for finding in report.findings:
        if finding.severity == ERROR:
            return f"{finding.kind}: {', '.join(finding.details[:1]) or finding.subject}"
    return report.verdict


def _library_path(settings: Settings) -> tuple[Path, ...]:
    installation = find_installation(settings.cann_root)
    return installation.library_directories if installation else ()


def _installed_adapter(settings: Settings) -> Adapter | None:
    """The adapter that is installed, or the one that was named; None where none was named and none is installed."""
    try:
        return find_adapter(settings.adapter, settings.cann_root)
    except MissingToolError:
        if settings.adapter == "auto":
            return None
        raise
