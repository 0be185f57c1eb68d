"""The version of a Bazel, read from its file, and whether it can build the tree: for the build and for doctor alike."""

from __future__ import annotations

import io
import platform
import re
import zipfile
import zlib
from pathlib import Path

from npu_serving.doctor.requirements import load_requirements
from npu_serving.version_numbers import leading_version

SERVER_JAR = "A-server.jar"
BUILD_DATA = "build-data.properties"

_ELF = b"\x7fELF"
_LARGEST_BYTES = 1 << 30
_UNREADABLE = (OSError, KeyError, ValueError, NotImplementedError, RuntimeError, EOFError)


def bazel_version(program: Path) -> str:
    """The version of the Bazel in that file, such as 0.24.1; empty for anything else, or where it doesn't say.

    Bazel's build appends an archive to its binary, which holds the label: reading it takes 0.3 s, where asking the
    program starts a server and unpacks 100 MB. A wrapper script and bazelisk have no such archive, and no version of
    their own: they choose a Bazel when they are started, and may download it, unverified. They are never started here.
    """
    try:
        with program.open("rb") as file:
            if file.read(len(_ELF)) != _ELF:
                return ""
        with zipfile.ZipFile(program) as outer, zipfile.ZipFile(io.BytesIO(_member(outer, SERVER_JAR))) as jar:
            data = _member(jar, BUILD_DATA).decode("utf-8", "replace")
    except (*_UNREADABLE, zipfile.BadZipFile, zlib.error):
        return ""
    match = re.search(r"^build\.label=(.*)$", data, re.MULTILINE)
    label = match.group(1).replace("\\", "").strip() if match else ""
    return leading_version(label)


def can_build(version: str) -> bool:
    """Whether that version can build the tree on this machine; the bounds are those of requirements.yaml."""
    return bool(version) and load_requirements()["bazel"].accepts(version, platform.machine())


def required_text() -> str:
    """The versions that can build the tree, for a person: `0.24.1 to 0.26.1`."""
    return load_requirements()["bazel"].required_text(platform.machine())


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _LARGEST_BYTES:
        raise ValueError(name)
    return archive.read(name)
