"""From a serving tree to its lock: every repository that its WORKSPACE declares, and what they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving.errors import LockFileError, SourceError, WorkspaceError
from npu_serving.lock.confined import evaluate_confined
from npu_serving.lock.lockfile import Archive, Lock, parse_lock, render_lock
from npu_serving.lock.repositories import GetArchive
from npu_serving.lock.tree_facts import VERSION_FILE, serving_version, tensorflow_commit

SOURCE_URL = "https://github.com/tensorflow/serving/archive/{version}.tar.gz"


@dataclass(frozen=True)
class LockedTree:
    """The lock of a tree. While `missing` archives keep .bzl files from being loaded, it is only a part of one."""

    lock: Lock
    loaded: frozenset[str]
    missing: tuple[Archive, ...]


def lock_tree(tree: Path, get_archive: GetArchive, *, known: Lock | None = None) -> LockedTree:
    """The lock of the serving tree at `tree`. `known`, a former one, gives version and source where the tree doesn't.

    `get_archive` is asked for those archives from which further .bzl files are loaded. Raises SourceError when there
    is not a WORKSPACE, WorkspaceError when it can't be evaluated, and what `get_archive` raises.
    """
    declared = evaluate_confined(tree, get_archive)
    version = serving_version(tree) or (known.serving_version if known is not None else "")
    if not version:
        raise SourceError(
            f"Could not find the version of {tree}: {VERSION_FILE} is missing or has no version in it.",
            cause="it is not a TensorFlow Serving tree",
            cure="name the directory of TensorFlow Serving's source",
        )
    lock = Lock(
        serving_version=version,
        tensorflow_commit=tensorflow_commit(tree),
        source=_source(version, known),
        archives=declared.archives,
        others=declared.others,
    )
    return LockedTree(lock, declared.loaded, declared.missing)


def _source(version: str, known: Lock | None) -> Archive:
    if known is not None and known.serving_version == version:
        return known.source
    url = SOURCE_URL.format(version=version)
    return Archive("tf_serving", "source", (url,), None, strip_prefix=f"serving-{version}")


def check_writable(lock: Lock, tree: Path) -> None:
    """WorkspaceError where the tree declares what no lock can hold, said before a file is named that isn't there."""
    try:
        parse_lock(render_lock(lock))
    except LockFileError as error:
        raise WorkspaceError(
            f"{tree} declares something that no lock can hold. In the lock it would be:\n{error.what}",
            cause="a value in the WORKSPACE, or in a .bzl file that it loads, was mistyped",
            cure="correct it in the tree",
        ) from error
