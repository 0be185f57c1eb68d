"""Declared fixes for newer toolchains (third_party_overlay/patches): chosen, planned, applied.

Edits in Bazel's external/ are lost at the next fetch. So an archive to be fixed is unpacked and edited by us, into a
directory named by the digest of all that goes into it, and Bazel is told to take that (--override_repository): it
never fetches such an archive at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Callable

from npu_serving import archives, fsutil
from npu_serving.documents import Rule, read_document
from npu_serving.errors import PinMismatchError, SourceError
from npu_serving.lock.lockfile import Archive, RepositoryName, Sha256
from npu_serving.settings import PROJECT_ROOT
from npu_serving.version_numbers import version_of

PATCHES_FILE = PROJECT_ROOT / "third_party_overlay" / "patches" / "patches.yaml"
TENSORFLOW = "org_tensorflow"
BUILD_FILE = "BUILD.bazel"
REPOSITORY = "repository"
LAYOUT_VERSION = 1  # part of each digest: what this code makes of an archive

StoredAt = Callable[[Archive], Path]


@dataclass(frozen=True)
class Toolchain:
    """What the build runs with: version numbers such as 2.36 and 12.2.0."""

    glibc: str
    gcc: str


@dataclass(frozen=True)
class Edit:
    """In `file`, `replace` becomes `by`, exactly `count` times."""

    file: str
    replace: str
    by: str
    count: Annotated[int, Rule(minimum=1)]


@dataclass(frozen=True)
class Patch:
    """One fix. It changes files of an archive, or adds flags, or both."""

    id: str
    why: str
    when: Mapping[str, str]
    archive_name: str = ""
    archive_sha256: str = ""
    edits: tuple[Edit, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class _EditedArchive:
    """The archive that the edits of an entry were written for."""

    name: RepositoryName
    sha256: Sha256


@dataclass(frozen=True)
class _PatchEntry:
    """An entry of patches.yaml, whose head says what the keys mean."""

    id: str
    why: str
    when: Mapping[Annotated[str, Rule(pattern="glibc|gcc", expected="glibc or gcc")], str]
    archive: _EditedArchive | None = None
    edits: tuple[Edit, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatchedRepository:
    """An archive to unpack and edit, and the directory that it becomes: `key`, below the plan's root."""

    archive: Archive
    patches: tuple[Patch, ...]
    key: str


@dataclass(frozen=True)
class PatchPlan:
    """What is done for a toolchain. `skipped` are patches whose archive this tree does not have."""

    root: Path
    """The directory of the patched repositories."""
    tree: Path
    stored_at: StoredAt
    patches: tuple[Patch, ...] = ()
    archives: Mapping[str, Archive] = field(default_factory=dict)
    """The archives that the tree declares, by name."""
    skipped: tuple[str, ...] = ()

    @property
    def repositories(self) -> tuple[PatchedRepository, ...]:
        """The archives that are patched. Keys depend on the tree's build files, so they are looked up each time."""
        grouped: dict[str, list[Patch]] = {}
        for patch in self.patches:
            if patch.archive_name:
                grouped.setdefault(patch.archive_name, []).append(patch)
        return tuple(self._repository(self.archives[name], tuple(group)) for name, group in grouped.items())

    @property
    def changes(self) -> tuple[PatchedRepository, ...]:
        """The repositories that aren't there yet."""
        return tuple(item for item in self.repositories if not (self.root / item.key).is_dir())

    def bazel_flags(self, root: Path | None = None) -> tuple[str, ...]:
        """The flags for `bazel build`; `root` is where Bazel sees the patched repositories, if not where we do."""
        base = root if root is not None else self.root
        overrides = [f"--override_repository={i.archive.name}={base / i.key / REPOSITORY}" for i in self.repositories]
        return (*overrides, *(flag for patch in self.patches for flag in patch.flags))

    def to_json(self) -> dict[str, object]:
        """The plan for a manifest: no path of a machine, so that equal builds have equal ones."""
        return {
            "patches": [patch.id for patch in self.patches],
            "repositories": {item.archive.name: item.key for item in self.repositories},
            "skipped": list(self.skipped),
        }

    def _repository(self, archive: Archive, patches: tuple[Patch, ...]) -> PatchedRepository:
        in_tree, in_tensorflow = _build_file_paths(archive.build_file)
        origin: str | None = ""
        if in_tree:
            origin = fsutil.sha256_of(self.tree / in_tree) if (self.tree / in_tree).is_file() else ""
        elif in_tensorflow and TENSORFLOW in self.archives:
            origin = self.archives[TENSORFLOW].sha256
        edits = [dataclasses.astuple(edit) for patch in patches for edit in patch.edits]
        parts = [LAYOUT_VERSION, archive.sha256, archive.strip_prefix, archive.build_file, origin, edits]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return PatchedRepository(archive, patches, f"{archive.name}-{digest[:16]}")


def needed_patches(toolchain: Toolchain) -> tuple[Patch, ...]:
    """The patches whose conditions hold for that toolchain, in the order of the file."""
    return tuple(patch for patch in load_patches() if all(_holds(patch, part, toolchain) for part in patch.when))


def load_patches(path: Path = PATCHES_FILE) -> tuple[Patch, ...]:
    """Every declared patch."""
    return tuple(
        Patch(
            id=entry.id,
            why=entry.why,
            when=entry.when,
            archive_name=entry.archive.name if entry.archive is not None else "",
            archive_sha256=entry.archive.sha256 if entry.archive is not None else "",
            edits=entry.edits,
            flags=entry.flags,
        )
        for entry in read_document(path, tuple[_PatchEntry, ...])
    )


def plan_patches(
    tree: Path, declared: Iterable[Archive], stored_at: StoredAt, root: Path, toolchain: Toolchain
) -> PatchPlan:
    """What that toolchain needs in a tree that declares those archives. Changes nothing, reads no archive.

    `stored_at` says where an archive's bytes are; `root` is the directory for the patched repositories.
    """
    by_name = {archive.name: archive for archive in declared if not archive.shadowed}
    fitting: list[Patch] = []
    skipped: list[str] = []
    for patch in needed_patches(toolchain):
        archive = by_name.get(patch.archive_name)
        if patch.archive_name and (archive is None or archive.sha256 != patch.archive_sha256):
            skipped.append(patch.id)
        else:
            fitting.append(patch)
    return PatchPlan(root, tree, stored_at, tuple(fitting), by_name, tuple(skipped))


def apply_patches(plan: PatchPlan) -> None:
    """Makes the patched repositories that aren't there yet; each appears whole or not at all.

    Raises PinMismatchError for an archive that is not what is pinned, SourceError where an edit does not fit.
    """
    for item in plan.changes:
        stored = _checked(plan, item.archive)
        with fsutil.new_directory(plan.root / item.key) as temporary:
            directory = temporary / REPOSITORY
            archives.extract(stored, directory, strip_prefix=item.archive.strip_prefix)
            if not (directory / "WORKSPACE").exists():
                fsutil.write_file(directory / "WORKSPACE", f'workspace(name = "{item.archive.name}")\n')
            build_file = _build_file(plan, item, temporary)
            if build_file is not None:
                fsutil.write_file(directory / BUILD_FILE, build_file)
            for patch in item.patches:
                for edit in patch.edits:
                    _apply(directory, edit, patch)


def _holds(patch: Patch, part: str, toolchain: Toolchain) -> bool:
    """Whether the toolchain's `part` is as new as the patch says: conditions are written `>=VERSION`."""
    condition = patch.when[part]
    if part not in ("glibc", "gcc") or not condition.startswith(">="):
        raise ValueError(f"patch {patch.id}: a condition must be written >=VERSION, not {part}: {condition}")
    return version_of(getattr(toolchain, part)) >= version_of(condition[2:])


def _build_file_paths(label: str) -> tuple[str, str]:
    """Where a declared build file is: its path in the tree, or in the TensorFlow archive.

    `@//p:f` is the tree's own; a label without a repository stands in a .bzl file of TensorFlow, and means that one.
    """
    found = re.match(rf"(@|@{TENSORFLOW}|)//(.*):(.*)\Z", label)
    if found is None:
        return "", ""
    path = f"{found[2]}/{found[3]}" if found[2] else found[3]
    return (path, "") if found[1] == "@" else ("", path)


def _build_file(plan: PatchPlan, item: PatchedRepository, temporary: Path) -> bytes | None:
    """The bytes of the build file that the tree declares for the archive; None where the archive has its own."""
    in_tree, in_tensorflow = _build_file_paths(item.archive.build_file)
    if in_tree:
        return fsutil.read_text(plan.tree / in_tree).encode("utf-8", "surrogateescape")
    if not in_tensorflow:
        return None
    tensorflow = plan.archives.get(TENSORFLOW)
    if tensorflow is None:
        raise SourceError(
            f"The build file of {item.archive.name} is in TensorFlow, which is not in the lock.",
            cause="the lock was changed by hand, or is for another tree",
            cure="make the lock again: ./inv lock-deps",
        )
    folder, _, name = in_tensorflow.rpartition("/")
    unpacked = temporary / "tensorflow"
    archives.extract(_checked(plan, tensorflow), unpacked, strip_prefix=f"{tensorflow.strip_prefix}/{folder}")
    content = (unpacked / name).read_bytes()
    fsutil.remove(unpacked)
    return content


def _checked(plan: PatchPlan, archive: Archive) -> Path:
    """The archive's file, when it is what is pinned."""
    stored = plan.stored_at(archive)
    if stored.is_file() and fsutil.sha256_of(stored) == archive.sha256:
        return stored
    raise PinMismatchError(
        f"{stored} is not the pinned archive {archive.name}.",
        cause="it was never fetched, or was damaged afterwards",
        cure="fetch it with: ./inv fetch-deps --verify",
    )


def _apply(directory: Path, edit: Edit, patch: Patch) -> None:
    path = directory / edit.file
    text = fsutil.read_text(path) if path.is_file() else ""
    found = text.count(edit.replace)
    if found != edit.count:
        raise SourceError(
            f"{patch.id} does not fit {patch.archive_name}: "
            f"{edit.file} contains {edit.replace!r} {found} times, not {edit.count}.",
            cause="the tree or the TensorFlow archive was changed",
            cure=f"correct the patch in {PATCHES_FILE}",
        )
    fsutil.write_file(path, text.replace(edit.replace, edit.by).encode("utf-8", "surrogateescape"))
