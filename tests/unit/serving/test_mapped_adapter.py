"""The adapter is found in what a process has mapped, whatever the path is called."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from npu_serving.serving.mapped_adapter import mapped_adapter


def test_a_library_is_found_while_it_is_mapped_and_by_its_own_name_only(tmp_path: Path) -> None:
    for name, found in (("other_tf_adapter.so", False), ("_tf_adapter.so", True)):
        path = tmp_path / "a b" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 4096)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            assert mapped_adapter(os.getpid()) == (path if found else None)
    assert mapped_adapter(os.getpid()) is None
    assert mapped_adapter(2**22 + 1) is None
