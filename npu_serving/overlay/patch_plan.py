"""Which of the declared patches a tree gets, which it does not and why, and the repositories that they make.

Edits in Bazel's external/ are lost at the next fetch. So an archive to be fixed is unpacked and edited by us, into a
directory named by the digest of all that goes into it, and Bazel is told to take that (--override_repository): it
never fetches such an archive at all.

A patch is written for the bytes of one archive. Where a tree declares other bytes under that name, its edits are
tried on them: `count` guards each, so either all of them fit and the patch is applied, or it is skipped, by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from npu_serving import archives, fsutil
from npu_serving.errors import NpuServingError, PinMismatchError, SourceError
from npu_serving.findings import NOTE, OK, WARNING, Finding
from npu_serving.lock.lockfile import Archive
from npu_serving.overlay.patches import PATCHES_FILE, Edit, Patch, Toolchain, load_patches, needed_patches
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.writers.shell import command_line

TENSORFLOW = "org_tensorflow"
BUILD_FILE = "BUILD.bazel"
BUILD_FILES = (BUILD_FILE, "BUILD")
REPOSITORY = "repository"
LAYOUT_VERSION = 1  # part of each digest: what this code makes of an archive

# What becomes of a patch that the toolchain calls for.
APPLIED = "applied"
FITTED = "applied-to-other-bytes"
UNTRIED = "not-tried-yet"
SKIPPED = "skipped"
ABSENT = "nothing-to-patch"
_IS_FETCHED = "has been fetched"  # what the patch waits for, if not for the tree

IN_THE_IMAGE = command_line(
    ["./inv", "build-serving", "--runner", "docker", "--base-image", Settings.docker_base_image]
)
"""Where none of them is called for."""

StoredAt = Callable[[Archive], Path]


@dataclass(frozen=True)
class PatchCase:
    """A patch that the toolchain calls for, the archive that it is about, what becomes of it, and why."""

    patch: Patch
    outcome: str
    archive: Archive | None = None
    """What the tree declares under that name."""
    why: str = ""

    @property
    def is_applied(self) -> bool:
        """Whether the build has it."""
        return self.outcome in (APPLIED, FITTED)

    @property
    def is_called_for(self) -> bool:
        """Whether the build asks for the archive that it is about; flags are for the tree itself."""
        return self.outcome != ABSENT

    @property
    def is_worth_telling(self) -> bool:
        """Whether its archive holds other bytes than those that it was written for, or what the tree changes itself."""
        return self.outcome in (FITTED, UNTRIED, SKIPPED)

    def text(self) -> str:
        """What becomes of it, with both digests, in one line."""
        declared = (self.archive.sha256 if self.archive is not None else "") or "not pinned"
        digests = (
            f"the sha256 of {self.patch.archive_name} is {declared} in this tree, "
            f"and {self.patch.archive_sha256} where the patch was written"
        )
        said = {
            FITTED: f"the patch {self.patch.id} is applied to other bytes: {digests}; {self.why}",
            UNTRIED: f"whether the patch {self.patch.id} fits is not known yet: {digests}; {self.why}",
            SKIPPED: f"the patch {self.patch.id} is not applied: {digests}; {self.why}",
        }
        return said.get(self.outcome, f"the patch {self.patch.id}: {self.outcome}")

    def finding(self) -> Finding:
        """The same as a finding."""
        return Finding(
            kind=self.patch.id,
            severity={SKIPPED: WARNING, UNTRIED: NOTE, FITTED: NOTE}.get(self.outcome, OK),
            where=self.patch.archive_name,
            what=self.text(),
            cure=self._cure(),
        )

    def _cure(self) -> str:
        if self.outcome == SKIPPED:
            return _cure_where_skipped()
        return "./inv fetch-deps" if self.outcome == UNTRIED and self.why.endswith(_IS_FETCHED) else ""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "id": self.patch.id,
            "outcome": self.outcome,
            "archive": self.patch.archive_name,
            "declared_sha256": self.archive.sha256 if self.archive is not None else None,
            "written_for_sha256": self.patch.archive_sha256 or None,
            "why": self.why,
        }


@dataclass(frozen=True)
class PatchedRepository:
    """An archive to unpack and edit, and the directory that it becomes: `key`, below the plan's root."""

    archive: Archive
    patches: tuple[Patch, ...]
    key: str


@dataclass(frozen=True)
class PatchPlan:
    """What is done for a toolchain: every patch that it calls for is one of the cases."""

    root: Path
    """The directory of the patched repositories."""
    tree: Path
    stored_at: StoredAt
    cases: tuple[PatchCase, ...] = ()
    archives: Mapping[str, Archive] = field(default_factory=dict)
    """The archives that the tree declares, by name."""

    @property
    def patches(self) -> tuple[Patch, ...]:
        """Those that are applied."""
        return tuple(case.patch for case in self.cases if case.is_applied)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The ids of those that are not."""
        return tuple(case.patch.id for case in self.cases if not case.is_applied)

    @property
    def worth_telling(self) -> tuple[PatchCase, ...]:
        """What a person has to know before a build: each patch whose archive holds other bytes."""
        return tuple(case for case in self.cases if case.is_worth_telling)

    @property
    def is_settled(self) -> bool:
        """Whether all is known; an archive that isn't fetched yet keeps it from that."""
        return all(case.outcome != UNTRIED for case in self.cases)

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

    def cure_of(self, failure: str) -> str:
        """What helps against a known failure of the build that a patch is for; "" for one that none does.

        Typing the same command again helps in no case: what the plan says is what the failed build had.
        """
        concerned = [patch for patch in load_patches() if failure in patch.failures]
        if not concerned:
            return ""
        cases = {case.patch.id: case for case in self.cases}
        called_for = [case for patch in concerned if (case := cases.get(patch.id)) is not None]
        skipped = [case for case in called_for if not case.is_applied and case.is_called_for]
        if skipped:
            return f"{'; '.join(case.text() for case in skipped)}: {_cure_where_skipped()}"
        if called_for:
            said = " and ".join(
                f"{case.patch.id} {'was applied' if case.is_applied else 'has nothing to change in this tree'}"
                for case in called_for
            )
            return (
                f"{said}, so this is another place: declare a patch for the file that the first ERROR names in "
                f"{_patches_file()}, or build where none is called for: {IN_THE_IMAGE}"
            )
        return (
            f"{' and '.join(patch.id for patch in concerned)} is not called for by the versions of this C library and "
            f"compiler, which have the fault all the same: build in a container: {IN_THE_IMAGE}"
        )

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


def plan_patches(
    tree: Path,
    declared: Iterable[Archive],
    stored_at: StoredAt,
    root: Path,
    toolchain: Toolchain,
    *,
    needed: Collection[str] | None = None,
) -> PatchPlan:
    """What that toolchain needs in a tree that declares those archives. Changes nothing.

    `stored_at` says where an archive's bytes are; `root` is the directory for the patched repositories; `needed` has
    the names of the archives that the build asks for, None for all. An archive is read only where its bytes are other
    ones than a patch was written for.
    """
    by_name = {archive.name: archive for archive in declared if not archive.shadowed}
    asked_for = by_name if needed is None else {name: by_name[name] for name in by_name if name in needed}
    patches = needed_patches(toolchain)
    plan = PatchPlan(root, tree, stored_at, archives=by_name)
    trials = {
        name: _Trial(plan, asked_for[name], [patch for patch in patches if patch.archive_name == name])
        for name in dict.fromkeys(patch.archive_name for patch in patches)
        if name in asked_for
    }
    cases = (
        PatchCase(patch, APPLIED)
        if not patch.archive_name
        else trials[patch.archive_name].case(patch)
        if patch.archive_name in trials
        else PatchCase(patch, ABSENT)
        for patch in patches
    )
    return dataclasses.replace(plan, cases=tuple(cases))


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
            build_file = _build_file(plan, item.archive)
            if build_file is not None:
                fsutil.write_file(directory / BUILD_FILE, build_file)
            for patch in item.patches:
                for edit in patch.edits:
                    _apply(directory, edit, patch)


class _Trial:
    """The patches of one archive, and what becomes of each; the archive is read once, if at all."""

    def __init__(self, plan: PatchPlan, archive: Archive, patches: Sequence[Patch]) -> None:
        self._plan = plan
        self._archive = archive
        self._cases: dict[str, PatchCase] = {}
        lost = self._lost()
        others = [patch for patch in patches if patch.archive_sha256 != archive.sha256]
        hindrance = (SKIPPED, lost) if lost else self._not_yet() if others else None
        texts = self._texts(patches) if others and hindrance is None else {}
        for patch in patches:
            if patch not in others and not lost:
                self._cases[patch.id] = PatchCase(patch, APPLIED, archive)
            else:
                outcome, why = hindrance if hindrance is not None else _tried(patch, texts)
                self._cases[patch.id] = PatchCase(patch, outcome, archive, why)

    def case(self, patch: Patch) -> PatchCase:
        """What becomes of it."""
        return self._cases[patch.id]

    def _lost(self) -> str:
        """What of the tree's own making would be lost if Bazel were given a directory in place of the archive."""
        archive = self._archive
        if archive.patch_files:
            return f"the tree patches it itself ({', '.join(archive.patch_files)}), which would be lost"
        if archive.build_file and not any(_build_file_paths(archive.build_file)):
            return f"its build file {archive.build_file} is in a repository that is not looked into"
        return ""

    def _not_yet(self) -> tuple[str, str] | None:
        """Why nothing can be tried on the archive, now or ever, with what becomes of its patches then."""
        archive, plan = self._archive, self._plan
        if archive.sha256 is None:
            return SKIPPED, "nothing unpinned is unpacked"
        in_tree, in_tensorflow = _build_file_paths(archive.build_file)
        if in_tree and not plan.tree.is_dir():
            return UNTRIED, "it is tried as soon as the tree is there"
        tensorflow = plan.archives.get(TENSORFLOW) if in_tensorflow else None
        for item in (archive, *([tensorflow] if tensorflow is not None else [])):
            if not _is_there(plan, item):
                return UNTRIED, f"it is tried as soon as {item.name} {_IS_FETCHED}"
        return None

    def _texts(self, patches: Sequence[Patch]) -> dict[str, str] | str:
        """The files that any of the patches is about, and the build file; a reason where they can't be read."""
        names = {edit.file for patch in patches for edit in patch.edits}
        stored = self._plan.stored_at(self._archive)
        try:
            found = archives.read_files(stored, {*names, *BUILD_FILES}, strip_prefix=self._archive.strip_prefix)
            build_file = _build_file(self._plan, self._archive)
        except NpuServingError as error:
            return error.what.rstrip(".")
        if build_file is not None:
            found[BUILD_FILE] = build_file
        if not any(name in found for name in BUILD_FILES):
            return "the tree writes its build file itself, which would be lost"
        return {name: data.decode("utf-8", "surrogateescape") for name, data in found.items()}


def _tried(patch: Patch, texts: dict[str, str] | str) -> tuple[str, str]:
    """Whether all edits fit; only then they stay in `texts`."""
    if isinstance(texts, str):
        return SKIPPED, texts
    if not any(edit.replace in texts.get(edit.file, "") for edit in patch.edits):
        return SKIPPED, "none of the texts that it changes is there, so the fault may not be there either"
    edited = dict(texts)
    for edit in patch.edits:
        misfit = _misfit(edited.get(edit.file, ""), edit)
        if misfit:
            return SKIPPED, misfit
        edited[edit.file] = edited[edit.file].replace(edit.replace, edit.by)
    texts.update(edited)
    return FITTED, f"{'its edit fits' if len(patch.edits) == 1 else f'its {len(patch.edits)} edits fit'} there"


def _build_file_paths(label: str) -> tuple[str, str]:
    """Where a declared build file is: its path in the tree, or in the TensorFlow archive.

    `@//p:f` is the tree's own; a label without a repository stands in a .bzl file of TensorFlow, and means that one.
    """
    found = re.match(rf"(@|@{TENSORFLOW}|)//(.*):(.*)\Z", label)
    if found is None:
        return "", ""
    path = f"{found[2]}/{found[3]}" if found[2] else found[3]
    return (path, "") if found[1] == "@" else ("", path)


def _build_file(plan: PatchPlan, archive: Archive) -> bytes | None:
    """The bytes of the build file that the tree declares for the archive; None where the archive has its own."""
    in_tree, in_tensorflow = _build_file_paths(archive.build_file)
    if in_tree:
        return fsutil.read_text(plan.tree / in_tree).encode("utf-8", "surrogateescape")
    if not in_tensorflow:
        return None
    tensorflow = plan.archives.get(TENSORFLOW)
    if tensorflow is None:
        raise SourceError(
            f"The build file of {archive.name} is in TensorFlow, which is not in the lock.",
            cause="the lock was changed by hand, or is for another tree",
            cure="make the lock again: ./inv lock-deps",
        )
    stored = _checked(plan, tensorflow)
    found = archives.read_files(stored, {in_tensorflow}, strip_prefix=tensorflow.strip_prefix)
    if in_tensorflow not in found:
        raise SourceError(
            f"The build file of {archive.name}, {in_tensorflow}, is not in the archive of TensorFlow.",
            cause="the lock was changed by hand, or is for another tree",
            cure="make the lock again: ./inv lock-deps",
        )
    return found[in_tensorflow]


def _is_there(plan: PatchPlan, archive: Archive) -> bool:
    stored = plan.stored_at(archive)
    return stored.is_file() and fsutil.sha256_of(stored) == archive.sha256


def _checked(plan: PatchPlan, archive: Archive) -> Path:
    """The archive's file, when it is what is pinned."""
    if _is_there(plan, archive):
        return plan.stored_at(archive)
    raise PinMismatchError(
        f"{plan.stored_at(archive)} is not the pinned archive {archive.name}.",
        cause="it was never fetched, or was damaged afterwards",
        cure="fetch it with: ./inv fetch-deps --verify",
    )


def _misfit(text: str, edit: Edit) -> str:
    """Why an edit does not fit a text, or ""."""
    found = text.count(edit.replace)
    return "" if found == edit.count else f"{edit.file} contains {edit.replace!r} {found} times, not {edit.count}"


def _apply(directory: Path, edit: Edit, patch: Patch) -> None:
    path = directory / edit.file
    text = fsutil.read_text(path) if path.is_file() else ""
    misfit = _misfit(text, edit)
    if misfit:
        raise SourceError(
            f"{patch.id} does not fit {patch.archive_name}: {misfit}.",
            cause="the tree or the TensorFlow archive was changed",
            cure=f"correct the patch in {PATCHES_FILE}",
        )
    fsutil.write_file(path, text.replace(edit.replace, edit.by).encode("utf-8", "surrogateescape"))


def _cure_where_skipped() -> str:
    return f"write it for these bytes in {_patches_file()}, or build where none is called for: {IN_THE_IMAGE}"


def _patches_file() -> str:
    return str(PATCHES_FILE.relative_to(PROJECT_ROOT))
