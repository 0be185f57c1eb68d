"""The first fetch of an archive that its tree pins no sha256 for: the digest that `lock-deps --pin` writes down.

Everything else is fetched by fetching.py, which takes nothing unverified. What comes in here is trusted once, because
the person typed --pin; from then on the lock's digest holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.errors import FetchError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.http import Refusal, ask, new_session
from npu_serving.fetch.mirrors import Candidate, local_path, places_of
from npu_serving.fetch.transfer import LARGEST_UNKNOWN_BYTES
from npu_serving.fetch.tuning import Tuning
from npu_serving.lock.lockfile import Archive

if TYPE_CHECKING:
    import requests

NO_DIGEST = "no-digest"  # where a file:// mirror would look for a file by its digest


def fetch_first(
    archive: Archive, store: ContentStore, *, mirrors: Sequence[str], reporter: Reporter, tuning: Tuning | None = None
) -> str:
    """The sha256 of what the first place that answers gives for `archive`; its bytes are in the store then.

    Raises FetchError, naming what each source answered, when none has it; DiskFullError, FileAccessError.
    """
    places = places_of(mirrors).candidates(archive.urls, NO_DIGEST)
    patience = tuning if tuning is not None else Tuning()
    session = new_session(1)
    answers = []
    with reporter.progress(f"fetching {archive.file_name} to pin its sha256", unit="bytes") as progress:
        for place in places:
            try:
                sha256 = _take(_body(place, session, patience), store)
            except Refusal as refusal:
                answers.append(f"    {place.url}: {refusal.reason}")
            else:
                progress.update(store.path(sha256).stat().st_size)
                reporter.note(f"pinned {archive.name} to sha256 {sha256}, as fetched from {place.url}")
                return sha256
    raise FetchError(
        "\n".join([f"Could not fetch {archive.name} to pin its sha256:", *answers]),
        cause="no network, or the archive has moved",
        cure="name a mirror that has it: --mirror https://my.mirror/, or --mirror file:///DIR/ for a directory",
    )


def _take(body: Iterator[bytes], store: ContentStore) -> str:
    """Puts the bytes into the store, and returns their sha256."""
    digest, size = hashlib.sha256(), 0
    with fsutil.scratch_directory(store.partial) as directory:
        temporary = directory / "file"
        with temporary.open("wb") as file:
            for chunk in body:
                size += len(chunk)
                if size > LARGEST_UNKNOWN_BYTES:
                    raise Refusal(f"it sent more than {LARGEST_UNKNOWN_BYTES} bytes")
                digest.update(chunk)
                with fsutil.explained(temporary):
                    file.write(chunk)
        store.take_verified(temporary, digest.hexdigest())
    return digest.hexdigest()


def _body(place: Candidate, session: requests.Session, tuning: Tuning) -> Iterator[bytes]:
    """The bytes that a place gives; Refusal where it gives none, only some of them, or a page for people."""
    if place.url.startswith("file:"):
        yield from _from_disk(local_path(place.url))
        return
    answer = ask(session, place.url, tuning)
    try:
        if answer.content_type in ("text/html", "application/xhtml+xml") or answer.encoded:
            raise Refusal(f"it sent {answer.content_type or 'an encoded body'}, which is not an archive")
        received = 0
        for chunk in answer.chunks(tuning):
            received += len(chunk)
            yield chunk
        if received == 0 or (answer.body_bytes is not None and received != answer.body_bytes):
            raise Refusal(f"it ended after {received} of {answer.body_bytes or 'unknown'} bytes", passing=True)
    finally:
        answer.close()


def _from_disk(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while chunk := file.read(fsutil.CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise Refusal(error.strerror or str(error)) from error
