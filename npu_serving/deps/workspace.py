"""From a serving tree to its lock: every repository that its WORKSPACE declares, and the archives they are made from.

The evaluation is evaluator.py's; here declarations become the lock's types, the way Bazel 0.24.1 sees them: of several
with one name the last one counts.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from npu_serving import fsutil
from npu_serving.console import Reporter, Silent, duration_text
from npu_serving.deps.evaluator import Declaration, Download, Evaluator
from npu_serving.deps.fetch import fetch_file, wanted_from
from npu_serving.deps.lock import SHA256, Archive, Lock, OtherRepository, carry_over, read_lock, write_lock
from npu_serving.deps.starlark_files import ArchiveTree, DirectoryTree, Tree
from npu_serving.deps.store import ContentStore
from npu_serving.deps.tree_facts import VERSION_FILE, WORKSPACE_FILES
from npu_serving.deps.tree_facts import serving_version as version_of_tree
from npu_serving.deps.tree_facts import tensorflow_commit as commit_of_tree
from npu_serving.errors import EXIT_ACTION_NEEDED, SourceError, WorkspaceError

GetArchive = Callable[[Archive], Path]
"""Gives the verified file of an archive, fetched if need be."""

ASSUMED_BAZEL = "0.24.1"
SOURCE_URL = "https://github.com/tensorflow/serving/archive/{version}.tar.gz"
_GIT_RULES = ("git_repository", "new_git_repository")
# The rules of Bazel's own that download, by the attributes that say what: URLs and digest.
_DOWNLOAD_ATTRIBUTES = (
    ("urls", "sha256"),
    ("url", "sha256"),
    ("jar_urls", "jar_sha256"),
    ("srcjar_urls", "srcjar_sha256"),
)


@dataclass(frozen=True)
class LockReport:
    """What lock-deps found. `differences` are between the tree and the lock as it was, a sentence each."""

    path: Path
    lock: Lock
    differences: tuple[str, ...]
    written: bool
    checked_only: bool
    seconds: float

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
            "unpinned": [archive.name for archive in self.lock.archives if archive.sha256 is None],
            "git": [{"name": item.name, "remote": item.remote, "commit": item.commit} for item in _git(self.lock)],
            "others": [item.name for item in self.lock.others if not item.is_git],
            "differences": list(self.differences),
            "written": self.written,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """What a person wants to know."""
        lock = self.lock
        names = len({archive.name for archive in lock.archives})
        lines = [
            f"TensorFlow Serving {lock.serving_version}: {len(lock.archives)} archives of {names} names, "
            f"evaluated in {duration_text(self.seconds)}."
        ]
        unpinned = [archive.name for archive in lock.archives if archive.sha256 is None]
        if unpinned:
            lines.append(f"No sha256 is pinned for: {', '.join(unpinned)}.")
        lines += [f"{item.name} is cloned by git ({item.remote}), which no cache can serve." for item in _git(lock)]
        if not self.differences:
            lines.append(f"{self.path} agrees with the tree.")
        else:
            verb = "differs from the tree" if self.checked_only else "was written; what changed"
            lines.append(f"{self.path} {verb}:")
            lines += [f"  {difference}" for difference in self.differences]
            if self.checked_only:
                lines.append("Next: ./inv lock-deps writes it anew.")
        return "\n".join(lines)


def lock_tree(tree: Path, get_archive: GetArchive, *, known: Lock | None = None, serving_version: str = "") -> Lock:
    """The lock of the serving tree at `tree`. `known` supplies what a tree can't tell: sizes, who needs what.

    `get_archive` is asked for those archives from which further .bzl files are loaded. Raises SourceError when there
    is no WORKSPACE, WorkspaceError when it can't be evaluated, and what `get_archive` raises.
    """
    text, file_name = _workspace_file(tree)
    evaluation = Evaluator(
        DirectoryTree(tree),
        lambda declaration: _files_of(evaluation, declaration, tree, get_archive),
        bazel_version=_bazel_version(tree),
    )
    evaluation.run(text, file_name)
    archives, others = _repositories(evaluation)
    version = serving_version or version_of_tree(tree) or (known.serving_version if known is not None else "")
    if not version:
        raise SourceError(
            f"{tree} does not tell its version: {VERSION_FILE} is missing or of another shape.",
            cause="it is not a TensorFlow Serving tree",
            cure="name the directory of TensorFlow Serving's source",
        )
    lock = Lock(
        serving_version=version,
        tensorflow_commit=commit_of_tree(tree),
        source=_source(version, known),
        archives=archives,
        others=others,
    )
    return carry_over(lock, known) if known is not None else lock


def differences(lock: Lock, tree_lock: Lock) -> tuple[str, ...]:
    """How the lock differs from what the tree declares, a sentence each, sorted by name."""
    found = []
    for field in ("serving_version", "tensorflow_commit"):
        if getattr(lock, field) != getattr(tree_lock, field):
            found.append(f"{field}: the lock has {getattr(lock, field)!r}, the tree {getattr(tree_lock, field)!r}")
    found += _differing(_declared_archives(lock), _declared_archives(tree_lock))
    found += _differing(_declared_others(lock), _declared_others(tree_lock))
    return tuple(found)


def lock_deps(
    tree: Path,
    lock_path: Path,
    store: ContentStore,
    *,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    check: bool = False,
    facts: Lock | None = None,
    reporter: Reporter | None = None,
) -> LockReport:
    """Evaluates the tree and writes its lock to `lock_path`; with `check` only compares.

    What a tree can't tell (sizes, who needs what) is taken from the lock that is there, or from `facts`, another lock
    of the same version. Archives that hold .bzl files come from the store, or are fetched and verified first. Raises
    as lock_tree() does, and LockFileError when there is no lock to check or the one that is there isn't valid.
    """
    said = reporter if reporter is not None else Silent()
    began = time.monotonic()

    def get_archive(archive: Archive) -> Path:
        if archive.sha256 is None:
            raise WorkspaceError(
                f"{archive.name} holds .bzl files that the WORKSPACE loads, but no sha256 is pinned for it.",
                cause="nothing is used unverified",
                cure=f"give it a sha256 in {tree / 'WORKSPACE'}",
            )
        return fetch_file(wanted_from(archive), store, mirrors=mirrors, offline=offline, reporter=said)

    known = read_lock(lock_path) if check or lock_path.exists() else None
    lock = lock_tree(tree, get_archive, known=known if known is not None else facts)
    found = differences(known, lock) if known is not None else (f"it is new, with {len(lock.archives)} archives",)
    written = False if check else write_lock(lock_path, lock)
    return LockReport(lock_path, lock, found, written, check, time.monotonic() - began)


# ---- from the tree


def _workspace_file(tree: Path) -> tuple[str, str]:
    for name in WORKSPACE_FILES:
        if (tree / name).is_file():
            return fsutil.read_text(tree / name).encode("utf-8", "surrogateescape").decode("utf-8", "replace"), name
    raise SourceError(
        f"{tree} holds no file WORKSPACE, so it is not a Bazel tree.",
        cause="it is another directory, or one level too high or too low",
        cure="name the directory that holds WORKSPACE and tensorflow_serving/",
    )


def _bazel_version(tree: Path) -> str:
    """The Bazel that the tree asks for in .bazelversion; 0.24.1, which 1.15.0 is built with, where there is none."""
    file = tree / ".bazelversion"
    version = fsutil.read_text(file).strip().partition("\n")[0].strip() if file.is_file() else ""
    return version if re.fullmatch(r"\d+(\.\d+)+", version) else ASSUMED_BAZEL


def _source(version: str, known: Lock | None) -> Archive:
    if known is not None and known.serving_version == version:
        return known.source
    url = SOURCE_URL.format(version=version)
    return Archive("tf_serving", "source", (url,), None, strip_prefix=f"serving-{version}")


# ---- from declarations to the lock's types


def _repositories(evaluation: Evaluator) -> tuple[tuple[Archive, ...], tuple[OtherRepository, ...]]:
    archives: dict[Archive, None] = {}
    others: dict[OtherRepository, None] = {}
    for declaration in evaluation.declarations:
        shadowed = evaluation.last_declaration(declaration.name) is not declaration
        downloads = _downloads(evaluation, declaration)
        for download in downloads:
            archives[_archive(declaration, download, shadowed=shadowed)] = None
        if not downloads:
            others[_other(declaration, shadowed=shadowed)] = None
    for archive in [item for item in archives if item.shadowed]:  # declared twice in the same words: one file
        if dataclasses.replace(archive, shadowed=False) in archives:
            del archives[archive]
    return tuple(archives), tuple(item for item in others if not (item.shadowed and not item.is_git))


def _downloads(evaluation: Evaluator, declaration: Declaration) -> tuple[Download, ...]:
    """What the declaration downloads: what its implementation asks for, or what its attributes say."""
    if declaration.module:
        found = tuple(item for item in evaluation.downloads_of(declaration) if item.urls)
        if found:
            return found
    attributes = declaration.attributes
    return tuple(
        Download(urls, str(attributes.get(digest_key) or ""), str(attributes.get("strip_prefix") or ""))
        for urls_key, digest_key in _DOWNLOAD_ATTRIBUTES
        if (urls := _texts(attributes.get(urls_key)))
    )[: 1 if declaration.rule.startswith("http") else None]


def _archive(declaration: Declaration, download: Download, *, shadowed: bool) -> Archive:
    attributes = declaration.attributes
    sha256 = download.sha256.lower()
    patches = [*_texts(attributes.get("patch_file")), *_texts(attributes.get("patches"))]
    return Archive(
        name=declaration.name,
        rule=declaration.rule.lstrip("_"),
        urls=download.urls,
        sha256=sha256 if SHA256.fullmatch(sha256) else None,
        strip_prefix=download.strip_prefix,
        build_file=next(iter(_texts(attributes.get("build_file"))), ""),
        patch_files=tuple(patches),
        shadowed=shadowed,
    )


def _other(declaration: Declaration, *, shadowed: bool) -> OtherRepository:
    attributes = declaration.attributes
    is_git = declaration.rule in _GIT_RULES or bool(attributes.get("remote"))
    revision = next((str(attributes[key]) for key in ("commit", "tag", "branch") if attributes.get(key)), "")
    return OtherRepository(
        name=declaration.name,
        rule=declaration.rule.lstrip("_"),
        remote=str(attributes.get("remote") or "") if is_git else "",
        commit=revision if is_git else "",
        shadowed=shadowed,
    )


def _texts(value: Any) -> tuple[str, ...]:
    """An attribute's value as texts: a text, a label, or a list of them."""
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, Mapping):
        return (str(value["_text"]),) if "_text" in value else ()
    if isinstance(value, (list, tuple)):
        return tuple(text for item in value for text in _texts(item))
    return ()


def _files_of(evaluation: Evaluator, declaration: Declaration, tree: Path, get_archive: GetArchive) -> Tree:
    """The files of the repository that a declaration makes."""
    if declaration.rule in ("local_repository", "new_local_repository"):
        return DirectoryTree(tree / str(declaration.attributes.get("path", "")))
    downloads = _downloads(evaluation, declaration)
    if not downloads:
        raise WorkspaceError(
            f"{declaration.name} ({declaration.rule}) holds .bzl files that the WORKSPACE loads, and is no archive.",
            cause="it is cloned by git, or made on the machine where Bazel runs",
            cure="declare it as an http_archive with a sha256",
        )
    archive = _archive(declaration, downloads[0], shadowed=False)
    return ArchiveTree(get_archive(archive), archive.strip_prefix)


# ---- comparing


def _declared_archives(lock: Lock) -> dict[str, object]:
    """What the tree decides about each archive, by a name for messages."""
    return {
        f"{archive.name} ({archive.file_name})": dataclasses.replace(
            archive, size_bytes=None, needed_by=(), only_with=""
        )
        for archive in lock.archives
    }


def _declared_others(lock: Lock) -> dict[str, object]:
    return {other.name: other for other in lock.others}


def _differing(locked: Mapping[str, object], declared: Mapping[str, object]) -> Iterable[str]:
    for name in sorted({*locked, *declared}):
        if name not in declared:
            yield f"{name} is in the lock, but the tree does not declare it"
        elif name not in locked:
            yield f"{name} is declared by the tree, but is not in the lock"
        elif locked[name] != declared[name]:
            fields = [key for key, value in vars(locked[name]).items() if value != vars(declared[name])[key]]
            yield f"{name}: {', '.join(fields)} differ"


def _git(lock: Lock) -> list[OtherRepository]:
    return [other for other in lock.others if other.is_git]
