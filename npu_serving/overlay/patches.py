"""Declared fixes for newer toolchains (third_party_overlay/patches): what each changes, and when it is called for.

patch_plan.py says which of them a tree gets, and applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from npu_serving.documents import Rule, read_document
from npu_serving.lock.lockfile import RepositoryName, Sha256
from npu_serving.settings import PROJECT_ROOT
from npu_serving.version_numbers import version_of

PATCHES_FILE = PROJECT_ROOT / "third_party_overlay" / "patches" / "patches.yaml"


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
    failures: tuple[str, ...] = ()
    """The known failures of a build that are seen where it is missing, by their id."""


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
    failures: tuple[str, ...] = ()


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
            failures=entry.failures,
        )
        for entry in read_document(path, tuple[_PatchEntry, ...])
    )


def _holds(patch: Patch, part: str, toolchain: Toolchain) -> bool:
    """Whether the toolchain's `part` is as new as the patch says: conditions are written `>=VERSION`."""
    condition = patch.when[part]
    if part not in ("glibc", "gcc") or not condition.startswith(">="):
        raise ValueError(f"patch {patch.id}: a condition must be written >=VERSION, not {part}: {condition}")
    return version_of(getattr(toolchain, part)) >= version_of(condition[2:])
