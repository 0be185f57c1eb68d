"""One file from one URL into its partial file: in one stream or in ranges, resumed, bounded, hashed on the way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from npu_serving import fsutil
from npu_serving.fetch.http import Answer, Refusal, ask
from npu_serving.fetch.mirrors import Candidate, local_path
from npu_serving.fetch.partial_file import PartialFile
from npu_serving.fetch.tuning import Tuning

if TYPE_CHECKING:
    import requests

LARGEST_UNKNOWN_BYTES = 4 << 30
"""What a file may have whose size nobody stated. LLVM's archive, the largest of the real ones, has 63 MB."""
_RANGE_TRIES = 5
_COMPRESSED_NAMES = (".tar.gz", ".tgz")


class Cancelled(Exception):
    """The run is being stopped; the partial file stays."""


@dataclass(frozen=True)
class WantedFile:
    """A file to fetch. `label` is what people call it; `urls` are those that were declared for it."""

    label: str
    file_name: str
    urls: tuple[str, ...]
    sha256: str
    size_bytes: int | None = None
    package: str = ""
    """A package that has the same bytes and is asked for after the mirrors, before `urls`: see bazel_program.py."""

    @property
    def largest_bytes(self) -> int:
        """How many bytes are taken in at most. A recompressed archive may be a little longer."""
        if self.size_bytes is None:
            return LARGEST_UNKNOWN_BYTES
        return self.size_bytes + (_slack(self.size_bytes) if self.file_name.endswith(_COMPRESSED_NAMES) else 0)

    def most_bytes_of(self, answer: Answer) -> int:
        """How many bytes are taken in from this answer: the server may have compressed the file on top."""
        return self.largest_bytes + (_slack(self.largest_bytes) if answer.encoded else 0)


def _slack(size_bytes: int) -> int:
    return size_bytes // 4 + (64 << 10)


@dataclass(frozen=True)
class Line:
    """What a transfer needs besides the file: the session, its patience, where progress goes, when to stop."""

    session: requests.Session
    tuning: Tuning
    on_bytes: Callable[[int], None]
    """Called with the bytes that came in; with a negative number when some have to be fetched again."""
    cancelled: threading.Event

    def check(self) -> None:
        """Raises Cancelled when the run is being stopped."""
        if self.cancelled.is_set():
            raise Cancelled


def receive(candidate: Candidate, wanted: WantedFile, partial: PartialFile, line: Line) -> None:
    """Completes `partial` from this URL, resuming where it is. Whether the bytes are right is not judged here.

    Raises Refusal when the URL doesn't give the file, Cancelled, and DiskFullError or FileAccessError.
    """
    if candidate.url.startswith("file:"):
        _from_disk(candidate, wanted, partial, line)
        return
    if partial.total_bytes is not None:
        _in_ranges(candidate.url, wanted, partial, line, etag="")
        return
    answer = _first_answer(candidate.url, wanted, partial, line)
    try:
        _check_answer(answer, wanted)
        if answer.offset < partial.size_bytes:
            restart(partial, line)
        total = answer.total_bytes
        if total is not None and _worth_ranges(answer, total, partial, line):
            partial.begin_ranges(total)
            _in_ranges(candidate.url, wanted, partial, line, etag=answer.etag, first=answer)
        else:
            _in_one_stream(answer, wanted, partial, line)
    finally:
        answer.close()


def restart(partial: PartialFile, line: Line) -> None:
    """Forgets what came in, in the count of bytes as well."""
    line.on_bytes(-partial.size_bytes)
    partial.restart()


def _worth_ranges(answer: Answer, total: int, partial: PartialFile, line: Line) -> bool:
    large = total >= line.tuning.ranges_from_bytes and total - partial.size_bytes > line.tuning.range_bytes
    return large and answer.takes_ranges and not answer.encoded and not partial.in_one_stream


def _first_answer(url: str, wanted: WantedFile, partial: PartialFile, line: Line) -> Answer:
    """Asks for the first range only, where the file may be large: the answer shows if the server supports ranges."""
    offset = partial.size_bytes
    small = wanted.size_bytes is not None and wanted.size_bytes - offset <= line.tuning.ranges_from_bytes
    whole = small or partial.in_one_stream
    span = (offset, None if whole else offset + line.tuning.range_bytes - 1)
    try:
        return ask(line.session, url, line.tuning, span=span)
    except Refusal as refusal:
        if refusal.status != 416:  # Range Not Satisfiable: what is there is longer than the file, or the file is empty
            raise
        restart(partial, line)
        return ask(line.session, url, line.tuning)


def _check_answer(answer: Answer, wanted: WantedFile) -> None:
    """Refuses what can't be the file before a byte of it is written."""
    if answer.content_type == "text/html" and not wanted.file_name.endswith((".html", ".htm")):
        raise Refusal("it sent an HTML page (a login, an error or a portal), not the file")
    if answer.total_bytes is not None and answer.total_bytes > wanted.most_bytes_of(answer):
        raise Refusal(f"it has {answer.total_bytes} bytes, not the expected {_expected(wanted)}")


def _expected(wanted: WantedFile) -> str:
    return f"{wanted.size_bytes}" if wanted.size_bytes is not None else f"{wanted.largest_bytes} or less"


def _in_one_stream(answer: Answer, wanted: WantedFile, partial: PartialFile, line: Line) -> None:
    end = None if answer.body_bytes is None else answer.offset + answer.body_bytes
    for chunk in answer.chunks(line.tuning):
        line.check()
        if partial.size_bytes + len(chunk) > wanted.most_bytes_of(answer):
            restart(partial, line)
            raise Refusal(f"it sent more than the expected {_expected(wanted)} bytes")
        partial.append(chunk)
        line.on_bytes(len(chunk))
    if end is not None and partial.size_bytes < end:
        raise Refusal(f"it ended after {partial.size_bytes} of {end} bytes", passing=True)
    if answer.total_bytes is not None and partial.size_bytes < answer.total_bytes:
        _rest(answer, wanted, partial, line)


def _rest(answer: Answer, wanted: WantedFile, partial: PartialFile, line: Line) -> None:
    """What follows the first range, where the file turned out too small for ranges at once."""
    following = ask(line.session, answer.url, line.tuning, span=(partial.size_bytes, None), etag=answer.etag)
    try:
        if following.offset != partial.size_bytes:
            restart(partial, line)
        _in_one_stream(following, wanted, partial, line)
    finally:
        following.close()


def _in_ranges(
    url: str, wanted: WantedFile, partial: PartialFile, line: Line, *, etag: str, first: Answer | None = None
) -> None:
    """Fills the gaps of `partial`, several at once. `first` is an open answer that holds the first gap."""
    gaps: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    missing = partial.gaps(line.tuning.range_bytes)
    for gap in missing[1:] if first is not None else missing:
        gaps.put(gap)
    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def work(opened: Answer | None) -> None:
        try:
            if opened is not None:
                _one_range(opened, missing[0], partial, line)
            for gap in _until_empty(gaps):
                if not failures.empty():
                    return
                _one_range_with_patience(url, gap, partial, line, etag)
        except BaseException as error:
            failures.put(error)

    helpers = min(line.tuning.ranges_at_once, len(missing)) - 1
    threads = [threading.Thread(target=work, args=(None,), daemon=True) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work(first)
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()


def _until_empty(gaps: queue.SimpleQueue[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    while True:
        try:
            yield gaps.get_nowait()
        except queue.Empty:
            return


def _one_range_with_patience(url: str, gap: tuple[int, int], partial: PartialFile, line: Line, etag: str) -> None:
    for attempt in range(_RANGE_TRIES):
        try:
            answer = ask(line.session, url, line.tuning, span=(gap[0], gap[1] - 1), etag=etag)
            try:
                _one_range(answer, gap, partial, line)
            finally:
                answer.close()
            return
        except Refusal as refusal:
            if not refusal.passing or attempt == _RANGE_TRIES - 1:
                raise
            line.cancelled.wait(max(refusal.retry_after_s, line.tuning.backoff_s * 2**attempt / 4))
            line.check()


def _one_range(answer: Answer, gap: tuple[int, int], partial: PartialFile, line: Line) -> None:
    first, end = gap
    if answer.response.status_code != 206 or answer.total_bytes not in (None, partial.total_bytes):
        raise RangesLost("the file changed, or the server stopped sending ranges, between two requests")
    place = first
    try:
        for chunk in answer.chunks(line.tuning):
            line.check()
            piece = chunk[: end - place]
            partial.write_at(piece, place)
            place += len(piece)
            line.on_bytes(len(piece))
            if place == end:
                break
        if place < end:
            raise Refusal(f"a range ended after {place - first} of {end - first} bytes", passing=True)
    except BaseException:
        line.on_bytes(first - place)
        raise
    partial.finish_range(first, end)


class RangesLost(Refusal):
    """The file can't go on in ranges from this URL; what is there may belong to another file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, passing=True)


def _from_disk(candidate: Candidate, wanted: WantedFile, partial: PartialFile, line: Line) -> None:
    """A copy from a file:// mirror; always from its beginning, since reading it again costs little."""
    restart(partial, line)
    try:
        with open(local_path(candidate.url), "rb") as file:
            while chunk := file.read(fsutil.CHUNK_BYTES):
                line.check()
                if partial.size_bytes + len(chunk) > wanted.largest_bytes:
                    restart(partial, line)
                    raise Refusal(f"it has more than the expected {_expected(wanted)} bytes")
                partial.append(chunk)
                line.on_bytes(len(chunk))
    except FileNotFoundError as error:
        raise Refusal("no such file") from error
    except (OSError, ValueError) as error:
        raise Refusal(getattr(error, "strerror", None) or str(error)) from error
