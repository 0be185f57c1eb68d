"""The adapter is found in what a process has mapped, whatever the path is called, and what was replaced since."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving.serving.mapped_adapter import ReplacedFile, mapped_adapter, replaced_files


def test_a_library_is_found_while_it_is_mapped_and_by_its_own_name_only(tmp_path: Path) -> None:
    for name, found in (("other_tf_adapter.so", False), ("_tf_adapter.so", True)):
        path = tmp_path / "a b" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 4096)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            assert mapped_adapter(os.getpid()) == (path if found else None)
    assert mapped_adapter(os.getpid()) is None
    assert mapped_adapter(2**22 + 1) is None


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Path]:
    """A library of this test's own, of which this process has a part that can be executed."""
    library = tmp_path / "a\nb" / "_tf_adapter.so"
    library.parent.mkdir()
    library.write_bytes(b"x" * 4096)
    prot = mmap.PROT_READ | mmap.PROT_EXEC
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=prot, flags=mmap.MAP_PRIVATE):
        yield library


def test_a_library_that_was_replaced_is_named_while_the_former_one_is_in_use(mapped: Path) -> None:
    now = time.time()
    assert replaced_files(os.getpid(), now) == ()
    mapped.with_name("new").write_bytes(b"y")
    mapped.with_name("new").replace(mapped)
    (found,) = replaced_files(os.getpid(), now)
    assert (found, found.text()) == (ReplacedFile(mapped, is_there=True), f"{mapped} was replaced")
    mapped.unlink()
    assert replaced_files(os.getpid(), now) == (ReplacedFile(mapped, is_there=False),)
    assert replaced_files(2**22 + 1, now) == ()


def test_a_library_that_was_written_to_in_its_place_counts_as_replaced(mapped: Path) -> None:
    written = mapped.stat().st_mtime
    assert ReplacedFile(mapped, is_there=True) not in replaced_files(os.getpid(), written)
    os.utime(mapped, (written + 0.001, written + 0.001))
    assert ReplacedFile(mapped, is_there=True) in replaced_files(os.getpid(), written)


def test_a_program_that_is_gone_is_named_also_where_a_wrapper_started_it(tmp_path: Path) -> None:
    program = tmp_path / "tensorflow_model_server"
    shutil.copy(os.path.realpath(shutil.which("cat") or ""), program)
    now = time.time()
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        assert replaced_files(process.pid, now) == ()
        program.unlink()
        assert replaced_files(process.pid, now) == (ReplacedFile(program, is_there=False),)
        assert replaced_files(os.getpid(), now) == (ReplacedFile(program, is_there=False),)
        process.communicate()
