"""prune: removes builds that are no longer needed, never one that is in use or that a rollback would go back to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.current import CPU_SERVER, DamagedBuild, link_target, read_builds
from npu_serving.builds.manifest import Build
from npu_serving.console import amount_text
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock

DOOMED = ".pruned"
"""What the name of a directory ends with that is being removed; it begins with a dot, so that it doesn't count as a
build.
"""


@dataclass(frozen=True)
class PruneResult:
    """What was, or would be, removed, and why each of the others stays."""

    removed: tuple[Build, ...]
    kept: tuple[tuple[Build, str], ...]
    damaged: tuple[DamagedBuild, ...]
    freed_bytes: int
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """The names, with the reasons."""
        return {
            "removed": [build.directory.name for build in self.removed],
            "kept": {build.directory.name: why for build, why in self.kept},
            "damaged": [item.to_json() for item in self.damaged],
            "freed_bytes": self.freed_bytes,
            "dry_run": self.dry_run,
        }

    def text(self) -> str:
        """A line for each build."""
        verb = "would be removed" if self.dry_run else "removed"
        lines = [f"{verb}: {build.directory.name}" for build in self.removed]
        lines += [f"kept: {build.directory.name} ({why})" for build, why in self.kept]
        lines += [f"kept: {item.directory.name} (its manifest can't be read)" for item in self.damaged]
        if self.removed:
            lines.append(f"{amount_text(self.freed_bytes, 'bytes')} {'would be ' if self.dry_run else ''}freed")
        return "\n".join(lines or ["There are no builds."])


def prune_builds(settings: Settings, keep: int, *, dry_run: bool = False) -> PruneResult:
    """Removes all but the `keep` newest builds, the current one, the previous one, and those that are running.

    A build vanishes from dist/ in one step, so that a run that is killed leaves no half of one; the next one removes
    what is left of it.
    """
    root = settings.dist_root
    if not root.is_dir():
        return PruneResult((), (), (), 0, dry_run)
    # No build becomes current in between; a dry run leaves nothing behind, not even the lock's file.
    with contextlib.nullcontext() if dry_run else state_lock(root, doing="prune", wait=True):
        builds = read_builds(root)
        reasons = _reasons_to_keep(builds.sound, keep, link_target(root, CPU_SERVER))
        removed = tuple(build for build in builds.sound if build.directory not in reasons)
        freed_bytes = sum(build.size_bytes for build in removed)
        if not dry_run:
            for build in removed:
                with fsutil.explained(build.directory, doing="removed"):
                    build.directory.rename(root / f".{build.directory.name}{DOOMED}")
    if not dry_run:
        for path in root.glob(f".*{DOOMED}"):
            fsutil.remove(path)
    kept = tuple((build, reasons[build.directory]) for build in builds.sound if build.directory in reasons)
    return PruneResult(removed, kept, builds.damaged, freed_bytes, dry_run)


def _reasons_to_keep(builds: tuple[Build, ...], keep: int, cpu_server: str) -> dict[Path, str]:
    in_use = directories_in_use([build.directory for build in builds])
    reasons = {}
    for position, build in enumerate(builds):
        if build.current:
            reasons[build.directory] = "it is current"
        elif build.previous:
            reasons[build.directory] = "a rollback switches to it"
        elif build.directory.name == cpu_server:
            reasons[build.directory] = f"{CPU_SERVER} points to it"
        elif build.directory in in_use:
            reasons[build.directory] = f"process {in_use[build.directory]} is running from it"
        elif position < keep:
            reasons[build.directory] = f"one of the {keep} newest"
    return reasons


def directories_in_use(directories: list[Path]) -> dict[Path, int]:
    """Those of the directories that a process has its program or a library from, with the process's number.

    Processes of other users can't be examined; for them the command line has to do: ./inv serve begins it with the
    server's real path.
    """
    resolved = {os.fsencode(directory.resolve()) + b"/": directory for directory in directories}
    found: dict[Path, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            files = b"\n".join(_files_of(entry))
            for prefix, directory in resolved.items():
                if prefix in files:
                    found.setdefault(directory, int(entry.name))
    return found


def _files_of(process: Path) -> Iterator[bytes]:
    """What names the files of a process: its memory map, its program, the first word of its command line."""
    for name in ("maps", "cmdline"):
        try:
            content = (process / name).read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        yield content.split(b"\0")[0] if name == "cmdline" else content
    try:
        yield os.fsencode(os.readlink(process / "exe"))
    except OSError:
        return
