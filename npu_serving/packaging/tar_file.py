"""A build as a .tar.gz, or as a .tar: the same bytes for the same build."""

from __future__ import annotations

import contextlib
from pathlib import Path

from npu_serving.builds.manifest import Build
from npu_serving.packaging.contents import build_time, contents, write_tar
from npu_serving.tar_writer import compressed


def write_tarball(build: Build, path: Path) -> None:
    """A tar file with one directory, named after the build; compressed with gzip unless `path` ends in .tar."""
    plain = path.suffix.lower() == ".tar"
    with path.open("wb") as file, contextlib.nullcontext(file) if plain else compressed(file) as stream:
        write_tar(stream, contents(build), prefix=build.manifest.build_id, mtime=build_time(build))
