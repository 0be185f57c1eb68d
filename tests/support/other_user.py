"""A user who isn't root: what they may not read is told to them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving import process
from npu_serving.settings import PROJECT_ROOT

NOBODY = 65534


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(*words: str | Path, group: int | None = None, **variables: str) -> process.Finished:
    """./inv WORDS as a user who isn't root and is in no group of others, but for one that is named."""
    if os.geteuid() != 0:
        prefix: list[str] = []
    elif shutil.which("setpriv"):
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if group is not None:
            prefix[-1] = f"--groups={group}"
    else:
        pytest.skip("root can't become another user: there is no setpriv")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(PROJECT_ROOT), **variables}
    python = [sys.executable, "-m", "npu_serving", "--search-root", str(PROJECT_ROOT)]
    if process.run([*prefix, *python, "--list"], env=environment, cwd=Path("/"), check=False).returncode != 0:
        pytest.skip("another user can't read this checkout or its Python")
    return process.run([*prefix, *python, *words], env=environment, cwd=Path("/"), check=False)
