"""The members of a kit on disk: unpacked once into a cache, by the kit's digest, and never trusted half done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from npu_serving import fsutil
from npu_serving.console import Progress, Reporter
from npu_serving.errors import KitError
from npu_serving.linking.saved_link import digests_of
from npu_serving.relink_kit.kit_file import KIT_BLOBS, KIT_JSON, Kit, damaged, reading
from npu_serving.resources import usable_processors

MEMBERS = "members"
OTHER_CACHE = "name another directory: --cache DIR"
"""What to type where there is no space to unpack into, by the flag of a kit's own commands."""
_SEAL = "sealed.json"
"""Size and times of each member, written when all are verified and on the disk. No program can set the time of change
(ctime), so that what was written into one later shows, whatever time of writing (mtime) it was given."""


def unpacked_directory(kit: Kit, cache: Path) -> Path:
    """Where the kit's members are, or will be."""
    return cache / f"kit-{kit.digest[:32]}"


def unpack(kit: Kit, cache: Path, reporter: Reporter, *, more_space: str = OTHER_CACHE, again: bool = False) -> Path:
    """The directory of the kit's members; those of an earlier run where they are as it left them, unless `again`.

    Raises KitError for a kit that is damaged, and DiskFullError, whose cure `more_space` names.
    """
    place = unpacked_directory(kit, cache)
    if not again and is_unpacked(kit, cache):
        return place / MEMBERS
    fsutil.remove(place)
    size_bytes = kit.file.size_bytes
    fsutil.make_directory(cache)
    fsutil.check_space(cache, size_bytes, what="The members of the kit", instead=more_space)
    with fsutil.added_directory(place, temporary_name=place.name) as directory:
        with reporter.progress("unpacking the kit", total=size_bytes, unit="bytes") as progress:
            _write_members(kit, directory / MEMBERS, progress)
        fsutil.write_file(directory / _SEAL, json.dumps(_seal(kit, directory / MEMBERS)))
    return place / MEMBERS


def is_unpacked(kit: Kit, cache: Path, *, full_check: bool = False) -> bool:
    """Whether the members are there as this user unpacked them, as far as size and times of each file tell.

    With `full_check` each is read, and compared with its digest: a bit that turned on the disk changes no time.

    What lies there of another user, who may write into the cache too, can be anything with a seal that fits it.
    """
    place = unpacked_directory(kit, cache)
    try:
        if os.stat(place, follow_symlinks=False).st_uid != os.geteuid():
            return False
        sealed = json.loads((place / _SEAL).read_bytes())
        if sealed != _seal(kit, place / MEMBERS):
            return False
    except (OSError, ValueError, RecursionError):
        return False
    return not full_check or _are_whole(kit, place / MEMBERS)


def _are_whole(kit: Kit, members: Path) -> bool:
    digests = digests_of(members / name for name in kit.file.members)
    return all(digests.get(members / name) == member.sha256 for name, member in kit.file.members.items())


def _seal(kit: Kit, members: Path) -> dict[str, list[int]]:
    found = {}
    for name in kit.file.members:
        status = os.stat(members / name)
        found[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return found


def verify_kit(kit: Kit, reporter: Reporter) -> None:
    """Reads all of the kit. Raises KitError for the first entry that is missing, differs from its digest, or that
    kit.json does not name: Python imports what lies at the top of a zip.
    """
    sizes = {member.sha256: member.size_bytes for member in kit.file.members.values()}
    with _opened(kit) as packed, reporter.progress("reading the kit", total=sum(sizes.values()), unit="bytes") as shown:
        named = {KIT_JSON, *kit.file.entries, *(f"{KIT_BLOBS}{digest}" for digest in sizes)}
        for name in packed.namelist():
            if name not in named:
                raise damaged(kit.path, f"{name} was added to it")
            named.remove(name)  # a second one of that name is one too many
        done = 0
        for digest, size_bytes in sizes.items():
            _copy_blob(kit, packed, digest, size_bytes, None)
            done += size_bytes
            shown.update(done, detail=digest[:12])
        for name, digest in kit.file.entries.items():
            with _entry(kit, packed, name) as entry, reading(kit.path):
                data = fsutil.read_whole(entry, f"{name} in {kit.path}")
            if hashlib.sha256(data).hexdigest() != digest:
                raise damaged(kit.path, f"{name} is not what it was when the kit was made")


def read_entries(kit: Kit, beginning: str) -> dict[str, bytes]:
    """The entries of the zip whose names begin so, each as its digest says; KitError for one that differs."""
    found = {}
    with _opened(kit) as packed:
        for name, digest in kit.file.entries.items():
            if name.startswith(beginning):
                with _entry(kit, packed, name) as entry, reading(kit.path):
                    found[name] = fsutil.read_whole(entry, f"{name} in {kit.path}")
                if hashlib.sha256(found[name]).hexdigest() != digest:
                    raise damaged(kit.path, f"{name} is not what it was when the kit was made")
    return found


@contextlib.contextmanager
def _opened(kit: Kit) -> Iterator[zipfile.ZipFile]:
    with reading(kit.path):
        packed = zipfile.ZipFile(kit.path)
    with packed:
        yield packed


def _write_members(kit: Kit, members: Path, progress: Progress) -> None:
    names: dict[str, list[str]] = {}
    for name, member in kit.file.members.items():
        names.setdefault(member.sha256, []).append(name)
        (members / name).parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with _opened(kit) as packed, ThreadPoolExecutor(usable_processors()) as pool:

        def put(digest: str) -> int:
            first, *others = names[digest]
            member = kit.file.members[first]
            with fsutil.explained(members / first), (members / first).open("xb") as file:
                _copy_blob(kit, packed, digest, member.size_bytes, file)
            for other in others:
                os.link(members / first, members / other)
            return member.size_bytes * (1 + len(others))

        for written in pool.map(put, names):
            done += written
            progress.update(done)


def _copy_blob(kit: Kit, packed: zipfile.ZipFile, digest: str, size_bytes: int, into: IO[bytes] | None) -> None:
    """Unpacks a blob, a piece at a time; KitError unless it is what its name says, and no larger."""
    sha256, left = hashlib.sha256(), size_bytes
    name = f"{KIT_BLOBS}{digest}"
    stream = zlib.decompressobj()
    with _entry(kit, packed, name) as source:
        while True:
            with reading(kit.path):
                chunk = stream.unconsumed_tail or source.read(fsutil.CHUNK_BYTES)
                data = stream.decompress(chunk, fsutil.CHUNK_BYTES)
            left -= len(data)
            if left < 0:
                break
            sha256.update(data)
            if into is not None:
                into.write(data)
            if stream.eof or (not chunk and not data):
                break
    if left or not stream.eof or sha256.hexdigest() != digest:
        raise damaged(kit.path, f"{name} is not what its name says")


@contextlib.contextmanager
def _entry(kit: Kit, packed: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    with reading(kit.path):
        source = packed.open(name)
    with source:
        yield source


def check_machine(kit: Kit, machine: str) -> None:
    """KitError unless the kit's objects are for that machine."""
    if kit.file.machine != machine:
        raise KitError(
            f"{kit.path} is for {kit.file.machine}, but this machine is {machine}.",
            cause="it was built on a machine with another processor",
            cure=f"use a kit that was made on {machine}",
        )
