"""From what an evaluation declared to the lock's types, the way Bazel 0.24.1 sees it: of several with one name only
one counts.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from npu_serving.errors import SourceError, WorkspaceError
from npu_serving.lock.evaluator import Declaration, Download, Evaluator
from npu_serving.lock.lockfile import REPOSITORY_NAME, SHA256, Archive, OtherRepository, url_problem
from npu_serving.lock.starlark_files import ArchiveTree, DirectoryTree, PartOfTree, Tree, WrittenTree
from npu_serving.lock.tree_facts import WORKSPACE_FILES, bazel_version
from npu_serving.shown_text import masked

GetArchive = Callable[[Archive], Optional[Path]]
"""Returns the verified file of an archive, fetched if necessary; None where it is missing."""

_GIT_RULES = ("git_repository", "new_git_repository")
# The rules of Bazel's own that download, by the attributes that say what: URLs and digest.
_DOWNLOAD_ATTRIBUTES = (
    ("urls", "sha256"),
    ("url", "sha256"),
    ("artifact_urls", "artifact_sha256"),
    ("jar_urls", "jar_sha256"),
    ("srcjar_urls", "srcjar_sha256"),
)


@dataclass(frozen=True)
class Declared:
    """What a tree declares. While archives that it loads .bzl files from are `missing`, that is not all of it."""

    archives: tuple[Archive, ...]
    others: tuple[OtherRepository, ...]
    loaded: frozenset[str]
    """The names of the archives that .bzl files are loaded from: Bazel needs them before it knows any target."""
    missing: tuple[Archive, ...] = ()


def evaluate(tree: Path, get_archive: GetArchive, doing: Callable[[str], None] | None = None) -> Declared:
    """Evaluates the WORKSPACE of the tree, in this process; `doing` hears which file or rule it has come to.

    `get_archive` is asked for those archives from which further .bzl files are loaded. Where it has none, what would be
    loaded is taken for functions that do nothing, so that all that are missing come out at once.
    Raises SourceError when there is not a WORKSPACE, WorkspaceError when it can't be evaluated, and what `get_archive`
    raises.
    """
    text, file_name = _workspace_file(tree)
    archives = _LoadedArchives(get_archive)
    evaluation = Evaluator(
        DirectoryTree(tree),
        lambda declaration: _files_of(evaluation, declaration, tree, archives),
        bazel_version=bazel_version(tree),
        doing=doing,
    )
    try:
        evaluation.run(text, file_name)
    except WorkspaceError:
        if not archives.missing:
            raise
    found, others = _repositories(evaluation)
    return Declared(found, others, frozenset(archives.loaded), tuple(archives.missing.values()))


class _LoadedArchives:
    """The archives that .bzl files are loaded from, asked for once each."""

    def __init__(self, get_archive: GetArchive) -> None:
        self._get_archive = get_archive
        self.loaded: set[str] = set()
        self.missing: dict[str, Archive] = {}

    def tree(self, archive: Archive) -> Tree | None:
        self.loaded.add(archive.name)
        path = self._get_archive(archive)
        if path is not None:
            return ArchiveTree(path, archive.strip_prefix)
        self.missing[archive.name] = archive
        return None


def _workspace_file(tree: Path) -> tuple[str, str]:
    for name in WORKSPACE_FILES:
        text = DirectoryTree(tree).read(name)
        if text is not None:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), name
    raise SourceError(
        f"{tree} has no file WORKSPACE, so it is not a Bazel tree.",
        cause="it is the wrong directory, or one level too high or too low",
        cure="name the directory that has WORKSPACE and tensorflow_serving/ in it",
    )


def _repositories(evaluation: Evaluator) -> tuple[tuple[Archive, ...], tuple[OtherRepository, ...]]:
    archives: dict[Archive, None] = {}
    others: dict[OtherRepository, None] = {}
    for declaration in evaluation.declarations:
        shadowed = evaluation.effective_declaration(declaration.name) is not declaration
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
        found = tuple(item for item in evaluation.outcome_of(declaration).downloads if item.urls)
        if found:
            return found
    attributes = declaration.attributes
    return tuple(
        Download(urls, _digest_of(declaration.name, attributes, digest_key), str(attributes.get("strip_prefix") or ""))
        for urls_key, digest_key in _DOWNLOAD_ATTRIBUTES
        if (urls := _texts(attributes.get(urls_key)))
    )[: 1 if declaration.rule.startswith("http") else None]


def _digest_of(name: str, attributes: Mapping[str, Any], key: str) -> str:
    """The sha256 that attributes give, in hexadecimal or (`integrity`, as in newer trees) as sha256-BASE64."""
    integrity = str(attributes.get("integrity") or "")
    if attributes.get(key) or not integrity.startswith("sha256-"):
        return str(attributes.get(key) or "")
    try:
        return base64.b64decode(integrity[len("sha256-") :], validate=True).hex()
    except ValueError as error:
        raise _no_digest(name, integrity, "sha256- and the digest in base64") from error


def _checked_digest(name: str, text: str) -> str | None:
    """The digest in small letters, None where none is declared. One that is mistyped is never taken for none: then
    whatever a network sends would be pinned.
    """
    plain = text.strip().lower()
    if plain and not SHA256.fullmatch(plain):
        raise _no_digest(name, text, "64 hexadecimal digits")
    return plain or None


def _no_digest(name: str, text: str, expected: str) -> WorkspaceError:
    length = f", which has {len(text)} characters" if len(text) != 64 else ""
    return WorkspaceError(
        f"The tree declares {name} with the sha256 {text[:200]!r}{length}; a digest is {expected}.",
        cause="it was mistyped, or cut off when it was copied",
        cure=f"correct the sha256 of {name} in the tree: sha256sum FILE prints that of a file that you trust",
    )


def _checked_urls(name: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        problem = url_problem(url) or ("with a control character in it" if not url.isprintable() else "")
        if problem:
            raise WorkspaceError(
                f"The tree declares {name} with the URL {masked(url)[:500]!r}, {problem}.",
                cause="it was mistyped in the WORKSPACE or in a .bzl file that it loads",
                cure=f"correct the URL of {name} in the tree; it begins with https://, http:// or ftp://",
            )
    return urls


def _checked_name(name: str) -> str:
    if REPOSITORY_NAME.fullmatch(name):
        return name
    raise WorkspaceError(
        f"The tree declares a repository with the name {name[:200]!r}, which Bazel does not take.",
        cause="it was mistyped: a name has letters, digits and _ . + - only, and begins with a letter, a digit or _",
        cure="correct that name in the WORKSPACE or in the .bzl file that declares it",
    )


def _archive(declaration: Declaration, download: Download, *, shadowed: bool) -> Archive:
    attributes = declaration.attributes
    patches = [*_texts(attributes.get("patch_file")), *_texts(attributes.get("patches"))]
    return Archive(
        name=_checked_name(declaration.name),
        rule=declaration.rule.lstrip("_"),
        urls=_checked_urls(declaration.name, download.urls),
        sha256=_checked_digest(declaration.name, download.sha256),
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
        name=_checked_name(declaration.name),
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


def _files_of(evaluation: Evaluator, declaration: Declaration, tree: Path, archives: _LoadedArchives) -> Tree | None:
    """The files of the repository that a declaration makes; None where they are in an archive that is missing."""
    if declaration.rule in ("local_repository", "new_local_repository"):
        return DirectoryTree(tree / str(declaration.attributes.get("path", "")))
    downloads = _downloads(evaluation, declaration)
    if not downloads and declaration.module:
        outcome = evaluation.outcome_of(declaration)
        if outcome.link.startswith("external/"):
            _, origin, directory = outcome.link.split("/", 2)
            whole = evaluation.files_of(origin, declaration.name)
            return None if whole is None else PartOfTree(whole, directory)
        if outcome.files:
            return WrittenTree(outcome.files, evaluation.read_path)
    if not downloads:
        raise WorkspaceError(
            f"The WORKSPACE loads .bzl files from {declaration.name} ({declaration.rule}), which is not an archive.",
            cause="it is cloned by git, or made on the machine where Bazel runs",
            cure="declare it as an http_archive with a sha256",
        )
    return archives.tree(_archive(declaration, downloads[0], shadowed=False))
