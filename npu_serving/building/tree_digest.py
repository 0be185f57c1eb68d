"""The digest of a source tree, over what its files hold; a memo of their stat makes the second look cheap."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import SourceError

IGNORED = frozenset({".git", "__pycache__", ".npu-serving"})


def tree_digest(tree: Path, memo_path: Path | None = None, *, without: str = "") -> str:
    """The sha256 over names, kinds, execute bits and contents of everything in `tree`, whatever the times.

    `without` names a directory of the tree that doesn't count. `memo_path` keeps what each file held when its size,
    time of change and inode were last seen; without one, every file is read. SourceError for a pipe, socket or device
    in the tree, FileAccessError for what can't be read.
    """
    memo = _read_memo(memo_path) if memo_path is not None else {}
    seen: dict[str, list[object]] = {}
    digest = hashlib.sha256()
    with fsutil.explained(tree, doing="read"):
        for path in _walk(tree):
            name = path.relative_to(tree).as_posix()
            if path.is_symlink():
                kind, content = "link", os.readlink(path)
            else:
                status = path.lstat()
                _check_kind(path, status.st_mode)
                stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
                known = memo.get(name)
                content = str(known[1]) if known and known[0] == stamp else fsutil.sha256_of(path)
                seen[name] = [stamp, content]
                kind = "program" if status.st_mode & 0o100 else "file"
            if without and name.startswith(f"{without}/"):
                continue
            digest.update(json.dumps([name, kind, content]).encode("utf-8", "surrogateescape"))
    if memo_path is not None and seen != memo:
        fsutil.write_file(memo_path, json.dumps(seen))
    return digest.hexdigest()


def _walk(tree: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise fsutil.as_error(error, Path(error.filename or tree), doing="read") from error

    for directory, names, files in fsutil.walk(tree, onerror=refuse):
        names[:] = sorted(name for name in names if name not in IGNORED)
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]  # noqa: PTH114, PTH118
        for name in sorted([*files, *links]):
            yield Path(directory) / name


def _read_memo(path: Path) -> dict[str, list[object]]:
    with contextlib.suppress(OSError, ValueError):
        memo = json.loads(path.read_bytes())
        if isinstance(memo, dict):
            return {name: entry for name, entry in memo.items() if _is_entry(entry)}
    return {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)


def _check_kind(path: Path, mode: int) -> None:
    """Bazel builds from files; reading a pipe would wait for somebody to write into it."""
    if not stat.S_ISREG(mode):
        raise SourceError(
            f"{path} is a pipe, a socket or a device, which does not belong in a source tree.",
            cure=f"move {path} away, then run the same command again",
        )
