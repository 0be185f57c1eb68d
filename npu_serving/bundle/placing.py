"""Putting a bundle's members in their places: wheels beside `inv`, archives and tools into the store.

Works on the bare standard library, for bootstrap.py runs it where this project's packages are still in the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.bundle.reader import Bundle, copy_member
from npu_serving.bundle.wheels import pinned_digests
from npu_serving.bundle.writer import WHEEL, BundleMember, MemberPlace
from npu_serving.errors import PinMismatchError
from npu_serving.fetch.content_store import ContentStore

WHEELS = "wheels"
"""The directory beside `inv` in which it looks for its packages first."""
UNFINISHED = ".unbundling"
"""What is being copied into the store; an interrupted run leaves it, and the next one writes over it."""

Count = Callable[[int], None]


def place_in_store(bundle: Bundle, wanted: Iterable[MemberPlace], store: ContentStore, count: Count) -> None:
    """Copies these members into the store, each verified before it gets its name there.

    `count` is called with the size of each piece. Raises PinMismatchError for a member that isn't what the manifest
    says.
    """
    fsutil.make_directory(store.partial)
    temporary = store.partial / UNFINISHED
    for place in wanted:
        try:
            with fsutil.explained(store.path(place.member.sha256)), temporary.open("wb") as file:
                copy_member(bundle, place, file, count)
            store.take_verified(temporary, place.member.sha256)
        finally:
            fsutil.remove(temporary)


def missing_wheels(bundle: Bundle, project: Path) -> tuple[MemberPlace, ...]:
    """The wheels that the project's wheels/ doesn't hold yet."""
    directory = project / WHEELS
    wheels = [place for place in bundle.places if place.member.kind == WHEEL]
    return tuple(place for place in wheels if not holds(directory / place.member.file_name, place.member))


def place_wheels(bundle: Bundle, project: Path, count: Count) -> None:
    """Puts the wheels that are missing there into the project's wheels/, each verified before it gets its name.

    Raises PinMismatchError for one that the project's requirements don't pin; then nothing is written.
    """
    pins = pinned_digests(project)
    refuse_unpinned([member for member in bundle.manifest.of_kind(WHEEL) if member.sha256 not in pins])
    for place in missing_wheels(bundle, project):
        with fsutil.new_file(project / WHEELS / place.member.file_name) as file:
            copy_member(bundle, place, file, count)


def refuse_unpinned(members: Sequence[BundleMember]) -> None:
    """PinMismatchError that names these members, if there are any."""
    if not members:
        return
    raise PinMismatchError(
        "\n".join(
            [f"{len(members)} files of the bundle are not pinned by any lock or requirements file of this project:"]
            + [f"  {member.kind} {member.file_name}  (sha256 {member.sha256})" for member in members]
        ),
        cause="the bundle was made by another version of this project, for a modified tree, or with malicious intent",
        cure="use the version of the project that made the bundle; archives, tools, images and kits that its maker "
        "vouches for are accepted with --sha256 DIGEST, the bundle's digest as ./inv bundle printed it",
    )


def holds(path: Path, member: BundleMember) -> bool:
    """Whether the file at `path` is that member already."""
    return path.is_file() and path.stat().st_size == member.size_bytes and fsutil.sha256_of(path) == member.sha256
