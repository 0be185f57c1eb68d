"""lock-deps: the lock of the source that is set, written where build-serving will look for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.build.inputs import make_sample_archives
from npu_serving.build.needed import measure_needs
from npu_serving.build.sources import (
    LOCKS,
    Source,
    check_tree,
    lock_for_tree,
    own_lock_path,
    prepare_source,
    resolve_source,
)
from npu_serving.console import Reporter
from npu_serving.deps.comparing import need_differences
from npu_serving.deps.fetch import fetch_file, wanted_from
from npu_serving.deps.lock import Lock, read_lock, write_lock
from npu_serving.deps.locking import LockReport, lock_deps
from npu_serving.deps.store import ContentStore
from npu_serving.deps.tree_facts import serving_version
from npu_serving.errors import LockFileError, RequestError
from npu_serving.process import command_line
from npu_serving.settings import Settings


def lock_source(
    settings: Settings, reporter: Reporter, *, check: bool = False, pin: bool = False, needed: bool = False
) -> LockReport:
    """Evaluates the tree and writes its lock; with `check` only tells whether the two agree.

    A tree of the user's gets a lock of its own below build/; what this project ships is renewed for its own sources.
    With `needed`, Bazel is asked which of the archives the server needs on each platform.
    """
    if pin and (check or settings.offline):
        raise RequestError(
            "--pin fetches what has no sha256 and writes the lock; --check, --dry-run and --offline forbid that.",
            cure="give --pin without them",
        )
    found = _tree_to_lock(settings, reporter, check=check)
    report = lock_deps(
        found.tree,
        found.lock_path,
        ContentStore(settings.store_root),
        mirrors=found.mirrors,
        offline=settings.offline,
        check=check,
        pin=pin,
        facts=found.facts,
        reporter=reporter,
    )
    return _with_needs(report, found, settings, reporter) if needed else report


def check_agreement(source: Source, settings: Settings) -> None:
    """LockFileError where a tree declares other archives than the lock that is used for it."""
    report = lock_deps(
        source.tree,
        source.lock_path,
        ContentStore(settings.store_root),
        mirrors=(*settings.mirrors, *source.mirrors),
        offline=settings.offline,
        check=True,
    )
    if report.differences:
        shown = "\n".join(f"  {difference}" for difference in report.differences[:10])
        raise LockFileError(
            f"{source.tree} and {source.lock_path} don't agree:\n{shown}",
            cause="the tree was changed after its lock was made, or has none of its own",
            cure=command_line(["./inv", "lock-deps", "--source", source.tree]),
        )


@dataclass(frozen=True)
class _TreeToLock:
    tree: Path
    lock_path: Path
    mirrors: tuple[str, ...]
    facts: Lock | None = None


def _tree_to_lock(settings: Settings, reporter: Reporter, *, check: bool) -> _TreeToLock:
    path = Path(settings.source).expanduser().absolute()
    if path.is_dir() and settings.source != "sample":
        check_tree(path)
        lock_path = lock_for_tree(path, settings)[0] if check else own_lock_path(path, settings)
        return _TreeToLock(path, lock_path, settings.mirrors, _shipped_facts(path))
    source = resolve_source(settings)
    mirrors = (*settings.mirrors, *source.mirrors)
    if source.copied_from is not None:
        make_sample_archives(settings)
        return _TreeToLock(source.copied_from, source.lock_path, mirrors)
    _bring_tree(source, ContentStore(settings.store_root), settings, reporter)
    return _TreeToLock(source.tree, source.lock_path, mirrors)


def _with_needs(report: LockReport, found: _TreeToLock, settings: Settings, reporter: Reporter) -> LockReport:
    """The report with the needs that Bazel tells; they go into the lock, unless it is only checked."""
    lock = measure_needs(found.tree, report.lock, settings, reporter, mirrors=found.mirrors)
    written = False if report.checked_only else write_lock(report.path, lock)
    return replace(
        report,
        lock=lock,
        differences=(*report.differences, *need_differences(report.lock, lock)),
        written=report.written or written,
    )


def _bring_tree(source: Source, store: ContentStore, settings: Settings, reporter: Reporter) -> None:
    if source.archive is not None and source.archive_file is None and not source.is_ready:
        wanted = wanted_from(source.archive)
        fetch_file(wanted, store, mirrors=settings.mirrors, offline=settings.offline, reporter=reporter)
    prepare_source(source, store)


def _shipped_facts(tree: Path) -> Lock | None:
    """The lock of the same version: it knows what a tree can't tell, the sizes and who needs what."""
    version = serving_version(tree)
    path = LOCKS / f"serving-{version}.json" if version else LOCKS / "sample.json"
    try:
        return read_lock(path) if path.is_file() else None
    except LockFileError:
        return None
