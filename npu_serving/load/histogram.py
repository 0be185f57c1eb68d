"""Latencies counted by size: three significant digits from a microsecond to an hour, in the layout of HdrHistogram.

Only the sizes that occur are held. Its text form is HdrHistogram's own (V2, compressed, in base64), so that other tools
read it. NumPy is imported where a whole array is recorded.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

SIGNIFICANT_DIGITS = 3
LOWEST_US = 1
HIGHEST_US = 3_600_000_000
_SUB_BUCKETS = 2048  # the power of two above 2 * 10**SIGNIFICANT_DIGITS
_HALF = _SUB_BUCKETS // 2
_HALF_BITS = 10
_BUCKETS = 22  # the last of them holds HIGHEST_US
_PLACES = (_BUCKETS + 1) * _HALF
_PLAIN, _COMPRESSED = 0x1C849313, 0x1C849314  # HdrHistogram's marks: V2, with counts of any length
_HEADER = struct.Struct(">iiiiqqd")  # mark, bytes of counts, offset, digits, lowest, highest, ratio
_WRAPPER = struct.Struct(">ii")
_MOST_BYTES = _HEADER.size + 10 * _PLACES
_TICKS = 5  # lines of a .hgrm for each halving of the distance to 100%


@dataclass(frozen=True)
class PercentileStep:
    """A point of the percentile curve: `count` of the values are at most `value_us`."""

    value_us: int
    percentile: float
    count: int


class LatencyHistogram:
    """How often each latency occurred. Latencies are in microseconds; those above an hour count as one."""

    def __init__(self, encoded: str = "") -> None:
        """An empty one, or the one that str() of another has given. ValueError for any other text."""
        self._counts: dict[int, int] = _decoded(encoded) if encoded else {}
        self.count = sum(self._counts.values())
        """The number of latencies."""

    def record(self, latency_us: float) -> None:
        """Counts one latency."""
        value = min(max(int(latency_us), 0), HIGHEST_US)
        bucket = max(value.bit_length() - _HALF_BITS - 1, 0)
        place = (bucket << _HALF_BITS) + (value >> bucket)
        self._counts[place] = self._counts.get(place, 0) + 1
        self.count += 1

    def record_many(self, latencies_us: numpy.ndarray[Any, Any]) -> None:
        """Counts each latency of an array of numbers."""
        import numpy

        values = numpy.clip(latencies_us, 0, HIGHEST_US).astype(numpy.int64)
        _, bits = numpy.frexp(values.astype(numpy.float64))  # exact below 2**53
        buckets = numpy.maximum(bits.astype(numpy.int64) - _HALF_BITS - 1, 0)
        places, counts = numpy.unique((buckets << _HALF_BITS) + (values >> buckets), return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist()):
            self._counts[place] = self._counts.get(place, 0) + count
        self.count += len(values)

    def merge(self, other: LatencyHistogram) -> None:
        """Counts all that the other one has counted."""
        for place, count in other._counts.items():
            self._counts[place] = self._counts.get(place, 0) + count
        self.count += other.count

    def percentile(self, percent: float) -> int:
        """The latency in microseconds that `percent` of them do not exceed; 0 where there are none."""
        return self.at_rank(int(min(percent, 100.0) * self.count / 100 + 0.5))

    def at_rank(self, rank: int) -> int:
        """The latency in microseconds of the one at `rank` by size, 1 for the smallest; 0 where there are none."""
        seen = 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            if seen >= rank:
                return _highest(place)
        return 0

    def max(self) -> int:
        """The largest latency in microseconds, to three digits; 0 where there are none."""
        return _highest(max(self._counts)) if self._counts else 0

    def mean(self) -> float:
        """The mean in microseconds; 0 where there are none."""
        total = sum(_middle(place) * count for place, count in self._counts.items())
        return total / self.count if self.count else 0.0

    def deviation(self) -> float:
        """The standard deviation in microseconds, of these values and not of what they are a sample of."""
        mean = self.mean()
        squares = sum((_middle(place) - mean) ** 2 * count for place, count in self._counts.items())
        return math.sqrt(squares / self.count) if self.count else 0.0

    def curve(self) -> Iterator[PercentileStep]:
        """The percentile curve, from 0 to 100, with five points for each halving of the distance to 100%.

        The points are those of HdrHistogram's percentile iterator.
        """
        percent, seen = 0.0, 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            while seen < self.count and 100.0 * seen / self.count >= percent:
                yield PercentileStep(_highest(place), percent, seen)
                percent = _next_percent(percent)
        if self.count:
            yield PercentileStep(self.max(), percent, seen)
            yield PercentileStep(self.max(), 100.0, seen)

    def __str__(self) -> str:
        """HdrHistogram's own text form of it."""
        counts = bytearray()
        last = -1
        for place in sorted(self._counts):
            if place - last > 1:
                _write_number(counts, -(place - last - 1))
            _write_number(counts, self._counts[place])
            last = place
        header = _HEADER.pack(_PLAIN, len(counts), 0, SIGNIFICANT_DIGITS, LOWEST_US, HIGHEST_US, 1.0)
        packed = zlib.compress(header + counts)
        return base64.b64encode(_WRAPPER.pack(_COMPRESSED, len(packed)) + packed).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyHistogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LatencyHistogram({str(self)!r})"


def _next_percent(percent: float) -> float:
    left = 100.0 - percent
    return percent + 100.0 / (_TICKS * math.pow(2, math.log(100 / left) / math.log(2) + 1)) if left else percent


def _lowest(place: int) -> tuple[int, int]:
    """The smallest latency that is counted there, and how many microseconds share the place."""
    bucket = max((place >> _HALF_BITS) - 1, 0)
    return (place - (bucket << _HALF_BITS)) << bucket, 1 << bucket


def _highest(place: int) -> int:
    value, width = _lowest(place)
    return value + width - 1


def _middle(place: int) -> int:
    value, width = _lowest(place)
    return value + (width >> 1)


def _write_number(out: bytearray, number: int) -> None:
    """Appends it in HdrHistogram's form: ZigZag, seven bits a byte, at most nine bytes."""
    left = (number << 1) ^ (number >> 63)
    for _ in range(8):
        if left < 0x80:
            out.append(left)
            return
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)


def _read_numbers(data: bytes) -> Iterator[int]:
    left, shift = 0, 0
    for byte in data:
        if shift == 56:  # the ninth byte has eight bits
            left |= byte << shift
        else:
            left |= (byte & 0x7F) << shift
            if byte & 0x80:
                shift += 7
                continue
        yield (left >> 1) ^ -(left & 1)
        left, shift = 0, 0
    if shift:
        raise ValueError("it ends within a number")


def _decoded(text: str) -> dict[int, int]:
    """The counts by place. ValueError where the text is not a histogram of this layout."""
    try:
        data = base64.b64decode(text, validate=True)
        mark, length = _WRAPPER.unpack_from(data)
        if mark != _COMPRESSED or length != len(data) - _WRAPPER.size:
            raise ValueError("it is not in HdrHistogram's V2 form")
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(data[_WRAPPER.size :], _MOST_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise ValueError("it is cut off, or too long")
        mark, length, offset, digits, lowest, highest, _ = _HEADER.unpack_from(plain)
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"it can't be unpacked: {error}") from error
    if (mark, length) != (_PLAIN, len(plain) - _HEADER.size):
        raise ValueError("it is not in HdrHistogram's V2 form")
    if (offset, digits, lowest, highest) != (0, SIGNIFICANT_DIGITS, LOWEST_US, HIGHEST_US):
        raise ValueError("its values have other limits or another precision")
    counts: dict[int, int] = {}
    place = 0
    for number in _read_numbers(plain[_HEADER.size :]):
        if number < 0:
            place -= number
        else:
            if place >= _PLACES:
                raise ValueError("it has more counts than sizes")
            if number:
                counts[place] = number
            place += 1
    return counts
