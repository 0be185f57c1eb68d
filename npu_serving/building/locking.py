"""lock-deps: a tree evaluated to its lock, compared with the one that is there, pinned, written where it belongs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.building.inputs import make_sample_archives
from npu_serving.building.loaded_archives import ArchiveSupply
from npu_serving.building.needed_archives import measure_needs
from npu_serving.building.sources import (
    LOCKS,
    NotMeasured,
    ServingSource,
    check_tree,
    lock_command,
    lock_for_tree,
    own_lock_path,
    prepare_source,
    resolve_source,
    state_of,
)
from npu_serving.console import Reporter, Silent, duration_text
from npu_serving.errors import EXIT_ACTION_NEEDED, LockFileError, RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import FetchPlan, fetch_file, plan_fetch, wanted_from
from npu_serving.fetch.importing import import_directory
from npu_serving.fetch.mirrors import Places, places_of
from npu_serving.fetch.pinning import fetch_first
from npu_serving.lock.comparing import UNDECLARED, differences, need_differences
from npu_serving.lock.lockfile import (
    Archive,
    Lock,
    OtherRepository,
    is_shortened,
    read_lock,
    with_known_facts,
    write_lock,
)
from npu_serving.lock.tree_facts import serving_version
from npu_serving.lock.workspace import LockedTree, check_writable
from npu_serving.settings import Settings


def lock_source(
    settings: Settings,
    reporter: Reporter,
    *,
    check: bool = False,
    pin: bool = False,
    needed: bool = False,
    by_hand: Path | None = None,
) -> LockReport:
    """Evaluates the tree and writes its lock; with `check` only reports whether the two agree.

    A tree of the user's gets a lock of its own below build/; what this project ships is renewed for its own sources.
    With `needed`, Bazel is asked which of the archives the server needs on each platform. `by_hand` is a directory in
    which files are that a person fetched.
    """
    _check_request(settings, pin=pin, forbidding=check)
    if by_hand is not None and not by_hand.is_dir():
        raise RequestError(
            f"The directory {by_hand} does not exist.", cure="use --import with the directory that contains the files"
        )
    found = _tree_to_lock(settings, reporter, check=check, by_hand=by_hand)
    report = lock_deps(
        found.tree,
        found.lock_path,
        ContentStore(settings.store_root),
        mirrors=found.mirrors,
        offline=settings.offline,
        check=check,
        pin=pin,
        facts=found.facts,
        by_hand=by_hand,
        named=found.name,
        reporter=reporter,
    )
    return _with_needs(report, found, settings, reporter) if needed else report


def plan_lock(settings: Settings, *, pin: bool = False) -> LockPlan:
    """What lock_source() would do first. Changes nothing but memos, and raises what that raises before it changes any.

    What archives load that have to be fetched is known only once they are here.
    """
    _check_request(settings, pin=pin, forbidding=True)
    found = _named_tree(settings, check=False)
    store = ContentStore(settings.store_root)
    places = places_of(found.mirrors, offline=settings.offline)
    if found.source is not None and found.source.archive is not None and not found.source.is_ready:
        files = [] if found.source.archive_file is not None else [found.source.archive]
        plan = plan_fetch(files, store, places=places)
        plan.refuse_without_places()
        return LockPlan(found.lock_path, plan, "unpack and evaluate the tree")
    known = read_lock(found.lock_path) if found.lock_path.exists() else None
    former = known if known is not None else found.facts
    pins = _Pins(former, store, (), Silent(), fetching=False)
    supply = ArchiveSupply(found.tree, found.name, store, places, Silent(), pins.pinned)
    locked = supply.evaluate(former)
    plan = supply.plan(locked)
    if locked.missing:
        return LockPlan(found.lock_path, plan, "evaluate the WORKSPACE with what they hold")
    return LockPlan(found.lock_path, plan, "", _changes(known, _finished(locked, former, pins, found.tree)))


def _check_request(settings: Settings, *, pin: bool, forbidding: bool) -> None:
    """RequestError for what can't be done, before anything is looked for or made."""
    if pin and (forbidding or settings.offline):
        raise RequestError(
            "--pin cannot be combined with --check, --dry-run or --offline.",
            cause="it fetches archives without a sha256 and writes the lock, which those flags forbid",
            cure="use --pin without them",
        )
    places_of(settings.mirrors, offline=settings.offline)


def check_agreement(source: ServingSource, settings: Settings) -> None:
    """LockFileError where a tree of the user's own declares other archives than the lock that is used for it.

    Nothing is fetched and nothing evaluated where the lock was made from this very state of the tree. Of a tree that
    loads .bzl files from archives that the store lacks, what it declares before them is compared.
    """
    if not source.is_users_own or source.state == source.lock.made_of:
        return
    store = ContentStore(settings.store_root)
    pins = _Pins(source.lock, store, (), Silent(), fetching=False)
    locked = ArchiveSupply(source.tree, source.name, store, Places(), Silent(), pins.pinned).evaluate(source.lock)
    archives = tuple(pins.pinned(archive) for archive in locked.lock.archives)
    lock = with_known_facts(dataclasses.replace(locked.lock, archives=archives), source.lock)
    found = differences(source.lock, lock)
    if locked.missing:
        found = tuple(line for line in found if not line.endswith(UNDECLARED))
    if found:
        shown = "\n".join(f"  {difference}" for difference in found[:10])
        raise LockFileError(
            f"{source.tree} does not match its lock {source.lock_path}:\n{shown}",
            cause="the tree was changed after its lock was made, or has no lock of its own",
            cure=lock_command(source.tree, settings),
        )


@dataclass(frozen=True)
class _TreeToLock:
    tree: Path
    lock_path: Path
    mirrors: tuple[str, ...]
    facts: Lock | None = None
    source: ServingSource | None = None
    """None for a tree of the user's own."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.source.name if self.source is not None else str(self.tree)


def _tree_to_lock(settings: Settings, reporter: Reporter, *, check: bool, by_hand: Path | None = None) -> _TreeToLock:
    """The tree, made or unpacked where it is not the user's own."""
    found = _named_tree(settings, check=check)
    if found.source is None:
        return found
    if found.source.copied_from is not None:
        make_sample_archives(settings)
    else:
        _fetch_tree(found.source, ContentStore(settings.store_root), settings, reporter, by_hand)
    return found


def _named_tree(settings: Settings, *, check: bool) -> _TreeToLock:
    path = Path(settings.source).expanduser().absolute()
    if path.is_dir() and settings.source != "sample":
        check_tree(path)
        lock_path = lock_for_tree(path, settings)[0] if check else own_lock_path(path, settings)
        return _TreeToLock(path, lock_path, settings.mirrors, _shipped_facts(path))
    source = resolve_source(settings)
    mirrors = (*settings.mirrors, *source.mirrors)
    return _TreeToLock(source.copied_from or source.tree, source.lock_path, mirrors, source=source)


def _with_needs(report: LockReport, found: _TreeToLock, settings: Settings, reporter: Reporter) -> LockReport:
    """The report with the needs that Bazel reports; they go into the lock, unless it is only checked."""
    lock = measure_needs(found.tree, report.lock, settings, reporter, mirrors=found.mirrors)
    written = False if report.checked_only else write_lock(report.path, lock)
    return dataclasses.replace(
        report,
        lock=lock,
        differences=(*report.differences, *need_differences(report.lock, lock)),
        written=report.written or written,
        not_measured=NotMeasured(()),
    )


def _fetch_tree(
    source: ServingSource, store: ContentStore, settings: Settings, reporter: Reporter, by_hand: Path | None
) -> None:
    if source.archive is not None and source.archive_file is None and not source.is_ready:
        if by_hand is not None:
            import_directory(by_hand, [source.archive], store, reporter=reporter)
        wanted = wanted_from(source.archive)
        fetch_file(wanted, store, mirrors=settings.mirrors, offline=settings.offline, reporter=reporter)
    prepare_source(source, store)


def _shipped_facts(tree: Path) -> Lock | None:
    """The lock of the same version: it knows what a tree doesn't say, the sizes and who needs what."""
    version = serving_version(tree)
    path = LOCKS / f"serving-{version}.json" if version else LOCKS / "sample.json"
    try:
        return read_lock(path) if path.is_file() else None
    except LockFileError:
        return None


@dataclass(frozen=True)
class LockPlan:
    """What lock-deps would do: fetch something first, `and_then` something that may call for more, or write at once."""

    path: Path
    fetching: FetchPlan
    and_then: str
    changes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """For --dry-run --json."""
        return {
            "lock": str(self.path),
            "fetch": self.fetching.to_json(),
            "and_then": self.and_then,
            "differences": list(self.changes),
        }

    def text(self) -> str:
        """For a person."""
        if self.and_then:
            further = f"Then it would {self.and_then}, fetch what that asks for in turn, and write {self.path}."
            return "\n".join([self.fetching.text(), further])
        if not self.changes:
            return f"{self.path} agrees with the tree; there is nothing to do."
        return "\n".join([f"Would write {self.path}, with these changes:", *(f"  {line}" for line in self.changes)])


@dataclass(frozen=True)
class LockReport:
    """What lock-deps found. `differences` are between the tree and the lock as it was, a sentence each."""

    path: Path
    lock: Lock
    differences: tuple[str, ...]
    written: bool
    checked_only: bool
    seconds: float
    not_measured: NotMeasured

    @property
    def exit_code(self) -> int:
        """3 when a check found that tree and lock disagree."""
        return EXIT_ACTION_NEEDED if self.checked_only and self.differences else 0

    def to_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "lock": str(self.path),
            "serving_version": self.lock.serving_version,
            "tensorflow_commit": self.lock.tensorflow_commit,
            "digest": self.lock.digest,
            "archives": len(self.lock.archives),
            "unpinned": self._unpinned(),
            "pinned_here": [archive.name for archive in self.lock.archives if archive.pinned_here],
            "git": [{"name": item.name, "remote": item.remote, "commit": item.commit} for item in _git(self.lock)],
            "others": [item.name for item in self.lock.others if not item.is_git],
            "differences": list(self.differences),
            "written": self.written,
            "not_measured": list(self.not_measured.names),
            "seconds": round(self.seconds, 3),
        }

    def _unpinned(self) -> list[str]:
        return [archive.name for archive in self.lock.archives if archive.sha256 is None and not archive.shadowed]

    def text(self) -> str:
        """What a person wants to know."""
        lock = self.lock
        names = len({archive.name for archive in lock.archives})
        lines = [
            f"TensorFlow Serving {lock.serving_version}: {len(lock.archives)} archives of {names} names, "
            f"evaluated in {duration_text(self.seconds)}."
        ]
        if self._unpinned():
            lines.append(
                f"No sha256 is pinned for: {', '.join(self._unpinned())}. (--pin fetches them once and pins them.)"
            )
        pinned_here = [archive.name for archive in lock.archives if archive.pinned_here]
        if pinned_here:
            lines.append(
                f"Pinned by --pin, not by the tree: {', '.join(pinned_here)}. Bazel {pinned_bazel()} takes an "
                "archive without a sha256 from no cache: without a network, give the tree the lock's."
            )
        lines += [f"{item.name} is cloned by git ({item.remote}), which no cache can hold." for item in _git(lock)]
        lines += self.not_measured.lines()
        left_out = [archive.name for archive in lock.archives if archive.urls_left_out]
        if left_out:
            lines.append(f"The lock leaves out some of the URLs that the tree declares for: {', '.join(left_out)}.")
        if not self.differences:
            lines.append(f"{self.path} agrees with the tree.")
        else:
            verb = "differs from the tree" if self.checked_only else "was written with these changes"
            lines.append(f"{self.path} {verb}:")
            lines += [f"  {difference}" for difference in self.differences]
            if self.checked_only:
                lines.append("Next: update it with ./inv lock-deps")
        return "\n".join(lines)


def lock_deps(
    tree: Path,
    lock_path: Path,
    store: ContentStore,
    *,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    check: bool = False,
    pin: bool = False,
    facts: Lock | None = None,
    by_hand: Path | None = None,
    named: str = "",
    reporter: Reporter | None = None,
) -> LockReport:
    """Evaluates the tree and writes its lock to `lock_path`; with `check` only compares.

    `named` is what the user calls the tree, where that is not its path.

    What a tree doesn't say (sizes, who needs what) is taken from the lock that is there, or from `facts`, another lock
    of the same version. Archives that hold .bzl files come from the store, or are taken from `by_hand` or fetched, and
    verified, first. With `pin`, archives that the tree gives no sha256 are fetched once, and theirs goes into the lock.
    Raises as lock_tree() and fetch_first() do, and LockFileError when there is no lock to check or the one that is
    there isn't valid.
    """
    said = reporter if reporter is not None else Silent()
    began = time.monotonic()
    known = read_lock(lock_path) if check or lock_path.exists() else None
    former = known if known is not None else facts
    pins = _Pins(former, store, mirrors, said, fetching=pin and not offline)
    places = places_of(mirrors, offline=offline)
    supply = ArchiveSupply(tree, named or str(tree), store, places, said, pins.pinned, by_hand=by_hand, checking=check)
    lock = _finished(supply.evaluate_whole(former), former, pins, tree)
    found = _changes(known, lock)
    written = False if check else write_lock(lock_path, lock)
    users_own = ServingSource(str(tree), tree, lock, lock_path, state=lock.made_of)
    return LockReport(lock_path, lock, found, written, check, time.monotonic() - began, users_own.not_measured())


def _finished(locked: LockedTree, former: Lock | None, pins: _Pins, tree: Path) -> Lock:
    """The lock with what a tree doesn't say."""
    archives = tuple(pins.pinned(archive) for archive in locked.lock.archives)
    lock = dataclasses.replace(locked.lock, archives=archives)
    lock = with_known_facts(lock, former, loaded=locked.loaded) if former is not None else lock
    lock = dataclasses.replace(lock, made_of=state_of(tree))
    check_writable(lock, tree)
    return lock


def _changes(known: Lock | None, lock: Lock) -> tuple[str, ...]:
    return differences(known, lock) if known is not None else (f"it is new, with {len(lock.archives)} archives",)


class _Pins:
    """The digests that the tree does not give: those of the existing lock, and with `fetching` new ones."""

    def __init__(
        self, former: Lock | None, store: ContentStore, mirrors: Sequence[str], reporter: Reporter, *, fetching: bool
    ) -> None:
        self._store = store
        self._mirrors = mirrors
        self._reporter = reporter
        self._fetching = fetching
        of_the_lock = former.archives if former is not None else ()
        self._digests = {(item.name, item.urls): item.sha256 for item in of_the_lock if item.pinned_here}
        self._shortened = [item for item in of_the_lock if item.pinned_here and item.urls_left_out]

    def pinned(self, archive: Archive) -> Archive:
        """The archive with its pin; unchanged where it has one, where none was requested, or where Bazel never takes
        it.
        """
        key = (archive.name, archive.urls)
        if archive.sha256 is not None or archive.shadowed:
            return archive
        for listed in self._shortened:
            if is_shortened(dataclasses.replace(listed, sha256=None), archive):
                self._digests[key] = listed.sha256
        if key not in self._digests and self._fetching:
            self._digests[key] = fetch_first(archive, self._store, mirrors=self._mirrors, reporter=self._reporter)
        sha256 = self._digests.get(key)
        if sha256 is None:
            return archive
        size = self._store.path(sha256).stat().st_size if self._store.has(sha256) else None
        return dataclasses.replace(archive, sha256=sha256, size_bytes=size, pinned_here=True)


def _git(lock: Lock) -> list[OtherRepository]:
    return [other for other in lock.others if other.is_git and not other.shadowed]
