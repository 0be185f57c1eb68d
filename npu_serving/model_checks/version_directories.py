"""The version directories of a model that a server would load, and what is wrong with them.

The rules are those of the server (file_system_storage_path_source.cc).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from npu_serving.findings import NOTE, Finding
from npu_serving.model_checks.naming import BASE_PATH, MODEL_DIRECTORY, Naming, listed
from npu_serving.models.layout import MODEL_LAYOUT, same_versions, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word


def check_versions(
    base: Path, model: str, naming: Naming, *, latest: int = 0, numbers: Collection[int] = ()
) -> Iterator[Finding | tuple[int, Path]]:
    """The directories of the versions that the server would load, and what is wrong with them.

    It loads the `latest` versions, or those of `numbers`; all of them with neither. OSError for what can't be read.
    """
    inside = next((parent for parent in [*base.parents][:2] if is_version(parent)), None)
    if inside is not None:
        what = f"{base} is within the version {inside.name} of a model, and the server would look for versions there"
        yield _base_path(f"{what}: {MODEL_LAYOUT}.", naming, inside.parent)
        return
    if not base.is_dir():
        what = f"{base} is not a directory" if base.exists() else f"The model directory {base} does not exist"
        yield _directory(f"{what}: {MODEL_LAYOUT}.", f"put the model there: {base}/1", naming)
        return
    versions = version_directories(base)
    if holds_model(base):
        what = f"{base} contains a model itself, and the server would wait for versions of it for ever"
        if re.fullmatch("[0-9]+", base.name) is not None:
            yield _base_path(f"{what}: {MODEL_LAYOUT}.", naming, base.parent)
        else:
            instead = f"mkdir {base}/1, and move the model into it"
            yield Finding(f"{what}: {MODEL_LAYOUT}.", instead, kind=BASE_PATH, where=naming.base_path_at)
        return
    if not versions:
        yield from _without_versions(base, naming)
        return
    for number, twice in same_versions(base).items():
        what = f"{base} has the version {number} as {' and '.join(path.name for path in twice)}"
        cure = f"keep one of them, such as {twice[0].name}, and move the other away"
        what += ": the server would load one of them and pass over the other"
        yield Finding(f"{what}.", cure, kind=BASE_PATH, where=naming.base_path_at)
    yield from _chosen(base, versions, model, naming, latest, numbers)


def is_version(directory: Path) -> bool:
    """Whether it is the directory of one version, with a model in it."""
    return re.fullmatch("[0-9]+", directory.name) is not None and holds_model(directory)


def holds_model(directory: Path) -> bool:
    """Whether a SavedModel is in it, in either form."""
    return any((directory / name).is_file() for name in (SAVED_MODEL, SAVED_MODEL_TEXT))


def _chosen(
    base: Path, versions: dict[int, Path], model: str, naming: Naming, latest: int, numbers: Collection[int]
) -> Iterator[Finding | tuple[int, Path]]:
    """Those that the policy chooses of the versions that are there."""
    if latest:
        chosen = sorted(versions)[-latest:]
        if len(chosen) < latest:
            what = f"{base} has {len(chosen)} of the latest {latest} versions of {model} that are to be served."
            yield Finding(what, severity=NOTE, kind=MODEL_DIRECTORY, where=naming.versions_at)
    else:
        chosen = sorted(numbers) if numbers else sorted(versions)
    for number in chosen:
        if number in versions:
            yield number, versions[number]
        else:
            there = listed([str(each) for each in sorted(versions)])
            what = f"{base} has no version {number} of {model}; there are {there}"
            yield _directory(
                f"{what}.", f"put it into {base}/{number}, or {naming.other_version(max(versions))}", naming
            )


def _without_versions(base: Path, naming: Naming) -> Iterator[Finding]:
    """What is meant where a directory has no version: one below it, or another name."""
    below = sorted(child for child in base.iterdir() if child.is_dir() and version_directories(child))
    if below:
        what = f"{base} contains models ({listed([child.name for child in below])}), not the versions of one"
        yield _base_path(f"{what}: {MODEL_LAYOUT}.", naming, below[0])
    else:
        what = f"{base} contains no version directory, so the server would not open its ports"
        others = sorted(child.name for child in base.iterdir() if child.is_dir())
        instead = f"put the model into {base}/1"
        if others:
            what += f", and passes over other names than numbers ({listed([in_a_line(name) for name in others])})"
            instead = f"mv {shell_word(base / others[0])} {shell_word(base / '1')}"
        yield _directory(f"{what}: {MODEL_LAYOUT}.", instead, naming)


def _base_path(what: str, naming: Naming, instead: Path) -> Finding:
    return Finding(what, naming.other_path(instead), kind=BASE_PATH, where=naming.base_path_at)


def _directory(what: str, cure: str, naming: Naming) -> Finding:
    return Finding(what, cure, kind=MODEL_DIRECTORY, where=naming.base_path_at)
