"""Writing a relink kit: one zip that Python starts, in which every content of the link is there once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.packaging.kit_members import PackedMember
from npu_serving.packaging.parallel_zlib import ParallelZlib
from npu_serving.packaging.zip_writer import ZipWriter
from npu_serving.relink_kit.kit_file import KIT_BLOBS, KIT_JSON, KitMember, remove_checksum
from npu_serving.resources import usable_processors

HEAD = b"#!/usr/bin/env python3\n"
_DIGEST_LETTERS = 64


def write_kit(
    path: Path,
    members: tuple[PackedMember, ...],
    files: Mapping[str, bytes],
    described: Callable[[Mapping[str, KitMember]], bytes],
    reporter: Reporter,
) -> None:
    """Writes the kit to `path`, which gets its name when it is whole: `files`, the members, and what describes it.
    The checksum of what had the name before is removed.

    `described` makes kit.json of what was written for each member. The same inputs give the same bytes, whatever
    the number of processors. Raises SourceError for an object that is no longer what was linked, DiskFullError, and
    FileAccessError.
    """
    held: dict[str, KitMember] = {}
    finished: list[str] = []
    read = 0
    with reporter.progress(
        f"packing {path.name}", total=sum(member.size_bytes for member in members), unit="bytes"
    ) as progress:

        def content(member: PackedMember) -> Iterator[bytes]:
            nonlocal read
            digest, begun = hashlib.sha256(), read
            for piece in member.pieces():
                digest.update(piece)
                read += len(piece)
                progress.update(read)
                yield piece
            held[member.path] = KitMember(digest.hexdigest(), read - begun)
            finished.append(digest.hexdigest())

        with fsutil.new_file(path, mode=0o755) as file, ParallelZlib(usable_processors()) as workers:
            kit = ZipWriter(file, HEAD)
            for name, data in sorted(files.items()):
                kit.add(name, data)
            written: set[str] = set()
            kit.begin(len(KIT_BLOBS) + _DIGEST_LETTERS)
            for piece, last in workers.streams(map(content, members)):
                kit.write(piece)
                if last:
                    digest = finished.pop(0)
                    if digest in written:
                        kit.take_back()
                    else:
                        kit.end(KIT_BLOBS + digest)
                        written.add(digest)
                    kit.begin(len(KIT_BLOBS) + _DIGEST_LETTERS)
            kit.take_back()
            kit.add(KIT_JSON, described(held))
            kit.finish()
            remove_checksum(path)
