"""A timer of the kernel that a selector can wait for: epoll and asyncio round to milliseconds, in which a fast model
answers several times.
"""

from __future__ import annotations

import ctypes
import functools
import os
from types import TracebackType

_CLOCK_MONOTONIC = 1
_NON_BLOCKING, _CLOSE_ON_EXEC = 0o4000, 0o2000000
_ABSOLUTE = 1
_NS = 1_000_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class PreciseTimer:
    """One timer (timerfd_create(2)): `fd` becomes readable at the time that it was set for."""

    def __init__(self) -> None:
        self.fd: int = _libc().timerfd_create(_CLOCK_MONOTONIC, _NON_BLOCKING | _CLOSE_ON_EXEC)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "a timer")
        self._spec = _TimerSpec()

    def set(self, at_ns: int) -> None:
        """For that time of time.monotonic_ns(); at once for one that is over. What it was set for before is dropped."""
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(at_ns, 1), _NS)
        _libc().timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(self._spec), None)

    def clear(self) -> None:
        """Takes note of it: `fd` is not readable until it is set again."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.fd)

    def __enter__(self) -> PreciseTimer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
