"""list-builds: what is in dist/, and whether it fits the CANN that is installed now."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from pathlib import Path

from npu_serving.builds.current import DamagedBuild, of_none, read_builds
from npu_serving.builds.manifest import Build
from npu_serving.builds.verify import Fit, fit_of
from npu_serving.console import amount_text, duration_text, table
from npu_serving.settings import Settings

SECONDS_OF_A_DAY = 86400
DIGITS_OF_A_DIGEST = 12
HEADER = ("", "build", "CANN", "adapter", "runner", "age", "size", "fits the installed CANN?")


@dataclass(frozen=True)
class ListedBuild:
    """A build, its age in seconds (None where the manifest has no time), and how it fits."""

    build: Build
    age_s: float | None
    fit: Fit

    def to_json(self) -> dict[str, object]:
        """The manifest, the size, and how it fits."""
        return {
            **self.build.to_json(),
            "age_s": self.age_s,
            "size_bytes": self.build.size_bytes,
            "fits": self.fit.fits,
            "why": self.fit.why,
        }

    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        manifest = self.build.manifest
        return (
            "*" if self.build.current else "-" if self.build.previous else "",
            manifest.build_id,
            manifest.adapter.get("cann_version", ""),
            manifest.adapter.get("sha256", "")[:DIGITS_OF_A_DIGEST],
            manifest.toolchain.get("runner", ""),
            _age_text(self.age_s),
            amount_text(self.build.size_bytes, "bytes"),
            f"no: {self.fit.why}" if not self.fit.fits else f"yes, {self.fit.why}" if self.fit.why else "yes",
        )


@dataclass(frozen=True)
class BuildList:
    """All builds, the newest first; those whose manifest can't be read are listed as such."""

    builds: tuple[ListedBuild, ...]
    damaged: tuple[DamagedBuild, ...]
    dist_root: Path

    def to_json(self) -> dict[str, object]:
        """All of them."""
        return {
            "builds": [listed.to_json() for listed in self.builds],
            "damaged": [item.to_json() for item in self.damaged],
        }

    def text(self) -> str:
        """A line for each: `*` is the current one, `-` the one that a rollback goes back to."""
        if not self.builds and not self.damaged:
            what, cure = of_none(self.dist_root)
            return f"There is no build in {self.dist_root} yet{what}. Next: {cure}"
        lines = [table([listed.row() for listed in self.builds], header=HEADER)] if self.builds else []
        return "\n".join([*lines, *(f"damaged: {item.directory.name}: {item.why}" for item in self.damaged)])


def list_builds(settings: Settings) -> BuildList:
    """Everything in dist/. Nothing is started: how a build fits is read from its files and CANN's."""
    builds = read_builds(settings.dist_root)
    listed = tuple(ListedBuild(build, _age_s(build), fit_of(build, settings)) for build in builds.sound)
    return BuildList(listed, builds.damaged, settings.dist_root)


def _age_s(build: Build) -> float | None:
    try:
        made = calendar.timegm(time.strptime(build.manifest.created, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None
    return max(0.0, time.time() - made)


def _age_text(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return duration_text(seconds) if seconds < 2 * SECONDS_OF_A_DAY else f"{seconds // SECONDS_OF_A_DAY:.0f} days"
