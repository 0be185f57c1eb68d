"""Quoted arguments are read back by the real CMake as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from npu_serving.writers.cmake import cmake_string

VALUES = ['a"b;${HOME}\\', "plain", "", "a b", "$ENV{PATH}", "@HOME@", "\\;", '"', "#[[x]]", "(;)", "[==[", "tab\tend"]


def test_an_argument_is_read_back_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "script.cmake"
    files = [tmp_path / str(number) for number in range(len(VALUES))]
    lines = [f"file(WRITE {cmake_string(str(file))} {cmake_string(value)})" for file, value in zip(files, VALUES)]
    script.write_text("\n".join(lines))
    subprocess.run([Path(sys.prefix) / "bin" / "cmake", "-P", script], check=True)
    assert [file.read_text() for file in files] == VALUES
