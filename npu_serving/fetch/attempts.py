"""The attempts at one file: every place in turn, in rounds, until its bytes are the pinned ones or nothing is left."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from npu_serving.fetch import heal
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.http import Refusal
from npu_serving.fetch.mirrors import Candidate, HostRecord, Places
from npu_serving.fetch.partial_file import PartialFile
from npu_serving.fetch.report import Failure, FileReport
from npu_serving.fetch.transfer import Cancelled, Line, RangesLost, WantedFile, receive, restart
from npu_serving.fetch.tuning import Tuning
from npu_serving.shown_text import without_login

if TYPE_CHECKING:
    import requests

EARLIER_RUN = Candidate("", "an earlier run")
OTHER_RUN = Candidate("", "another run")
_RESUMES_IN_A_ROW = 50


@dataclass(frozen=True)
class Shared:
    """What all files of a run share."""

    store: ContentStore
    places: Places
    tuning: Tuning
    session: requests.Session
    hosts: HostRecord
    cancelled: threading.Event


class Watch(Protocol):
    """Who is kept informed of a file's progress."""

    def came(self, size_bytes: int) -> None:
        """That many bytes have arrived; a negative number when some have to be fetched again."""

    def asks(self, host: str) -> None:
        """From now on the file is fetched from this host (or directory)."""


class Attempts:
    """Everything that is tried for one file, and the result."""

    def __init__(self, shared: Shared, wanted: WantedFile, partial: PartialFile, watch: Watch) -> None:
        self._shared = shared
        self._wanted = wanted
        self._partial = partial
        self._watch = watch
        self._line = Line(shared.session, shared.tuning, self._count, shared.cancelled)
        self._began = time.monotonic()
        self._came_bytes = 0
        self._failed_tries = 0
        self._answers: dict[str, str] = {}
        self._dead: set[str] = set()
        self._was_short: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._wrong_bytes = False
        self._healable_from = ""

    def fetch(self) -> FileReport | Failure:
        """Tries every place, in rounds, until the file is in the store or nothing is left to try."""
        self._watch.came(self._partial.size_bytes)
        if self._is_right():
            return self._finish(EARLIER_RUN)
        tuning = self._shared.tuning
        places = self._shared.places.candidates(self._wanted.urls, self._wanted.sha256)
        for number in range(tuning.rounds):
            alive = [place for place in places if place.url not in self._dead]
            if not alive or (number and self._shared.hosts.all_gone(alive, tuning.outage_s)):
                break
            if number:
                self._pause(tuning.backoff_s * 2 ** (number - 1) * random.uniform(0.8, 1.2))  # noqa: S311
            for place in sorted(self._shared.hosts.order(alive), key=self._is_to_wait_for):
                self._pause(self._not_before.get(place.url, 0.0) - time.monotonic())
                if self._try(place):
                    return self._finish(place)
        if self._wrong_bytes:
            restart(self._partial, self._line)
        return Failure(
            wanted=self._wanted,
            answers=tuple(self._answers.items()),
            wrong_bytes=self._wrong_bytes,
            fetched_bytes=self._came_bytes,
            seconds=round(time.monotonic() - self._began, 3),
            retries=self._failed_tries,
            healable_from=self._healable_from,
        )

    def _try(self, place: Candidate) -> bool:
        """Whether the file is complete and right now. Goes on at the same place as long as each try adds bytes."""
        self._watch.asks(place.host)
        for _ in range(_RESUMES_IN_A_ROW):
            had_bytes = self._partial.size_bytes
            came_before, began = self._came_bytes, time.monotonic()
            try:
                receive(place, self._wanted, self._partial, self._line)
            except RangesLost as lost:
                self._refused(place, lost)
                restart(self._partial, self._line)
                self._partial.in_one_stream = True
            except Refusal as refusal:
                self._refused(place, refusal)
                if not refusal.passing or refusal.retry_after_s or self._partial.size_bytes <= had_bytes:
                    return False
            else:
                if self._is_right():
                    self._shared.hosts.delivered(place.host, self._came_bytes - came_before, time.monotonic() - began)
                    return True
                if not self._judge_wrong_bytes(place, resumed=had_bytes > 0):
                    return False
        return False

    def _refused(self, place: Candidate, refusal: Refusal) -> None:
        self._failed_tries += 1
        self._answers[without_login(place.url, instead="")] = refusal.reason
        if not refusal.passing:
            self._dead.add(place.url)
        if refusal.host_down:
            self._shared.hosts.failed(place.host)
        self._not_before[place.url] = time.monotonic() + refusal.retry_after_s

    def _judge_wrong_bytes(self, place: Candidate, *, resumed: bool) -> bool:
        """Notes what came instead of the file; True when it is worth fetching again from its beginning.

        It is when a beginning was there already, which may have come from another mirror, or in ranges, between two
        of which the file may have changed.
        """
        self._failed_tries += 1
        in_ranges = self._partial.total_bytes is not None
        what = heal.describe(self._partial.path, self._wanted.size_bytes)
        self._answers[without_login(place.url, instead="")] = f"wrong bytes: {what}; sha256 {self._partial.digest()}"
        if resumed or in_ranges:
            restart(self._partial, self._line)
            self._partial.in_one_stream = True
            return True
        self._wrong_bytes = True
        too_short = self._partial.size_bytes < (self._wanted.size_bytes or 0)
        if not too_short or place.url in self._was_short:  # what was truncated may come whole the next time
            self._dead.add(place.url)
        self._was_short.add(place.url)
        self._line.on_bytes(-self._partial.size_bytes)
        if heal.can_be_healed(self._partial.path) and not self._healable_from:
            self._partial.set_aside()
            self._healable_from = place.url
        else:
            self._partial.restart()
        return False

    def _is_right(self) -> bool:
        complete = self._partial.total_bytes in (None, self._partial.size_bytes)
        return complete and self._partial.size_bytes > 0 and self._partial.digest() == self._wanted.sha256

    def _finish(self, place: Candidate) -> FileReport:
        self._shared.store.take_verified(self._partial.path, self._wanted.sha256)
        self._partial.clear_away()
        return report_of(
            self._shared.store,
            self._wanted,
            place,
            fetched_bytes=self._came_bytes,
            seconds=time.monotonic() - self._began,
            retries=self._failed_tries,
        )

    def _count(self, size_bytes: int) -> None:
        self._came_bytes += max(size_bytes, 0)
        self._watch.came(size_bytes)

    def _is_to_wait_for(self, place: Candidate) -> bool:
        return self._not_before.get(place.url, 0.0) > time.monotonic()

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._shared.cancelled.wait(seconds)
        if self._shared.cancelled.is_set():
            raise Cancelled


def report_of(
    store: ContentStore,
    wanted: WantedFile,
    place: Candidate,
    *,
    fetched_bytes: int = 0,
    seconds: float = 0.0,
    retries: int = 0,
    healed: bool = False,
) -> FileReport:
    """The report on a file that is in the store now."""
    return FileReport(
        label=wanted.label,
        file_name=wanted.file_name,
        sha256=wanted.sha256,
        size_bytes=store.path(wanted.sha256).stat().st_size,
        fetched_bytes=fetched_bytes,
        seconds=round(seconds, 3),
        mirror=without_login(place.mirror, instead="") or place.host,
        url=without_login(place.url, instead=""),
        retries=retries,
        healed=healed,
    )
