"""The two empty libraries that the adapter needs by name, built by CMake (guide 6.3, step 4)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import fsutil
from npu_serving.errors import MissingToolError
from npu_serving.facts import least_version
from npu_serving.process import find_program, run
from npu_serving.version_numbers import version_of

if TYPE_CHECKING:
    from packaging.version import Version

COMPILER_CURE = (
    "install a C compiler, on Debian and Ubuntu: apt-get install gcc; on openEuler and CentOS: yum install gcc"
)


def build_stubs(cmake_lists: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The libraries `names` that `cmake_lists` builds, as bytes; nothing is left behind on disk.

    Raises MissingToolError where a fitting CMake, a C compiler, or both make and ninja are missing.
    """
    cmake = _find_cmake()
    generator = _find_generator()
    if find_program("cc") is None and find_program("gcc") is None:
        raise MissingToolError("No C compiler (cc or gcc) is on PATH.", cure=COMPILER_CURE)
    with tempfile.TemporaryDirectory(prefix="npu-serving-stubs-") as directory:
        source = Path(directory) / "source"
        build = Path(directory) / "build"
        fsutil.write_file(source / "CMakeLists.txt", cmake_lists)
        run([cmake, "-G", generator, "-S", source, "-B", build], cure=COMPILER_CURE)
        run([cmake, "--build", build], cure=COMPILER_CURE)
        return {name: (build / name).read_bytes() for name in names}


def _find_cmake() -> Path:
    """CMake on PATH if it is new enough, else the one that pip installed beside this project."""
    on_path = find_program("cmake")
    least = least_version("cmake")
    if on_path is not None and _version(on_path) >= version_of(least):
        return on_path
    try:
        from cmake import CMAKE_BIN_DIR
    except ImportError:
        raise MissingToolError(
            f"CMake {least} or newer is missing: {on_path or 'none on PATH'}, and none from pip.",
            cause="the virtual environment was not created from requirements.txt",
            cure="create it again with ./inv --list, or run pip install cmake",
        ) from None
    return Path(CMAKE_BIN_DIR) / "cmake"


def _version(cmake: Path) -> Version:
    finished = run([cmake, "--version"], check=False)
    return version_of(finished.stdout.partition("cmake version ")[2])


def _find_generator() -> str:
    if find_program("make") is not None:
        return "Unix Makefiles"
    if find_program("ninja") is not None:
        return "Ninja"
    raise MissingToolError(
        "Neither make nor ninja is on PATH, and CMake needs one of them.",
        cure="apt-get install make, or yum install make, or pip install ninja",
    )
