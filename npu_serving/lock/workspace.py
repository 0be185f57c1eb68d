"""From a serving tree to its lock: every repository that its WORKSPACE declares, and the archives they are made from.

The evaluation is evaluator.py's; here declarations become the lock's types, the way Bazel 0.24.1 sees them: of several
with one name only one counts.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from npu_serving.errors import SourceError, WorkspaceError
from npu_serving.lock.evaluator import Declaration, Download, Evaluator
from npu_serving.lock.lockfile import SHA256, Archive, Lock, OtherRepository
from npu_serving.lock.starlark_files import ArchiveTree, DirectoryTree, PartOfTree, Tree, WrittenTree
from npu_serving.lock.tree_facts import VERSION_FILE, WORKSPACE_FILES, bazel_version, serving_version, tensorflow_commit

GetArchive = Callable[[Archive], Path]
"""Returns the verified file of an archive, fetched if necessary."""

SOURCE_URL = "https://github.com/tensorflow/serving/archive/{version}.tar.gz"
_GIT_RULES = ("git_repository", "new_git_repository")
# The rules of Bazel's own that download, by the attributes that say what: URLs and digest.
_DOWNLOAD_ATTRIBUTES = (
    ("urls", "sha256"),
    ("url", "sha256"),
    ("artifact_urls", "artifact_sha256"),
    ("jar_urls", "jar_sha256"),
    ("srcjar_urls", "srcjar_sha256"),
)


def lock_tree(tree: Path, get_archive: GetArchive, *, known: Lock | None = None) -> Lock:
    """The lock of the serving tree at `tree`. `known`, a former one, gives version and source where the tree doesn't.

    `get_archive` is asked for those archives from which further .bzl files are loaded. Raises SourceError when there
    is not a WORKSPACE, WorkspaceError when it can't be evaluated, and what `get_archive` raises.
    """
    text, file_name = _workspace_file(tree)
    evaluation = Evaluator(
        DirectoryTree(tree),
        lambda declaration: _files_of(evaluation, declaration, tree, get_archive),
        bazel_version=bazel_version(tree),
    )
    evaluation.run(text, file_name)
    archives, others = _repositories(evaluation)
    version = serving_version(tree) or (known.serving_version if known is not None else "")
    if not version:
        raise SourceError(
            f"Could not find the version of {tree}: {VERSION_FILE} is missing or has no version in it.",
            cause="it is not a TensorFlow Serving tree",
            cure="name the directory of TensorFlow Serving's source",
        )
    return Lock(
        serving_version=version,
        tensorflow_commit=tensorflow_commit(tree),
        source=_source(version, known),
        archives=archives,
        others=others,
    )


# ---- from the tree


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
        Download(urls, _digest_of(attributes, digest_key), str(attributes.get("strip_prefix") or ""))
        for urls_key, digest_key in _DOWNLOAD_ATTRIBUTES
        if (urls := _texts(attributes.get(urls_key)))
    )[: 1 if declaration.rule.startswith("http") else None]


def _digest_of(attributes: Mapping[str, Any], key: str) -> str:
    """The sha256 that attributes give, in hexadecimal or (`integrity`, as in newer trees) as sha256-BASE64."""
    integrity = str(attributes.get("integrity") or "")
    if attributes.get(key) or not integrity.startswith("sha256-"):
        return str(attributes.get(key) or "")
    with contextlib.suppress(ValueError):
        return base64.b64decode(integrity[len("sha256-") :], validate=True).hex()
    return ""


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
    if not downloads and declaration.module:
        outcome = evaluation.outcome_of(declaration)
        if outcome.link.startswith("external/"):
            _, origin, directory = outcome.link.split("/", 2)
            return PartOfTree(evaluation.files_of(origin, declaration.name), directory)
        if outcome.files:
            return WrittenTree(outcome.files, evaluation.read_path)
    if not downloads:
        raise WorkspaceError(
            f"The WORKSPACE loads .bzl files from {declaration.name} ({declaration.rule}), which is not an archive.",
            cause="it is cloned by git, or made on the machine where Bazel runs",
            cure="declare it as an http_archive with a sha256",
        )
    archive = _archive(declaration, downloads[0], shadowed=False)
    return ArchiveTree(get_archive(archive), archive.strip_prefix)
