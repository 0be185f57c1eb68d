"""One layer from all files of a container, the same bytes whoever makes it and whenever; and what differs between two.

An image that the engine builds step by step can't be the same twice: the classic builder gives its layers the times of
the build, entries for deleted files included, whatever a step does. So the finished files are taken out once, with the
times cut off at SOURCE_DATE_EPOCH (https://reproducible-builds.org/docs/source-date-epoch/), and put in again as one.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import IO, cast

from npu_serving.tar_writer import CHUNK_BYTES, END, header, member, padding

EPOCH_S = 1556150400
"""2019-04-25, about the day of Bazel 0.24.1. Nothing in the image is younger; what runs while it is made gets it in
SOURCE_DATE_EPOCH.
"""
XATTR = "SCHILY.xattr."
# What Docker adds to every container; in a layer it would only describe the machine that made it.
OF_THE_ENGINE = frozenset({".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"})


@dataclass(frozen=True)
class LayerFile:
    """What the layer holds under one path."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    link: str = ""
    device: tuple[int, int] = (0, 0)
    size_bytes: int = 0
    sha256: str = ""
    xattrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A path that two layers don't have in common, and in what they differ."""

    path: str
    what: str

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {"path": self.path, "what": self.what}


def normalised(chunks: Iterable[bytes], entries: dict[str, LayerFile]) -> Iterator[bytes]:
    """The tar of a container's files, as the engine exports it, as the tar of a layer that is always the same.

    `entries` is filled on the way. The order is kept: the engine walks the names in order.
    """
    with tarfile.open(fileobj=cast("IO[bytes]", _ChunkReader(chunks)), mode="r|", bufsize=CHUNK_BYTES) as archive:
        for found in archive:
            if found.name.removeprefix("./") in OF_THE_ENGINE:
                continue
            plain = _plain(found)
            yield header(plain)
            digest = hashlib.sha256()
            if found.isreg():
                data = archive.extractfile(found)
                assert data is not None
                while piece := data.read(CHUNK_BYTES):
                    digest.update(piece)
                    yield piece
                yield padding(found.size)
            entries[plain.name] = _entry(plain, digest.hexdigest() if found.isreg() else "")
    yield END


def differences(first: Mapping[str, LayerFile], second: Mapping[str, LayerFile]) -> tuple[Difference, ...]:
    """What two layers differ in, path by path."""
    found = []
    for path in sorted({*first, *second}):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            found.append(Difference(path, "only in the first" if other is None else "only in the second"))
        elif one != other:
            found.append(Difference(path, "; ".join(_unequal(one, other))))
    return tuple(found)


def _unequal(one: LayerFile, other: LayerFile) -> Iterator[str]:
    for item in fields(LayerFile):
        values = getattr(one, item.name), getattr(other, item.name)
        if values[0] != values[1]:
            shown = [oct(value) if item.name == "mode" else str(value)[:12] for value in values]
            yield f"{item.name} {shown[0]} / {shown[1]}"


def _plain(found: tarfile.TarInfo) -> tarfile.TarInfo:
    size_bytes = found.size if found.isreg() else 0
    plain = member(found.name, size_bytes, mode=found.mode, mtime=min(int(found.mtime), EPOCH_S), kind=found.type)
    plain.uid, plain.gid = found.uid, found.gid
    plain.linkname = found.linkname
    plain.devmajor, plain.devminor = found.devmajor, found.devminor
    plain.pax_headers = {key: value for key, value in found.pax_headers.items() if key.startswith(XATTR)}
    return plain


def _entry(plain: tarfile.TarInfo, sha256: str) -> LayerFile:
    return LayerFile(
        kind=plain.type.decode(),
        mode=plain.mode,
        owner=(plain.uid, plain.gid),
        mtime=int(plain.mtime),
        link=plain.linkname,
        device=(plain.devmajor, plain.devminor),
        size_bytes=plain.size,
        sha256=sha256,
        xattrs=dict(plain.pax_headers),
    )


class _ChunkReader:
    """The chunks as a file that can only be read on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._left += chunk
        piece = bytes(self._left[:size])
        del self._left[:size]
        return piece
