"""zlib streams (RFC 1950) made on several processors: the same bytes however many there are, in bounded memory."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

LEVEL = 1
BLOCK_BYTES = 1 << 20
_WINDOW = 1 << 15  # as far back as deflate refers (RFC 1951)
_RAW = -15  # wbits: a window of that size, without a header
_HEAD = b"\x78\x01"  # RFC 1950, 2.2: that window, and the fastest of its four levels
_LAST_BLOCK = b"\x03\x00"  # RFC 1951, 3.2.6: the last block, with nothing in it


class ParallelZlib:
    """Workers that compress. What is put in comes out in its order; no more than a few blocks wait in memory."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._most_waiting = 2 * workers + 2

    def __enter__(self) -> ParallelZlib:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def streams(self, contents: Iterable[Iterable[bytes]]) -> Iterator[tuple[bytes, bool]]:
        """One zlib stream for each content, one after the other, in pieces; with the last piece of each, True.

        A content's pieces are read while those before it are still being compressed. How they are cut has a say in
        the bytes that come out.
        """
        waiting: deque[tuple[Future[bytes] | bytes, bool]] = deque()
        for content in contents:
            waiting.append((_HEAD, False))
            checksum, before = 1, b""
            for block in blocks(content):
                for piece in block:
                    checksum = zlib.adler32(piece, checksum)
                waiting.append((self._pool.submit(_deflated, block, before), False))
                before = _tail(block)
                while len(waiting) > self._most_waiting:
                    yield _finished(*waiting.popleft())
            waiting.append((_LAST_BLOCK + checksum.to_bytes(4, "big"), True))
        while waiting:
            yield _finished(*waiting.popleft())


def blocks(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """The pieces, so many together that each block but the last has BLOCK_BYTES or more: nothing is copied."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield tuple(held)
            held, size = [], 0
    if size:
        yield tuple(held)


def _tail(block: tuple[bytes, ...]) -> bytes:
    """The last of its bytes that deflate can refer to."""
    tail = b""
    for piece in reversed(block):
        tail = piece[-(_WINDOW - len(tail)) :] + tail
        if len(tail) >= _WINDOW:
            break
    return tail


def _deflated(block: tuple[bytes, ...], before: bytes) -> bytes:
    """The block as deflate has it, ended at a byte, with references to what stands before it."""
    if before:
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW, zdict=before)
    else:
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
    return b"".join([*map(compressor.compress, block), compressor.flush(zlib.Z_SYNC_FLUSH)])


def _finished(piece: Future[bytes] | bytes, last: bool) -> tuple[bytes, bool]:
    return (piece if isinstance(piece, bytes) else piece.result()), last
