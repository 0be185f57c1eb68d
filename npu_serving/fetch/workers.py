"""The work of one fetch: threads that take files from a queue, and for each file the places tried in turn."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from npu_serving import fsutil
from npu_serving.console import Progress, Reporter, amount_text
from npu_serving.fetch import heal
from npu_serving.fetch.attempts import OTHER_RUN, Attempts, Shared, Watch, report_of
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.http import new_session
from npu_serving.fetch.mirrors import Candidate, HostRecord, Places
from npu_serving.fetch.partial_file import OTHER_SUFFIX, claimed
from npu_serving.fetch.report import Failure, FileReport
from npu_serving.fetch.transfer import Cancelled, WantedFile
from npu_serving.fetch.tuning import Tuning

SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_TO_STOP = 3.0


class _InFlight:
    """A file that is coming in, as the person sees it."""

    def __init__(self, wanted: WantedFile, on_bytes: Callable[[int], None]) -> None:
        self._wanted = wanted
        self._on_bytes = on_bytes
        self._guard = threading.Lock()  # the ranges of a file come in by several threads
        self._began = time.monotonic()
        self._done_bytes = 0
        self._host = ""

    def came(self, size_bytes: int) -> None:
        with self._guard:
            self._done_bytes += size_bytes
        self._on_bytes(size_bytes)

    def asks(self, host: str) -> None:
        self._host = host

    def text(self) -> str:
        """Its name, how much is there, how fast it comes, and from where."""
        size, done = self._wanted.size_bytes, max(self._done_bytes, 0)
        of = f" of {amount_text(size, 'bytes')} ({100 * done // max(size, 1)}%)" if size is not None else ""
        rate = done / max(time.monotonic() - self._began, SECONDS_BETWEEN_UPDATES)
        return (
            f"{self._wanted.file_name}  {amount_text(done, 'bytes')}{of}  {amount_text(rate, 'bytes')}/s  {self._host}"
        )


class Run:
    """One fetch of many files. After work() and heal(), each is among `fetched` or `failures`."""

    def __init__(self, missing: Sequence[WantedFile], store: ContentStore, places: Places, tuning: Tuning) -> None:
        connections = tuning.files_at_once * (1 + tuning.ranges_at_once)
        self._missing = missing
        self._shared = Shared(store, places, tuning, new_session(connections), HostRecord(), threading.Event())
        self._guard = threading.Lock()
        self._in_flight: dict[str, _InFlight] = {}
        self._done_bytes = 0
        self._fatal: BaseException | None = None
        self.fetched: list[FileReport] = []
        self.failures: list[Failure] = []

    def work(self, progress: Progress) -> None:
        """Tries all files. Raises what makes going on pointless, such as DiskFullError."""
        waiting: queue.SimpleQueue[WantedFile] = queue.SimpleQueue()
        # The largest first: a large one begun last would be waited for alone.
        for wanted in sorted(self._missing, key=lambda item: -(item.size_bytes or 0)):
            waiting.put(wanted)
        count = min(self._shared.tuning.files_at_once, len(self._missing))
        threads = [threading.Thread(target=self._worker, args=(waiting,), daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            while alive := [thread for thread in threads if thread.is_alive()]:
                alive[0].join(SECONDS_BETWEEN_UPDATES)
                self._show(progress)
        except BaseException:
            self._stop(threads)
            raise
        finally:
            self._shared.session.close()
        if self._fatal is not None:
            raise self._fatal

    def heal(self, reporter: Reporter) -> None:
        """Makes the right bytes from archives that were only recompressed, for files that no source had with the right
        bytes.

        Apart from work() because it starts gzip, which must not be done beside other threads.
        """
        for failure in list(self.failures):
            other = self._shared.store.partial / (failure.wanted.sha256 + OTHER_SUFFIX)
            if not failure.wrong_bytes or not other.exists():
                continue
            began = time.monotonic()
            with fsutil.scratch_directory(self._shared.store.partial) as scratch:
                healed = heal.heal(other, failure.wanted.sha256.__eq__, scratch)
                other.unlink(missing_ok=True)
                if healed is None:
                    continue
                self._shared.store.take_verified(healed, failure.wanted.sha256)
            reporter.note(f"{failure.wanted.file_name} had been recompressed; the pinned bytes were recreated from it")
            self.failures.remove(failure)
            place = Candidate(failure.healable_from)
            seconds = time.monotonic() - began
            self.fetched.append(report_of(self._shared.store, failure.wanted, place, seconds=seconds, healed=True))

    def _stop(self, threads: Sequence[threading.Thread]) -> None:
        self._shared.cancelled.set()
        deadline = time.monotonic() + SECONDS_TO_STOP
        for thread in threads:
            with contextlib.suppress(RuntimeError):  # one that was never started
                thread.join(max(0.0, deadline - time.monotonic()))

    def _show(self, progress: Progress) -> None:
        with self._guard:
            done, finished = self._done_bytes, len(self.fetched)
            under_way = [file.text() for file in self._in_flight.values()]
        progress.update(max(done, 0), detail=f"{finished} of {len(self._missing)} files", under_way=under_way)

    def _count(self, size_bytes: int) -> None:
        with self._guard:
            self._done_bytes += size_bytes

    def _worker(self, waiting: queue.SimpleQueue[WantedFile]) -> None:
        while not self._shared.cancelled.is_set():
            try:
                wanted = waiting.get_nowait()
            except queue.Empty:
                return
            with self._guard:
                file = self._in_flight[wanted.sha256] = _InFlight(wanted, self._count)
            try:
                self._fetch_one(wanted, file)
            except Cancelled:
                return
            except BaseException as error:  # a full disk, a store that can't be written: the others would fail too
                self._fatal = self._fatal or error
                self._shared.cancelled.set()
                return
            finally:
                with self._guard:
                    self._in_flight.pop(wanted.sha256, None)

    def _fetch_one(self, wanted: WantedFile, watch: Watch) -> None:
        store = self._shared.store
        with claimed(
            store.partial / wanted.sha256,
            done_elsewhere=store.path(wanted.sha256).exists,
            cancelled=self._shared.cancelled,
        ) as partial:
            if partial is None:
                if self._shared.cancelled.is_set():
                    raise Cancelled
                self.fetched.append(report_of(store, wanted, OTHER_RUN))
                return
            outcome = Attempts(self._shared, wanted, partial, watch).fetch()
        if isinstance(outcome, FileReport):
            self.fetched.append(outcome)
        else:
            self.failures.append(outcome)
