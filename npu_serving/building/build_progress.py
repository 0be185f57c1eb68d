"""How far a run of Bazel is: counted in its own event log, of what an earlier build or the record took.

Bazel's total is what it knows so far (519, then 3,544, then 4,591 in one build), so its percentage says nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.builds.manifest import Build
from npu_serving.console import Progress, Reporter
from npu_serving.documents import read_document
from npu_serving.errors import FileAccessError
from npu_serving.lock.lockfile import Lock
from npu_serving.overlay.patch_plan import TENSORFLOW
from npu_serving.settings import XLA_FULL

TABLE = Path(__file__).with_name("expected_actions.yaml")
ACTION_EVENT = re.compile(rb'^\{.*"action": ?\{')
"""A line of the event log about an action; a quote within a text of it stands behind a backslash."""
MOST_OF_A_SHARE = 0.99

_PROGRESS = re.compile(r"^\[([\d,]+) / ([\d,]+)\]\s*(?:\[[-\w. ]*\]\s*)?(.*)$")
_LOADING = re.compile(r"^(Loading|Analyzing):\s*(.*)$")
_CACHE_TROUBLE = re.compile(r"^WARNING: (Reading from|Writing to) Remote Cache:")


@dataclass(frozen=True)
class ExpectedActions:
    """A row of expected_actions.yaml."""

    version: str
    tensorflow_commit: str
    xla: str
    actions: int


def expected_actions(builds: Iterable[Build], lock: Lock, flags: tuple[str, ...], patches: object, xla: str) -> int:
    """How many actions a build of everything takes: the most that one of that version and TensorFlow with those flags
    and patches, and as much of XLA, counted here (one that continued has few), else the record's; 0 where nobody knows.
    """
    tensorflow = next((item.sha256 for item in lock.archives if item.name == TENSORFLOW and not item.shadowed), None)
    counted = [
        sum(build.manifest.actions.values())
        for build in builds
        if (build.manifest.serving_version, build.manifest.flags) == (lock.serving_version, flags)
        and (build.manifest.xla or XLA_FULL) == xla
        and build.manifest.archives.get(TENSORFLOW, {}).get("sha256") == tensorflow
        and dict(build.manifest.patches) == patches
    ]
    recorded = [
        row.actions
        for row in read_document(TABLE, tuple[ExpectedActions, ...])
        if (row.version, row.tensorflow_commit, row.xla) == (lock.serving_version, lock.tensorflow_commit, xla)
    ]
    most = max(counted, default=0)
    return most if 2 * most > max(recorded, default=0) else max(recorded, default=0)


class ActionCount:
    """The actions that are done in an output base, over the runs that a kill has parted.

    The count of the latest build is kept beside the event log. Once a build is complete, the next does only what a
    change calls for, which nobody can know before: then `is_whole` is False, and there is no total.
    """

    def __init__(self, events: Path, output_base: Path, command: Sequence[str], *, analysing: bool = False) -> None:
        self._events = events
        self._record = events.parent / "actions.json"
        self._key = hashlib.sha256(json.dumps([str(output_base), *command]).encode()).hexdigest()
        self._analysing = analysing
        self._offset = 0
        self._rest = b""
        self._here = 0
        self._before = 0
        known = self._known()
        if known.get("complete") is False:  # that run never came to say what it did
            known["actions"] += _count(events)
        resumed = known.get("complete") is False and known.get("key") == self._key
        self.is_whole = resumed or not any(output_base.glob("execroot/*/bazel-out"))
        """Whether everything has to be made, now or by the runs before that were ended early."""
        if analysing:
            self._write(known)
        else:
            self._before = known["actions"] if resumed else 0
            self._write({"key": self._key, "complete": not self.is_whole, "actions": self._before})
        fsutil.remove(events)

    @property
    def done(self) -> int:
        """How many are done by now; reads what the event log has gained."""
        try:
            with self._events.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return self._before + self._here
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._here += sum(1 for line in lines if ACTION_EVENT.match(line))
        return self._before + self._here

    def complete(self) -> None:
        """The run has succeeded."""
        if not self._analysing:
            self._write({"key": self._key, "complete": True, "actions": self.done})

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(fsutil.read_text(self._record))
        except (FileAccessError, ValueError):
            return {}
        return known if isinstance(known, dict) and isinstance(known.get("actions"), int) else {}

    def _write(self, record: dict[str, Any]) -> None:
        if record:
            fsutil.write_file(self._record, json.dumps(record))


class BuildWatch:
    """Looks at what Bazel prints and writes, for what the person has to know while it runs."""

    def __init__(self, progress: Progress, reporter: Reporter, count: ActionCount, expected: int) -> None:
        self._progress = progress
        self._reporter = reporter
        self._count = count
        self._expected = expected if count.is_whole else 0
        self._detail = ""
        self._trouble = ""
        self._told: set[str] = set()

    def see(self, line: str) -> None:
        """Passes on what is going on, and the first trouble with reading from and with writing to a cache."""
        if self._trouble:
            self._tell(self._trouble, line.strip())
            self._trouble = ""
        trouble = _CACHE_TROUBLE.match(line)
        if trouble:
            self._trouble = trouble.group(1)
            return
        counted, loading = _PROGRESS.match(line), _LOADING.match(line)
        if counted:
            self._detail = counted.group(3)
            self.look()
        elif loading:
            self._detail = f"{loading.group(1).lower()} {loading.group(2)}"
            self.look()

    def look(self) -> None:
        """Shows how far it is; called every second or so, whether or not Bazel says anything."""
        done = self._count.done
        known = done <= MOST_OF_A_SHARE * self._expected  # a build that takes more than expected has no share to show
        self._progress.update(done, total=float(self._expected if known else 0), detail=self._detail)

    def _tell(self, doing: str, reason: str) -> None:
        """Bazel repeats it for every entry; its log has them all."""
        if doing not in self._told:
            self._told.add(doing)
            verb = "read from" if doing.startswith("Reading") else "written to"
            self._reporter.warn(f"the cache could not be {verb} ({reason}); the build continues without it")


def _count(events: Path) -> int:
    try:
        with events.open("rb") as file:
            return sum(1 for line in file if ACTION_EVENT.match(line))
    except OSError:
        return 0
