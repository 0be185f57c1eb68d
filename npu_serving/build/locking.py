"""lock-deps: the lock of the source that is set, written where build-serving will look for it."""

from __future__ import annotations

from pathlib import Path

from npu_serving.build.inputs import make_sample_archives
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
from npu_serving.deps.fetch import fetch_file, wanted_from
from npu_serving.deps.lock import Lock, read_lock
from npu_serving.deps.locking import LockReport, lock_deps
from npu_serving.deps.store import ContentStore
from npu_serving.deps.tree_facts import serving_version
from npu_serving.errors import LockFileError, RequestError
from npu_serving.process import command_line
from npu_serving.settings import Settings


def lock_source(settings: Settings, reporter: Reporter, *, check: bool = False, pin: bool = False) -> LockReport:
    """Evaluates the tree and writes its lock; with `check` only tells whether the two agree.

    A tree of the user's gets a lock of its own below build/; what this project ships is renewed for its own sources.
    """
    if pin and (check or settings.offline):
        raise RequestError(
            "--pin fetches what has no sha256 and writes the lock; --check, --dry-run and --offline forbid that.",
            cure="give --pin without them",
        )
    path = Path(settings.source).expanduser().absolute()
    if path.is_dir() and settings.source != "sample":
        return _lock_tree(path, settings, reporter, check=check, pin=pin)
    source = resolve_source(settings)
    store = ContentStore(settings.store_root)
    mirrors = (*settings.mirrors, *source.mirrors)
    if source.copied_from is not None:
        make_sample_archives(settings)
        tree = source.copied_from
    else:
        _bring_tree(source, store, settings, reporter)
        tree = source.tree
    return lock_deps(
        tree,
        source.lock_path,
        store,
        mirrors=mirrors,
        offline=settings.offline,
        check=check,
        pin=pin,
        reporter=reporter,
    )


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


def _lock_tree(tree: Path, settings: Settings, reporter: Reporter, *, check: bool, pin: bool) -> LockReport:
    check_tree(tree)
    lock_path = lock_for_tree(tree, settings)[0] if check else own_lock_path(tree, settings)
    store = ContentStore(settings.store_root)
    return lock_deps(
        tree,
        lock_path,
        store,
        mirrors=settings.mirrors,
        offline=settings.offline,
        check=check,
        pin=pin,
        facts=_shipped_facts(tree),
        reporter=reporter,
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
