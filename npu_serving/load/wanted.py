"""What a person types of a load: times with units, one level or a range of them, arrivals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from npu_serving.errors import RequestError
from npu_serving.load.arrivals import CONSTANT, LINE, POISSON, RECORDED, STEP, Schedule, Stage
from npu_serving.shown_text import in_a_line

MOST_LEVELS = 50
MOST_CONCURRENCY = 10_000
MOST_RATE = 1_000_000.0
MOST_SECONDS = 86_400.0
_TIME = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(us|ms|s|m|h)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_LEAST = 1e-6
_LATENCIES = frozenset({"--p99"})
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_STAGE = re.compile(r"(.+)@(.+)")


def seconds_of(text: str, flag: str, *, least: float = _LEAST) -> float:
    """The time in `text`, such as 20ms, 2s, 1.5 or 10m; without a unit in seconds. RequestError for anything else.

    A latency needs its unit: whoever writes 20 means milliseconds, and would get 20 seconds.
    """
    found = _TIME.fullmatch(text.strip())
    if found and found[2] is None and flag in _LATENCIES:
        number = in_a_line(text.strip())
        raise RequestError(f"{flag} {number} has no unit.", cure=f"write {flag} {number}ms, or with us or s")
    value = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not least <= value <= MOST_SECONDS:
        raise RequestError(
            f"{flag} can't be {in_a_line(text)!r}.",
            cause=f"it is a time {'above 0' if least <= _LEAST else f'from {least:g} s'}, and of a day at most",
            cure=f"write it like {flag} 2s; us, ms, s, m and h are known",
        )
    return value


def concurrencies_of(text: str) -> tuple[int, ...]:
    """The numbers in 8, 1,2,4, 1:16:4 or 1:16:x2. RequestError for anything else."""
    found = _levels(text, "--concurrency")
    if any(value != int(value) or not 1 <= value <= MOST_CONCURRENCY for value in found):
        raise _not_levels(text, "--concurrency", f"each is a whole number from 1 to {MOST_CONCURRENCY:,}")
    return tuple(int(value) for value in found)


def rates_of(text: str) -> tuple[float, ...]:
    """The rates in 200, 50,100, 100:500:100 or 50:800:x2, in requests a second. RequestError for anything else."""
    found = _levels(text, "--rate")
    if any(not 0 < value <= MOST_RATE for value in found):
        raise _not_levels(text, "--rate", f"each is more than 0 and at most {MOST_RATE:,.0f} a second")
    return found


def bounds_of(text: str) -> tuple[float, float | None]:
    """Where a search for a rate begins, and where it ends: 100, or 100:2000."""
    first, _, last = text.partition(":")
    found = [rates_of(part)[0] for part in (first, last) if part]
    if (
        not found
        or (len(found) > 1 and found[1] <= found[0])
        or any("," in part or ":" in part for part in (first, last))
    ):
        raise RequestError(
            f"--rate {in_a_line(text)!r} says not where to search.",
            cause="with --search it is the rate to begin with, or the lowest and the highest",
            cure="write it like --rate 100:2000",
        )
    return found[0], found[1] if len(found) > 1 else None


def schedule_of(text: str, rate: float | None, *, seed: int = 0) -> Schedule:
    """The arrivals: constant or poisson at `rate`, step:100@10s,500@10s, line:10..500@30s. RequestError for others."""
    kind, _, rest = text.partition(":")
    if kind in (CONSTANT, POISSON) and not rest:
        assert rate is not None
        return Schedule(kind, rate=rate, seed=seed)
    readers: dict[str, Callable[[str], Stage | None]] = {STEP: _step, LINE: _line}
    stages = [readers[kind](part) for part in rest.split(",")] if kind in readers else []
    whole = tuple(stage for stage in stages if stage is not None)
    if not stages or len(whole) < len(stages):
        raise RequestError(
            f"--arrivals can't be {in_a_line(text)!r}.",
            cause="it is constant, poisson, step with rates and times, or line with a first and a last rate and a time",
            cure="write it like --arrivals poisson, --arrivals step:100@10s,500@10s or --arrivals line:10..500@30s",
        )
    if not sum(stage.requests for stage in whole) >= 1:
        raise RequestError(
            f"--arrivals {in_a_line(text)!r} has no request in it.", cure="give it a higher rate, or more time"
        )
    return Schedule(kind, stages=whole)


def has_own_rate(arrivals: str) -> bool:
    """Whether these arrivals say how many requests come, so that a rate beside them would have no effect.

    RequestError for others.
    """
    if arrivals in ("", CONSTANT, POISSON):
        return False
    if arrivals != RECORDED:
        schedule_of(arrivals, None)
    return True


def _step(part: str) -> Stage | None:
    return _stage(part, lambda rates: (rates, rates))


def _line(part: str) -> Stage | None:
    def both(rates: str) -> tuple[str, str]:
        first, _, last = rates.partition("..")
        return first, last

    return _stage(part, both)


def _stage(part: str, rates_in: Callable[[str], tuple[str, str]]) -> Stage | None:
    found = _STAGE.fullmatch(part.strip())
    if found is None:
        return None
    first, last = rates_in(found[1])
    if not _NUMBER.fullmatch(first) or not _NUMBER.fullmatch(last):
        return None
    rates = float(first), float(last)
    try:
        seconds = seconds_of(found[2], "--arrivals", least=1e-3)
    except RequestError:
        return None
    return Stage(seconds, *rates) if 0 < max(rates) <= MOST_RATE else None


def _levels(text: str, flag: str) -> tuple[float, ...]:
    shape = "it is a number, several with commas, or FIRST:LAST:STEP with a step to add, or :x2 to multiply by"
    if ":" not in text:
        parts = text.split(",")
        if not all(_NUMBER.fullmatch(part.strip()) for part in parts):
            raise _not_levels(text, flag, shape)
        return tuple(float(part) for part in parts)
    parts = text.split(":")
    step = parts[2] if len(parts) == 3 else "x2" if len(parts) == 2 else ""
    multiplies = step[:1] == "x"
    if not all(_NUMBER.fullmatch(part) for part in (*parts[:2], step[multiplies:])):
        raise _not_levels(text, flag, shape)
    first, last, by = float(parts[0]), float(parts[1]), float(step[multiplies:])
    if first > last or first <= 0 or by <= (1 if multiplies else 0):
        raise _not_levels(text, flag, "it goes up from the first to the last number")
    count = math.log(last / first) / math.log(by) if multiplies else (last - first) / by
    if count >= MOST_LEVELS:
        raise _not_levels(text, flag, f"these are more than {MOST_LEVELS} levels")
    return tuple(
        round(first * by**at if multiplies else first + by * at, 6) for at in range(math.floor(count + 1e-9) + 1)
    )


def _not_levels(text: str, flag: str, why: str) -> RequestError:
    return RequestError(f"{flag} can't be {in_a_line(text)!r}.", cause=why, cure=f"write it like {flag} 1:16:x2")
