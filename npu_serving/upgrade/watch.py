"""rebuild-after-cann --watch: notices that CANN was replaced, waits until its installer has finished, reports or acts.

It polls the state of a few hundred files (no inotify: one that misses nothing on every file system), so it survives
CANN being absent for a while, and notices an adapter that was overwritten in place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Protocol

from npu_serving import fsutil
from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.cann.info_files import matching
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.cann.layout import is_there
from npu_serving.console import Reporter
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError, StateLockedError
from npu_serving.settings import Settings
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import plan_rebuild
from npu_serving.upgrade.wholeness import is_whole

LOOKS_TO_SETTLE = 3
"""How many looks have to show the same before an installation counts as finished."""

FileState = Optional[tuple[str, int, int, int]]


class WatchOutcome(Protocol):
    """What planning and rebuilding return: a result as tasks.py prints it."""

    def to_json(self) -> dict[str, object]:
        """For --json."""

    def text(self) -> str:
        """For a person."""


@dataclass(frozen=True)
class Event:
    """Something that happened, in one line.

    Kinds: watching, changing (an installer is at work), absent, blocked (CANN is there, with problems of its own),
    fits, due (something has to be done), rebuilding, rebuilt, busy (another run has the lock), failed.
    """

    kind: str
    message: str
    exit_code: int = 0
    details: Mapping[str, object] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, object]:
        """The event; `time` is in UTC."""
        return {"event": self.kind, "time": _utc(self.at), "message": self.message, "details": dict(self.details)}

    def text(self) -> str:
        """Time, kind and message in one line."""
        return f"{_utc(self.at)} {self.kind}: {' '.join(self.message.split())}"


@dataclass(frozen=True)
class Look:
    """What one look at the installation showed; two that are equal mean that nothing was written between them."""

    version: str = ""
    files: Mapping[str, FileState] = field(default_factory=dict)
    absent: str = ""
    problems: tuple[str, ...] = ()


def look_at(adapter: str, cann_root: str) -> Look:
    """The state of the installation that these two settings lead to: its links, its info files, its libraries."""
    try:
        installation = find_installation(cann_root)
    except RequestError as error:
        return Look(absent=error.what)
    path = Path(adapter) if adapter != "auto" else installation.adapter if installation is not None else None
    if path is None or not is_there(path):
        return Look(absent="no CANN with an adapter is installed here" if path is None else f"{path} does not exist")
    problems = [finding.what for finding in installation.problems] if installation is not None else []
    if not is_whole(path):
        problems.append(f"{path} is not a complete ELF file.")
    version = installation.version if installation is not None else ""
    return Look(version, dict(_states(path, installation)), "", tuple(problems))


def watch_build(
    settings: Settings, reporter: Reporter, name: str, *, act: bool, once: bool, interval_s: float
) -> Iterator[Event]:
    """The events around a build (the current one by default) and the CANN that its settings lead to.

    `act` rebuilds where something has to be done. Raises RequestError where there is no such build.
    """
    its_own = settings_of(find_build(settings.dist_root, name), settings)

    def rebuild() -> WatchOutcome:
        return rebuild_after_cann(settings, reporter, name)

    return events(
        lambda: look_at(its_own.adapter, its_own.cann_root),
        lambda: plan_rebuild(settings, name),
        rebuild if act else None,
        interval_s=interval_s,
        once=once,
    )


def events(
    look: Callable[[], Look],
    plan: Callable[[], WatchOutcome],
    rebuild: Callable[[], WatchOutcome] | None,
    *,
    interval_s: float,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """What happens to the installation, as it happens, for ever; with `once`, until it has settled and was handled.

    `plan` says whether something has to be done, by an exit_code other than 0; `rebuild` does it, None only reports.
    It is asked for each state that lasted for three looks, the one at the beginning included.
    """
    yield Event("watching", f"checking every {interval_s:g} s; will {'report' if rebuild is None else 'rebuild'}")
    former, equal = look(), 1
    handled: Look | None = None
    announced = False
    while True:
        if former != handled and equal >= LOOKS_TO_SETTLE:
            handled = former
            for event in _deal_with(former, plan, rebuild):
                yield event
            now, announced = look(), False
            if event.kind == "busy":
                handled, equal = None, 0
            elif once and now == handled:
                return
        else:
            sleep(interval_s)
            now = look()
        equal = equal + 1 if now == former else 1
        if now == handled:
            announced = False
        elif now != former and not announced:
            announced = True
            yield Event("changing", _difference(former, now))
        former = now


def _deal_with(
    look: Look, plan: Callable[[], WatchOutcome], rebuild: Callable[[], WatchOutcome] | None
) -> Iterator[Event]:
    if look.absent:
        yield Event("absent", f"{look.absent.rstrip('.')}; waiting", EXIT_ACTION_NEEDED)
        return
    if look.problems:
        message = f"{' '.join(look.problems)} Next: ./inv cann-info"
        yield Event("blocked", message, EXIT_ACTION_NEEDED, {"problems": list(look.problems)})
        return
    try:
        planned = plan()
        code = getattr(planned, "exit_code", 0)
        if code == 0 or rebuild is None:
            yield Event("due" if code else "fits", planned.text(), code, planned.to_json())
            return
        yield Event("rebuilding", planned.text(), 0, planned.to_json())
        done = rebuild()
        yield Event("rebuilt", done.text(), getattr(done, "exit_code", 0), done.to_json())
    except StateLockedError as error:
        yield Event("busy", str(error), error.exit_code, error.to_json())
    except NpuServingError as error:
        yield Event("failed", str(error), error.exit_code, error.to_json())
    except OSError as error:
        refused = fsutil.as_error(error, Path(os.fsdecode(error.filename or "a file")), doing="used")
        yield Event("failed", str(refused), refused.exit_code, refused.to_json())


def _difference(former: Look, now: Look) -> str:
    """What of it changed, for a person: the version, else one of the files."""
    if now.absent or former.absent:
        return now.absent or f"CANN {now.version} was installed"
    if now.version != former.version:
        return f"CANN changed from {former.version} to {now.version}"
    changed = [name for name in {**former.files, **now.files} if former.files.get(name) != now.files.get(name)]
    return f"{len(changed)} files have changed, including {changed[0]}" if changed else "its problems have changed"


def _states(adapter: Path, installation: CannInstallation | None) -> Iterator[tuple[str, FileState]]:
    """The adapter, each component's releases with their files, and the libraries: what moves when CANN is replaced."""
    directories: list[Path] = []
    if installation is not None:
        for item in installation.components:
            directories += [item.path, *item.releases]
        directories += installation.library_directories
    for path in (adapter, *directories):
        yield str(path), _state(path)
    for directory in directories:
        for path in matching(directory, "*"):
            yield str(path), _state(path)


def _state(path: Path) -> FileState:
    """Where a path leads, and what every write or replacement changes: tar and cp -p keep an mtime, not a ctime."""
    try:
        status = path.stat()
    except OSError:
        return None
    return os.path.realpath(path), status.st_ino, status.st_size, status.st_ctime_ns


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
