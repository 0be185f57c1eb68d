"""The bundle: everything that a machine without network needs, in one plain tar that begins with its manifest.

The manifest decides every byte of the tar but the members' own: no times, owners or paths are in it. So the same
members give the same file, and whoever reads one knows from its manifest what has to be at which place.
Reading is in reader.py, which files go in is decided in bundling.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated

from npu_serving import fsutil, tar_writer
from npu_serving.console import Progress, Reporter
from npu_serving.documents import JSON, DocumentRefusal, Rule, parse_document
from npu_serving.errors import PinMismatchError, UnsafeArchiveError
from npu_serving.lock.lockfile import Sha256, is_safe_file_name
from npu_serving.tar_writer import END, padding

FORMAT = 1
MANIFEST_NAME = "MANIFEST.json"
MAX_MANIFEST_BYTES = 8 << 20
MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 1 << 40

ARCHIVE, TOOL, WHEEL, IMAGE, KIT = "archive", "tool", "wheel", "image", "kit"
KINDS = (ARCHIVE, TOOL, WHEEL, IMAGE, KIT)

_HEADING = "was not unpacked, because its manifest is not valid"
_CAUSE = "it was made by another version of this project, was damaged in transfer, or is malicious"
_CURE = "make it again with ./inv bundle, using the version of the project that is here"


def _file_name_rule(name: str) -> str:
    return "" if is_safe_file_name(name) else f"must be a plain file name, not {name[:100]!r}"


Word = Annotated[str, Rule(pattern="[0-9A-Za-z._+-]{1,100}", expected="a word such as 1.15.0")]
MemberKind = Annotated[str, Rule(pattern="|".join(KINDS), expected=f"one of {', '.join(KINDS)}")]
FileName = Annotated[str, Rule(check=_file_name_rule)]


@dataclass(frozen=True)
class BundleMember:
    """One file of a bundle. `kind` is one of KINDS."""

    kind: MemberKind
    file_name: FileName
    sha256: Sha256
    size_bytes: Annotated[int, Rule(minimum=0, maximum=MAX_MEMBER_BYTES)]

    @property
    def name(self) -> str:
        """Its name in the tar: two files of one name but different bytes don't collide."""
        return f"{self.kind}/{self.sha256}/{self.file_name}"


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds, and for which serving version, processor (x86_64) and Python (3.11) it was made."""

    serving_version: Word
    machine: Word
    python: Word
    members: tuple[BundleMember, ...]

    def problems(self) -> Iterator[tuple[str, str]]:
        """What the reader of documents asks: what only several members together show."""
        if len(self.members) > MAX_MEMBERS:
            yield "members", f"lists {len(self.members)} files, more than {MAX_MEMBERS}"
        # Wheels get into one directory under their own names, the others into the store under their digests.
        keys = Counter(member.file_name if member.kind == WHEEL else member.name for member in self.members)
        for key, count in keys.items():
            if count > 1:
                yield "members", f"lists {key} twice"

    def of_kind(self, *kinds: str) -> tuple[BundleMember, ...]:
        """The members of these kinds."""
        return tuple(member for member in self.members if member.kind in kinds)


@dataclass(frozen=True)
class MemberPlace:
    """Where a member stands: its header's first byte, and that of its own bytes."""

    member: BundleMember
    header_at: int
    data_at: int


def render_manifest(manifest: Manifest) -> bytes:
    """The manifest as it stands in the tar: members sorted by name, one field a line."""
    members = sorted(manifest.members, key=lambda member: member.name)
    document = {**asdict(manifest), "format": FORMAT, "members": [asdict(member) for member in members]}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def parse_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in `data`; UnsafeArchiveError, with the field at fault, for any that render_manifest() won't write.

    What comes back is fit to be printed and used: names are plain file names, sizes are numbers, nothing is listed
    twice.
    """
    refusal = DocumentRefusal(f"{where} {_HEADING}:", UnsafeArchiveError, _CAUSE, _CURE)
    name = f"{where}/{MANIFEST_NAME}"
    manifest = parse_document(data, Manifest, where=name, syntax=JSON, format=FORMAT, refusal=refusal)
    if render_manifest(manifest) != data:
        raise UnsafeArchiveError(
            f"{where} {_HEADING}: it is not written the way this program writes one.", cause=_CAUSE, cure=_CURE
        )
    return manifest


def places(manifest: Manifest) -> tuple[tuple[MemberPlace, ...], int]:
    """Where each member stands, and the size of the whole bundle in bytes."""
    content = render_manifest(manifest)
    position = len(header(MANIFEST_NAME, 0)) + len(content) + len(padding(len(content)))
    found = []
    for member in sorted(manifest.members, key=lambda item: item.name):
        data_at = position + len(header(member.name, member.size_bytes))
        found.append(MemberPlace(member, position, data_at))
        position = data_at + member.size_bytes + len(padding(member.size_bytes))
    return tuple(found), position + len(END)


def header(name: str, size_bytes: int) -> bytes:
    """The blocks that stand before a file's bytes; names and sizes that don't fit into ustar take three (pax)."""
    return tar_writer.header(tar_writer.member(name, size_bytes), errors="strict")


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, Path], reporter: Reporter) -> str:
    """Writes the bundle to `path`, which gets its name when it is whole, and returns its sha256.

    `files` says for each digest where the bytes are; they are read once, in pieces. Raises PinMismatchError for a
    file that doesn't hold the bytes its member states, DiskFullError, FileAccessError.
    """
    content = render_manifest(manifest)
    standing, total = places(manifest)
    with fsutil.new_file(path) as file, _DigestBeside() as whole:
        with reporter.progress("bundling", total=total, unit="bytes") as progress:
            output = _Output(file, whole, progress)
            output.write(header(MANIFEST_NAME, len(content)) + content + padding(len(content)))
            for place in standing:
                output.write(header(place.member.name, place.member.size_bytes))
                output.copy(files[place.member.sha256], place.member)
                output.write(padding(place.member.size_bytes))
            output.write(END)
        return whole.hexdigest()


class _Output:
    """The file that is written, and its digest."""

    def __init__(self, file: IO[bytes], whole: _DigestBeside, progress: Progress) -> None:
        self._file = file
        self._whole = whole
        self._progress = progress
        self._done = 0

    def write(self, data: bytes, *, of: str = "") -> None:
        self._whole.update(data)
        self._file.write(data)
        self._done += len(data)
        self._progress.update(self._done, detail=of)

    def copy(self, source: Path, member: BundleMember) -> None:
        """Writes the bytes of `source`; raises unless they are the member's."""
        digest = hashlib.sha256()
        size_bytes = 0
        with fsutil.explained(source, doing="read"):
            opened = source.open("rb")
        with opened:
            for chunk in fsutil.chunks(opened, source):
                digest.update(chunk)
                size_bytes += len(chunk)
                if size_bytes > member.size_bytes:
                    break
                self.write(chunk, of=member.file_name)
        if size_bytes != member.size_bytes or digest.hexdigest() != member.sha256:
            raise PinMismatchError(
                f"{source} is not {member.file_name} with sha256 {member.sha256}.",
                cause="it was damaged, or changed while the bundle was being written",
                cure="fetch it again with ./inv fetch-deps --verify, then run the same command again",
            )


class _DigestBeside:
    """A sha256 that is worked out in a thread of its own: hashlib lets other threads run, and each byte is hashed
    twice here, as its member's and as the bundle's.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._worker = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def __enter__(self) -> _DigestBeside:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._worker.shutdown()

    def update(self, data: bytes) -> None:
        """Takes the next bytes; waits for those before, so that no more than two pieces are in memory."""
        self._wait()
        self._under_way = self._worker.submit(self._digest.update, data)

    def hexdigest(self) -> str:
        """The digest of all that was taken."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
