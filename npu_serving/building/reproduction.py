"""build-serving --reproduce: is the server the same bytes, whoever builds it, wherever and whenever?

It is built twice from scratch, at different times, in different directories (with Docker: in two containers), without
a cache, and the finished files are compared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.building import caches
from npu_serving.building.pipeline import build_serving, check_request
from npu_serving.builds.manifest import SERVER, Build
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import EXIT_ACTION_NEEDED, ProgramError
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

DIRECTORY = "reproduce"
PLACES = ("first", "second-in-another-place")
"""Of different length: a path that gets into a file moves everything behind it."""
SHARED = ("store", "tools", "locks")
"""Fetched and verified, so it is the same in any case, and not fetched again."""
DIFFOSCOPE_TIMEOUT_S = 1800


@dataclass(frozen=True)
class ReproducePlan:
    """Where the two builds will be made."""

    places: tuple[Path, ...]

    def to_json(self) -> dict[str, object]:
        """The directories."""
        return {"places": [str(place) for place in self.places]}

    def text(self) -> str:
        """The same, for a person."""
        places = "".join(f"\n    {place}" for place in self.places)
        return f"The server would be built twice from scratch, without a cache, and compared:{places}"


@dataclass(frozen=True)
class ReproduceResult:
    """The sha256 of each finished file in both builds, "" where one has no such file."""

    files: Mapping[str, tuple[str, str]]
    places: tuple[Path, ...]
    report: Path | None
    """What diffoscope says of the first file that differs."""
    seconds: float

    @property
    def differing(self) -> tuple[str, ...]:
        """The files that are not the same."""
        return tuple(name for name, (one, other) in sorted(self.files.items()) if one != other)

    @property
    def exit_code(self) -> int:
        """0, or 3 where something differs."""
        return EXIT_ACTION_NEEDED if self.differing else 0

    def to_json(self) -> dict[str, object]:
        """Every file with both digests."""
        return {
            "reproducible": not self.differing,
            "server_sha256": self.files[SERVER][0] if not self.differing else "",
            "files": {name: list(pair) for name, pair in sorted(self.files.items())},
            "differing": list(self.differing),
            "diffoscope": str(self.report) if self.report else "",
            "places": [str(place) for place in self.places] if self.differing else [],
            "seconds": round(self.seconds, 1),
        }

    def text(self) -> str:
        """One line, or a line for each difference and where to look."""
        took = duration_text(self.seconds)
        if not self.differing:
            return (
                f"Built twice with identical results: {SERVER} and {len(self.files) - 1} libraries ({took}).\n"
                f"sha256 {self.files[SERVER][0]}"
            )
        lines = [f"Built twice, and {len(self.differing)} of {len(self.files)} files differ ({took}):"]
        for name in self.differing:
            lines.append(f"    {name}  {'  '.join(digest[:16] or 'missing' for digest in self.files[name])}")
        lines += [f"Both builds are kept: {self.places[0]} and {self.places[1]}"]
        if self.report is not None:
            lines.append(f"diffoscope's report on the difference: {self.report}")
        else:
            both = command_line([str(place) for place in self.places])
            lines.append(f"Next: see what differs with diffoscope {both} (apt-get install diffoscope)")
        return "\n".join(lines)


def plan(settings: Settings) -> ReproducePlan:
    """Where reproduce() will work; changes nothing, and raises what is wrong with the request."""
    check_request(settings)
    return ReproducePlan(tuple(settings.build_root / DIRECTORY / name for name in PLACES))


def reproduce(settings: Settings, reporter: Reporter) -> ReproduceResult:
    """Builds twice and compares; builds that are the same are removed, others kept to be looked at.

    dist/ stays unchanged. Raises what build_serving() raises.
    """
    started = time.monotonic()
    places = plan(settings).places
    settings = with_sample(settings)  # its adapter and CANN are inputs: the same ones for both
    root = places[0].parent
    with state_lock(settings.build_root, doing="build-serving --reproduce"):
        fsutil.remove(root)
        builds = [_build_in(place, settings, reporter) for place in places]
        files = _compared(builds[0], builds[1])
        result = ReproduceResult(files, places, None, time.monotonic() - started)
        if not result.differing:
            fsutil.remove(root)
            return result
        report = _diffoscope(builds, result.differing[0], root, reporter)
        return replace(result, report=report, seconds=time.monotonic() - started)


def _build_in(place: Path, settings: Settings, reporter: Reporter) -> Build:
    fsutil.make_directory(place)
    for name in SHARED:
        fsutil.make_directory(settings.build_root / name)
        fsutil.point_link(place / name, (settings.build_root / name).absolute())
    reporter.note(f"Building in {place}")
    elsewhere = replace(
        caches.without_caches(settings), build_root=place, dist_root=place / "dist", install_link="", remote_executor=""
    )
    return build_serving(elsewhere, reporter).build


def _compared(one: Build, other: Build) -> dict[str, tuple[str, str]]:
    digests = (one.manifest.files, other.manifest.files)
    return {name: (digests[0].get(name, ""), digests[1].get(name, "")) for name in {**digests[0], **digests[1]}}


def _diffoscope(builds: list[Build], name: str, root: Path, reporter: Reporter) -> Path | None:
    """Diffoscope's report on one file of both builds; None where it isn't installed, or does not finish.

    The comparison of the two builds is reported anyway.
    """
    program = process.find_program("diffoscope")
    if program is None:
        return None
    report = root / "diffoscope.txt"
    try:
        with reporter.progress(f"comparing {name} with diffoscope"):
            process.run(
                [program, "--text", report, *(build.directory / name for build in builds)],
                check=False,  # 1 means that they differ
                timeout_s=DIFFOSCOPE_TIMEOUT_S,
            )
    except ProgramError as error:
        reporter.warn(f"diffoscope failed: {error.what}")
    return report if report.is_file() else None
