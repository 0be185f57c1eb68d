"""Which files a server has loaded of each version: TensorFlow Serving loads none again when its files are replaced.

Names, sizes, times and inodes are compared, as the bytes may be gigabytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.models.layout import version_directories
from npu_serving.serving.asked_models import asked_models, wanted_versions
from npu_serving.serving.server_record import ServerRecord, keep, read_kept

_MOST_FILES = 10_000  # of a version, of which a probe looks at no more


@dataclass(frozen=True)
class LoadedVersions:
    """What the files of the versions were when that process loaded them, by MODEL/VERSION."""

    pid: int
    process_begin: int
    files: Mapping[str, str]


def note_first_versions(build_root: Path, record: ServerRecord) -> None:
    """Keeps what the versions are that the server has just loaded at its start."""
    found = {}
    for model in asked_models(record.argv):
        numbers = wanted_versions(model)
        if numbers:
            there = _versions_in(model.base_path)
            found.update({(model.name, each): there[each] for each in numbers if each in there})
    note_versions(build_root, record, found)


def note_versions(build_root: Path, record: ServerRecord, versions: Mapping[tuple[str, int], Path]) -> None:
    """Keeps what these directories are, which the server has just loaded."""
    known = _known(build_root, record)
    found = {f"{model}/{number}": _fingerprint(path)[0] for (model, number), path in versions.items()}
    if any(known.files.get(name) != digest for name, digest in found.items()):
        keep(_path_of(build_root, record), replace(known, files={**known.files, **found}))


def replaced_versions(
    build_root: Path, record: ServerRecord, available: Iterable[tuple[str, int]]
) -> tuple[tuple[str, int], ...]:
    """Those of the versions which a server answers by whose files are no longer those that it has loaded.

    One that is seen for the first time is kept as it is now, unless it is plain that it was changed after the start: it
    was there before, and a file of it is younger.
    """
    known, found, fresh = _known(build_root, record), [], {}
    bases = {model.name: _versions_in(model.base_path) for model in asked_models(record.argv)}
    for model, number in available:
        path = bases.get(model, {}).get(number)
        if path is None:
            continue
        digest, changed_at = _fingerprint(path)
        loaded = known.files.get(f"{model}/{number}")
        if loaded is None and not _ctime(path) < record.started < changed_at:
            fresh[model, number] = path
        elif loaded != digest:
            found.append((model, number))
    if fresh:
        note_versions(build_root, record, fresh)
    return tuple(found)


def _known(build_root: Path, record: ServerRecord) -> LoadedVersions:
    known = read_kept(_path_of(build_root, record), LoadedVersions)
    if known is not None and (known.pid, known.process_begin) == (record.pid, record.process_begin):
        return known
    return LoadedVersions(record.pid, record.process_begin, {})


def _versions_in(base_path: str) -> dict[int, Path]:
    try:
        return version_directories(Path(base_path)) if base_path.startswith("/") else {}
    except OSError:
        return {}


def _fingerprint(directory: Path) -> tuple[str, float]:
    """What tells these files from others, and when the last of them was changed, in seconds since the epoch."""
    lines, last = [], 0.0
    for place, _, files in fsutil.walk(directory):
        for name in files:
            path = Path(place, name)
            try:
                status = path.stat()
            except OSError:
                continue
            lines.append(f"{path.relative_to(directory)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}")
            last = max(last, status.st_ctime)
        if len(lines) > _MOST_FILES:
            break
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:16], last


def _ctime(path: Path) -> float:
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


def _path_of(build_root: Path, record: ServerRecord) -> Path:
    return build_root / "servers" / f"{record.name}.loaded.json"
