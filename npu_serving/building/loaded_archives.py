"""The archives that a WORKSPACE loads .bzl files from: they are needed before a lock can be made.

What a tree declares is known only when they are here. What one that is missing would do is left out, so that all that
are missing are named at once; what they load in turn comes in the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NoReturn

from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError, WorkspaceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import FetchPlan, plan_fetch, try_fetch, wanted_from
from npu_serving.fetch.importing import import_directory
from npu_serving.fetch.mirrors import Places
from npu_serving.fetch.report import IMPORT_CURE, failure_error, offline_error
from npu_serving.lock.lockfile import Archive, Lock
from npu_serving.lock.workspace import LockedTree, lock_tree
from npu_serving.writers.shell import command_line


@dataclass(frozen=True)
class ArchiveSupply:
    """Where they come from: the store, a directory with files that a person fetched, mirrors and declared URLs."""

    tree: Path
    source: str
    """What the user calls it."""
    store: ContentStore
    places: Places
    reporter: Reporter
    pinned: Callable[[Archive], Archive]
    """The archive with its digest, where the tree gives none and a lock does."""
    by_hand: Path | None = None
    checking: bool = False

    def evaluate(self, known: Lock | None) -> LockedTree:
        """The tree, evaluated with what the store has."""
        return lock_tree(self.tree, self._held, known=known)

    def evaluate_whole(self, known: Lock | None) -> LockedTree:
        """The tree, evaluated again and again while that asks for more archives, until it is known whole.

        Raises FetchError, PinMismatchError or WorkspaceError that names all that are missing by then.
        """
        while True:
            locked = self.evaluate(known)
            if not locked.missing:
                self._import(locked)
                return locked
            self._get(locked)

    def plan(self, locked: LockedTree) -> FetchPlan:
        """What would be fetched next. Raises as evaluate_whole() where it would not be even tried."""
        if locked.missing and not self.places.any:
            self._refuse(locked.missing, None)
        unpinned = [archive for archive in map(self.pinned, locked.missing) if archive.sha256 is None]
        if unpinned and self.pinned(locked.missing[0]).sha256 is None:
            raise self._unpinned_error(unpinned)
        return self._plan(locked.missing)

    def _held(self, declared: Archive) -> Path | None:
        sha256 = self.pinned(declared).sha256
        return self.store.path(sha256) if sha256 is not None and self.store.has(sha256) else None

    def _plan(self, missing: Sequence[Archive]) -> FetchPlan:
        pinned = [archive for archive in map(self.pinned, missing) if archive.sha256 is not None]
        return plan_fetch(pinned, self.store, places=self.places)

    def _get(self, locked: LockedTree) -> None:
        """Imports and fetches them. Only the first one has to come: the others may be asked for only because it is
        missing, and if not, are asked for again.
        """
        strangers = self._import(locked)
        plan, error = self._plan(locked.missing), None
        if plan.missing and self.places.any:
            report = try_fetch(plan, self.store, self.places, reporter=self.reporter)
            error = failure_error(report, offline=self.places.only_local) if report.failed else None
        if self._held(locked.missing[0]) is None:
            self._refuse(locked.missing, error, strangers)

    def _import(self, locked: LockedTree) -> Sequence[Path]:
        """Imports what is declared so far from the directory, and returns the other files there."""
        if self.by_hand is None:
            return ()
        declared = [self.pinned(archive) for archive in (*locked.missing, *locked.lock.archives)]
        lacking = [archive for archive in dict.fromkeys(declared) if self._held(archive) is None]
        found = import_directory(self.by_hand, declared, self.store, needed=(), reporter=self.reporter)
        taken = [archive.name for archive in lacking if self._held(archive) is not None]
        if taken:
            self.reporter.note(f"took {', '.join(taken)} from {self.by_hand}")
        return found.unrecognised

    def _refuse(
        self, missing: Sequence[Archive], failed: NpuServingError | None, strangers: Sequence[Path] = ()
    ) -> NoReturn:
        """Raises the error for those of the `missing` that the store still lacks; `failed` is that of their fetch."""
        lacking = [archive for archive in map(self.pinned, missing) if self._held(archive) is None]
        unpinned = [archive for archive in lacking if archive.sha256 is None]
        pinned = [wanted_from(archive) for archive in lacking if archive.sha256 is not None]
        if not pinned:
            raise self._unpinned_error(unpinned)
        error = failed if failed is not None else offline_error(pinned)
        lines = [error.what]
        for archive in unpinned:
            lines.append(f"  {archive.file_name}  ({archive.name}, for which the tree declares no sha256)")
            lines += [f"      {url}" for url in archive.urls]
        error.what = "\n".join(lines)
        import_them = self._import_cure([archive.name for archive in unpinned])
        if failed is None or self.places.only_local:
            error.cause = "the WORKSPACE loads .bzl files from them, and without those nobody knows what it declares"
            error.cure = f"{import_them}; or fetch them: the same command without --offline"
        else:
            error.cure = error.cure.replace(IMPORT_CURE, import_them)
        if strangers:
            named = ", ".join(path.name for path in strangers[:5]) + (", ..." if len(strangers) > 5 else "")
            error.cause += f"; in {self.by_hand} are other files: {named}"
        raise error

    def _import_cure(self, unpinned: Sequence[str]) -> str:
        offline = ["--offline"] if self.places.only_local else []
        check = ["--check"] if self.checking else []
        where = str(self.by_hand) if self.by_hand is not None else "DIR"
        command = command_line(["./inv", "lock-deps", *offline, "--source", self.source, *check, "--import", where])
        cure = f"download them by hand, under any names, into the directory {where}, then run {command}"
        if unpinned:
            cure += f"; write the sha256 of {', '.join(unpinned)} into the tree first: sha256sum FILE prints it"
        return cure

    def _unpinned_error(self, unpinned: Sequence[Archive]) -> WorkspaceError:
        names = ", ".join(archive.name for archive in unpinned)
        urls = "".join(f"\n  {archive.file_name}  ({archive.name})  {archive.urls[0]}" for archive in unpinned)
        pin = command_line(["./inv", "lock-deps", "--pin", "--source", self.source])
        write = f"write the sha256 of {names} into the tree: sha256sum FILE prints it"
        return WorkspaceError(
            f"The WORKSPACE loads .bzl files from {names}, for which no sha256 is pinned:{urls}",
            cause="the tree declares them without a sha256, and nothing is used unverified",
            cure=write if self.places.only_local else f"{pin}; or {write}",
        )
