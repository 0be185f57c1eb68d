"""The checksums in TensorFlow's own files: CRC-32C, masked as crc32c.h does, since data may hold checksums itself."""

from __future__ import annotations

from google_crc32c import value as crc32c

_MASK = 0xA282EAD8  # what is kept is turned by 15 bits, and this added


def masked(checksum: int) -> int:
    """A checksum as it is kept."""
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum of the bytes, as it is kept."""
    return masked(crc32c(data))
