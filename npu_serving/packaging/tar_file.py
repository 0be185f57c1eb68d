"""A build as a .tar.gz: the same bytes for the same build."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from npu_serving.builds.manifest import Build
from npu_serving.packaging.contents import build_time, contents, write_tar

COMPRESSION = 6


def write_tarball(build: Build, path: Path) -> None:
    """A .tar.gz with one directory, named after the build."""
    with path.open("wb") as file, compressed(file) as stream:
        write_tar(stream, contents(build), prefix=build.manifest.build_id, mtime=build_time(build))


@contextlib.contextmanager
def compressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Gzip without a name and a time in its header."""
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=COMPRESSION, mtime=0) as stream:
        yield cast("IO[bytes]", stream)
