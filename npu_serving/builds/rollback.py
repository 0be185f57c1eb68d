"""rollback: another build becomes the current one, at once; nothing is built."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving.builds.current import (
    CURRENT,
    PREVIOUS,
    dist_lock,
    find_build,
    link_target,
    make_current,
    of_none,
    read_builds,
)
from npu_serving.builds.manifest import Build
from npu_serving.builds.verify import WITHOUT_CANN, Fit, fit_of
from npu_serving.errors import RequestError, VerificationError
from npu_serving.settings import Settings

DOING = "rollback"
NOT_JUDGED = "No CANN was found here, so it was not judged whether the server fits it"


@dataclass(frozen=True)
class RollbackResult:
    """Which build is current now, or would be; `former` is the name of the one that was, "" for none."""

    build: Build
    former: str
    fit: Fit
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """Both builds."""
        return {
            "build_id": self.build.manifest.build_id,
            "former": self.former,
            "fits": self.fit.fits,
            "why": self.fit.why,
            "dry_run": self.dry_run,
        }

    def text(self) -> str:
        """What was done, and what to do next: a running server continues with the build it was started from."""
        name = self.build.manifest.build_id
        warning = "" if self.fit.fits else f"\nwarning: {self.fit.why}"
        if self.fit == WITHOUT_CANN:
            warning = f"\nnote: {NOT_JUDGED}; cann_root names one, and --cann-root does for a relink kit"
        if self.former == self.build.directory.name:
            return f"{name} is already current.{warning}"
        if self.dry_run:
            return f"Would switch to {name}.{warning}"
        return f"Switched from {self.former or 'no build'} to {name}.{warning}\nNext: restart the server"


def roll_back(settings: Settings, name: str = "", *, force: bool = False, dry_run: bool = False) -> RollbackResult:
    """Makes a build the current one: the one that was current before it without a name.

    The installed link goes through dist/current, so it follows. Raises RequestError where there is no such build, and
    VerificationError, unless `force` is given, for one that does not fit the CANN that is installed now;
    StateLockedError while another run makes or chooses the current build.
    """
    return switch_back(settings.dist_root, lambda build: fit_of(build, settings), name, force=force, dry_run=dry_run)


def switch_back(
    dist_root: Path, fits: Callable[[Build], Fit], name: str = "", *, force: bool = False, dry_run: bool = False
) -> RollbackResult:
    """The same without settings, for a relink kit; `fits` says whether a build fits the CANN that is installed now."""
    # A dry run leaves nothing behind, not even the lock's file.
    is_free = dry_run or not dist_root.is_dir()
    with contextlib.nullcontext() if is_free else dist_lock(dist_root, doing=DOING):
        return _switched_back(dist_root, fits, name, force=force, dry_run=dry_run)


def _switched_back(
    dist_root: Path, fits: Callable[[Build], Fit], name: str, *, force: bool, dry_run: bool
) -> RollbackResult:
    build = find_build(dist_root, name) if name else _previous(dist_root)
    fit = fits(build)
    damaged = build.damaged_file() if fit.fits else ""
    if damaged:  # a server's code, too, which no verification looks at
        fit = Fit(False, f"its {damaged} was removed or changed since it was built")
    if build.manifest.without_adapter and not force:
        raise VerificationError(
            f"{build.manifest.build_id} has no adapter: every model would run on the CPU.",
            cause="it was linked without one, for trying only",
            cure="choose another one that ./inv list-builds shows; --force switches anyway",
        )
    if not fit.fits and not force:
        raise VerificationError(
            f"{build.manifest.build_id} does not fit the installed CANN: {fit.why}.",
            cause="CANN was replaced since that build was made" if not build.current else "",
            cure="restore the CANN that it was made with (the `latest` links), or run ./inv rebuild-after-cann; "
            "--force switches anyway",
        )
    former = link_target(dist_root, CURRENT)
    if not dry_run:
        make_current(build)
    return RollbackResult(build, former, fit, dry_run)


def _previous(dist_root: Path) -> Build:
    builds = read_builds(dist_root)
    for build in builds.sound:
        if build.previous:
            return build
    name = link_target(dist_root, PREVIOUS)
    if any(item.directory.name == name for item in builds.damaged):
        return find_build(dist_root, name)  # says what is wrong with it
    what = "There is no previous build to go back to"
    if not builds.sound:
        only_objects, cure = of_none(dist_root)
        raise RequestError(f"{what}. There are no builds in {dist_root}{only_objects}.", cure=cure)
    if len(builds.sound) == 1 and builds.sound[0].current:
        raise RequestError(
            f"{what}: {builds.sound[0].manifest.build_id}, the current one, is the only build.",
            cure="./inv verify-serving says whether it fits the CANN that is installed",
        )
    known = "\n".join(f"    {build.manifest.build_id}" for build in builds.sound)
    raise RequestError(f"{what}. The builds are:\n{known}", cure="name one: ./inv rollback --build ID")
