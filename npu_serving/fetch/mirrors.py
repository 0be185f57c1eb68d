"""Where a file may come from: the mirrors a user named, then the URLs the tree declares, in the order to try them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from npu_serving.errors import RequestError
from npu_serving.lock.lockfile import file_name_of, url_problem
from npu_serving.shown_text import shown_url

_REWRITE = re.compile(r"(?P<new>.+?)=(?P<old>https?://.*)")
_FAILURES_TO_BE_LAST = 3
_FILES_TO_BE_JUDGED = 2
_SLOWER_BY = 4.0
_CRAWLING_BYTES_PER_S = 50e3
_SECONDS_TO_CALL_IT_CRAWLING = 20.0


@dataclass(frozen=True)
class Mirror:
    """A mirror as the user named it: a base URL, or (with `instead_of`) the new beginning of certain URLs."""

    base: str
    instead_of: str = ""

    def urls_for(self, urls: Iterable[str], sha256: str) -> Iterable[str]:
        """Where this mirror may have the file that is declared with `urls`, the likeliest place first."""
        declared = list(urls)
        if self.instead_of:
            return [self.base + url[len(self.instead_of) :] for url in declared if url.startswith(self.instead_of)]
        base = self.base.rstrip("/") + "/"
        by_path = [base + host_and_path(url) for url in declared]
        by_name = [base + quote(file_name_of(url), safe="%") for url in declared[:1]]
        if not base.startswith("file:"):
            return [*by_path, *by_name]
        return [*by_name, base + sha256, f"{base}content_addressable/sha256/{sha256}/file", *by_path]


@dataclass(frozen=True)
class Candidate:
    """One URL to try. `mirror` is the user's mirror that it belongs to, empty for a URL that the tree declares."""

    url: str
    mirror: str = ""

    @property
    def host(self) -> str:
        """The host and port, or the directory of a file:// mirror: what gets fast or slow, or goes down, as a whole."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2] if parts.scheme != "file" else self.mirror


def parse_mirror(text: str) -> Mirror:
    """A mirror from a flag or from invoke.yaml: `https://base/`, `file:///dir` or `NEW=OLD`. Raises RequestError."""
    rewrite = _REWRITE.fullmatch(text)
    mirror = Mirror(rewrite["new"], rewrite["old"]) if rewrite else Mirror(text)
    if _is_base(mirror.base) and not re.search(r"[\x00-\x20]", text):
        return mirror
    raise RequestError(
        f"--mirror must be a URL or NEW=OLD, not {shown_url(text)!r}.",
        cause="a mirror is the URL of a directory, or NEW=OLD with two beginnings of URLs",
        cure="write it like https://my.mirror/dir/, file:///srv/archives (a space as %20), or "
        "https://my.mirror/=https://github.com/",
    )


def _is_base(url: str) -> bool:
    if url.startswith("file:///"):
        return True
    return url.startswith(("http://", "https://")) and not url_problem(url)


@dataclass(frozen=True)
class Places:
    """Where files may come from: mirrors, then (unless `only_local`, or `only_mirrors`) the declared URLs."""

    mirrors: Sequence[Mirror] = ()
    only_local: bool = False
    """Take files from file:// mirrors and open no connection."""
    only_mirrors: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anywhere to look at all."""
        return not self.only_local or any(mirror.base.startswith("file:") for mirror in self.mirrors)

    def candidates(self, urls: Sequence[str], sha256: str) -> tuple[Candidate, ...]:
        """Every URL to try for a file, each once: the mirrors in the order given, then the declared URLs in theirs."""
        found = [Candidate(url, mirror.base) for mirror in self.mirrors for url in mirror.urls_for(urls, sha256)]
        found += [] if self.only_mirrors else [Candidate(url) for url in urls]
        once: dict[str, Candidate] = {}
        for candidate in found:
            if not self.only_local or candidate.url.startswith("file:"):
                once.setdefault(candidate.url, candidate)
        return tuple(once.values())


def places_of(mirrors: Iterable[str], *, offline: bool = False, only_mirrors: bool = False) -> Places:
    """The places that mirrors of flags or of invoke.yaml give. Raises RequestError for what isn't a mirror."""
    return Places([parse_mirror(text) for text in mirrors], only_local=offline, only_mirrors=only_mirrors)


def local_path(url: str) -> str:
    """The path that a file:// URL names."""
    return unquote(urlsplit(url).path)


class HostRecord:
    """What a run has learned about hosts: which are down, and how fast they are. Threads share one."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._failures: dict[str, int] = {}
        self._failing_since: dict[str, float] = {}
        self._fetched: dict[str, tuple[int, float, float]] = {}  # files, bytes, seconds

    def failed(self, host: str) -> None:
        """A connection to the host was refused, timed out, or its name is unknown."""
        with self._guard:
            self._failures[host] = self._failures.get(host, 0) + 1
            self._failing_since.setdefault(host, time.monotonic())

    def delivered(self, host: str, size_bytes: int, seconds: float) -> None:
        """The host delivered a file."""
        with self._guard:
            self._failures.pop(host, None)
            self._failing_since.pop(host, None)
            files, total, spent = self._fetched.get(host, (0, 0.0, 0.0))
            self._fetched[host] = (files + 1, total + size_bytes, spent + seconds)

    def all_gone(self, found: Iterable[Candidate], outage_s: float) -> bool:
        """Whether none of the hosts could be reached for so long: then there is no network, and no use in waiting."""
        now = time.monotonic()
        with self._guard:
            return all(
                self._failures.get(candidate.host, 0) >= _FAILURES_TO_BE_LAST
                and now - self._failing_since.get(candidate.host, now) >= outage_s
                for candidate in found
            )

    def order(self, found: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with hosts that seem down put last, and much slower ones after the others; one that only
        crawls comes after those that nobody has tried yet.

        A user's mirrors stay before the declared URLs however slow they are: the user named them for a reason.
        """
        with self._guard:
            fastest = max((self._rate(candidate.host) for candidate in found), default=0.0)
            return sorted(found, key=lambda candidate: self._rank(candidate, fastest))

    def _rate(self, host: str) -> float:
        files, total, spent = self._fetched.get(host, (0, 0.0, 0.0))
        return total / spent if files >= _FILES_TO_BE_JUDGED and spent else 0.0

    def _rank(self, candidate: Candidate, fastest: float) -> tuple[bool, bool, bool, bool]:
        down = self._failures.get(candidate.host, 0) >= _FAILURES_TO_BE_LAST
        rate = self._rate(candidate.host)
        spent_s = self._fetched.get(candidate.host, (0, 0, 0.0))[2]
        crawls = 0 < rate < _CRAWLING_BYTES_PER_S and spent_s >= _SECONDS_TO_CALL_IT_CRAWLING
        return (down, not candidate.mirror, bool(rate) and rate * _SLOWER_BY < fastest, crawls)


def host_and_path(url: str) -> str:
    """A URL without its scheme, its login and its query: where a base mirror is asked for it."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
