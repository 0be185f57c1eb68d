"""clean: removes what can be made again, and nothing that this project didn't create."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.prepared import PREPARED
from npu_serving.cann.install import WHEELS
from npu_serving.errors import RequestError, StateLockedError
from npu_serving.serving.server_record import known_servers
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.upgrade.cost import FILE_NAME as TIMES
from npu_serving.upgrade.kit_way import KITS

# What this project makes below a build root. It is a list of what to remove, not of what to keep: with
# `build_root: /data` there are other people's files beside these.
MADE_HERE = (
    "src", "bazel", "links", "logs", "memo", "home", "patched", "needed", "servers", "sample", "demo",
    "reproduce", "tests", "tuning", "compiling", "publishing", ".bundling", PREPARED, WHEELS, KITS, TIMES,
)  # fmt: skip
FETCHED = ("store", "distdir", "locks", "tools", "wheels")
OF_LINKS = ("bazel", "links", KITS)
"""What an upgrade links from."""
_COST = (
    "The builds were linked from what is among these. Without it an upgrade to a CANN whose adapter needs a link "
    "compiles everything again, unless dist/packages has a relink kit of the current build."
)
OF_SERVERS = ("deployments",)
"""Where servers ran: dumps and profiles lie there, which nobody makes again in a minute."""


@dataclass(frozen=True)
class CleanResult:
    """What was, or would be, removed."""

    removed: tuple[Path, ...]
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """The paths."""
        return {"removed": [str(path) for path in self.removed], "dry_run": self.dry_run}

    def text(self) -> str:
        """A line for each path."""
        if not self.removed:
            return "Nothing to remove."
        verb = "would be removed" if self.dry_run else "removed"
        lines = [f"{verb}: {path}" for path in self.removed]
        if any(path.name in OF_LINKS for path in self.removed):
            lines.append(_COST + (" To make one first: ./inv package --format kit" if self.dry_run else ""))
        return "\n".join(lines)


def clean_state(settings: Settings, *, everything: bool, dry_run: bool) -> CleanResult:
    """Removes trees, output, logs and memos below the build root; with `everything` the fetched files too, and
    what the runs of servers have left.

    Never touches dist/: raises RequestError where that lies inside of what is to be removed. StateLockedError while a
    server of `serve` runs.
    """
    root = settings.build_root
    if not root.is_dir():
        return CleanResult((), dry_run)
    with state_lock(root, doing="clean"):
        _refuse_running(root)
        named = [root / name for name in sorted(MADE_HERE + (FETCHED + OF_SERVERS if everything else ()))]
        doomed = [path for path in named if path.exists() or path.is_symlink()]
        for path in doomed:
            _check_apart(settings.dist_root, path)
        if not dry_run:
            for path in doomed:
                fsutil.remove(path)
    return CleanResult(tuple(doomed), dry_run)


def _refuse_running(root: Path) -> None:
    """Refuses where a server runs whose record is below `root`: nobody would find it any more."""
    running = [server for server in known_servers(root) if server.is_running]
    if running:
        raise StateLockedError(
            f"Removed nothing: server {running[0].name} runs ({running[0].describe()}).",
            cause="what is known of it is in the directory that clean empties",
            cure="./inv stop --all",
        )


def _check_apart(dist_root: Path, doomed: Path) -> None:
    """Refuses where the builds are inside `doomed`, by name or by where links lead."""
    places = {
        (Path(os.path.abspath(dist_root)), Path(os.path.abspath(doomed))),
        (dist_root.resolve(), doomed.parent.resolve() / doomed.name),
        (dist_root.resolve(), doomed.resolve()),
    }
    if any(builds == directory or directory in builds.parents for builds, directory in places):
        raise RequestError(
            f"Removed nothing: the finished builds, {dist_root}, are inside {doomed}.",
            cause="dist_root is set to a directory below build_root that clean empties",
            cure=f"move them elsewhere and set dist_root in invoke.yaml to the new place, or remove {doomed} by hand",
        )
