"""The state of a serving tree, as far as it decides which archives are declared and which of them the server needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from npu_serving import fsutil

READ_BY_BAZEL = (
    "WORKSPACE", "WORKSPACE.*", "BUILD", "BUILD.*", "*.BUILD", "*.bzl", "*.tpl", "*.patch", "*.diff", ".bazelrc",
    ".bazelversion",
)  # fmt: skip
"""The names of files that say what is declared and what depends on what; a source file decides neither."""
_LEFT_OUT = frozenset({".git", "__pycache__"})


def tree_state(tree: Path, *, instead: Mapping[str, str], without: str) -> str:
    """The sha256 over names and contents of those files of `tree`.

    `instead` has texts that count in place of a file's own, by its path in the tree; the directory `without` does not
    count. Both are for what this project itself adds to a tree. Links to directories are not followed.
    """
    digest = hashlib.sha256()
    for path in _files(tree):
        name = path.relative_to(tree).as_posix()
        if name.startswith(f"{without}/"):
            continue
        content = (
            hashlib.sha256(instead[name].encode("utf-8", "surrogateescape")).hexdigest() if name in instead else ""
        )
        line = json.dumps([name, content or fsutil.sha256_of(path)])
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _files(tree: Path) -> Iterator[Path]:
    for directory, names, files in fsutil.walk(tree):
        names[:] = sorted(name for name in names if name not in _LEFT_OUT)
        for name in sorted(files):
            path = Path(directory, name)
            if any(fnmatchcase(name, pattern) for pattern in READ_BY_BAZEL) and path.is_file():
                yield path
