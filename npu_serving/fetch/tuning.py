"""How patient fetching is: rounds, backoff, timeouts, ranges, how many files at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """How patient the engine is. The defaults are for the internet; tests use shorter ones."""

    files_at_once: int = 16
    rounds: int = 5
    """How often all places are tried that failed in a way that may pass."""
    backoff_s: float = 1.0
    """The pause before the second round; it doubles from round to round."""
    outage_s: float = 10.0
    """Hosts that couldn't be reached for that long, over several tries, are not waited for any more."""
    connect_timeout_s: float = 15.0
    silence_timeout_s: float = 30.0
    """A connection that is silent for that long is closed; the file is fetched from elsewhere."""
    slowest_bytes_per_s: float = 1024.0
    """One slower than this over a whole silence_timeout_s is given up as well."""
    ranges_from_bytes: int = 8 << 20
    """Files from this size on are fetched in several ranges at once."""
    range_bytes: int = 4 << 20
    ranges_at_once: int = 8
