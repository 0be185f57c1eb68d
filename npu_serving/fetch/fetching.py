"""The fetch engine: many files at once, each verified, resumed and retried; the plan first, then the work.

Nothing is used unverified: a file gets its name in the store only when its sha256 is the pinned one, and no option
changes that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, Silent, amount_text
from npu_serving.errors import NpuServingError
from npu_serving.fetch.content_store import ELSEWHERE, ContentStore
from npu_serving.fetch.mirrors import Places, places_of
from npu_serving.fetch.report import FetchReport, failure_error, offline_error
from npu_serving.fetch.transfer import WantedFile
from npu_serving.fetch.tuning import Tuning
from npu_serving.fetch.workers import Run
from npu_serving.lock.lockfile import Archive
from npu_serving.shown_text import without_login


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch would do: the files that the store has, those to fetch, and those nobody pinned."""

    present: tuple[str, ...]
    missing: tuple[WantedFile, ...]
    unpinned: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """Files of the store that don't hold their bytes; they are among the missing ones, and fetch() replaces them."""
    tried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What would be asked for each missing file, by its sha256: in that order, without a password."""

    @property
    def missing_bytes(self) -> int:
        """The sum of the sizes that are known."""
        return sum(wanted.size_bytes or 0 for wanted in self.missing)

    def with_plan(self, other: FetchPlan) -> FetchPlan:
        """Both plans as one, each file with its own places."""
        return FetchPlan(
            present=(*self.present, *other.present),
            missing=(*self.missing, *other.missing),
            unpinned=(*self.unpinned, *other.unpinned),
            damaged=(*self.damaged, *other.damaged),
            tried={**self.tried, **other.tried},
        )

    def refuse_without_places(self) -> None:
        """FetchError for what is missing and may be looked for nowhere, as a fetch with --offline says it."""
        nowhere = [wanted for wanted in self.missing if not self.tried[wanted.sha256]]
        if nowhere:
            raise offline_error(nowhere)

    def to_json(self) -> dict[str, object]:
        """For --json --dry-run."""
        return {
            "present": list(self.present),
            "missing": [
                {
                    "name": wanted.label,
                    "file_name": wanted.file_name,
                    "sha256": wanted.sha256,
                    "size_bytes": wanted.size_bytes,
                    "urls": list(self.tried[wanted.sha256]),
                }
                for wanted in self.missing
            ],
            "unpinned": list(self.unpinned),
            "damaged": list(self.damaged),
            "missing_bytes": self.missing_bytes,
        }

    def text(self) -> str:
        """The plan for a person."""
        notes = [f"  {name} is in the store, but damaged" for name in self.damaged]
        notes += [f"  {name} is skipped: no sha256 is pinned for it" for name in self.unpinned]
        if not self.missing:
            return "\n".join([f"All {len(self.present)} files are already here; nothing to fetch.", *notes])
        unknown = sum(wanted.size_bytes is None for wanted in self.missing)
        size = amount_text(self.missing_bytes, "bytes") + (f" and {unknown} of unknown size" if unknown else "")
        return "\n".join(
            [f"{len(self.present)} files are already here; would fetch {len(self.missing)} ({size}):"]
            + [line for wanted in self.missing for line in self._lines(wanted)]
            + notes
        )

    def _lines(self, wanted: WantedFile) -> list[str]:
        first, *others = self.tried[wanted.sha256] or ("nowhere",)
        return [f"  {wanted.label}: {first}", *(f"      then {place}" for place in others)]


def wanted_from(archive: Archive) -> WantedFile:
    """The archive as the engine takes it; it has to have a sha256."""
    assert archive.sha256 is not None
    return WantedFile(archive.name, archive.file_name, archive.urls, archive.sha256, archive.size_bytes)


def plan_fetch(
    archives: Iterable[Archive | WantedFile], store: ContentStore, *, verify: bool = False, places: Places | None = None
) -> FetchPlan:
    """What is there and what has to be fetched. `verify` reads every file of the store again.

    `places` are those that the fetch will ask, by default the declared URLs alone.
    """
    pinned: dict[str, WantedFile] = {}
    unpinned: list[str] = []
    for item in archives:
        if isinstance(item, WantedFile):
            pinned.setdefault(item.sha256, item)
        elif item.sha256 is None:
            unpinned.append(item.name)
        else:
            pinned.setdefault(item.sha256, wanted_from(item))
    found = store.check(pinned, verify=verify)
    there = set(found.present)
    missing = tuple(wanted for sha256, wanted in pinned.items() if sha256 not in there)
    asked = places if places is not None else Places()
    return FetchPlan(
        present=tuple(wanted.label for sha256, wanted in pinned.items() if sha256 in there),
        missing=missing,
        unpinned=tuple(unpinned),
        damaged=tuple(pinned[sha256].label for sha256 in found.damaged),
        tried={wanted.sha256: _tried(wanted, asked) for wanted in missing},
    )


def _tried(wanted: WantedFile, places: Places) -> tuple[str, ...]:
    found = places.candidates(wanted.urls, wanted.sha256)
    of_mirrors = [item.url for item in found if item.mirror]
    declared = [item.url for item in found if not item.mirror]
    asked = [*of_mirrors, *([wanted.package] if wanted.package else []), *declared]
    return tuple(without_login(place, instead="") for place in asked)


def fetch(
    plan: FetchPlan,
    store: ContentStore,
    *,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    reporter: Reporter | None = None,
    tuning: Tuning | None = None,
) -> FetchReport:
    """Fetches what the plan misses into the store.

    All files are tried before anything is given up. With `offline` only file:// mirrors are asked. Raises FetchError
    (naming every file with its URLs) when some could not be fetched, PinMismatchError when wrong bytes came,
    DiskFullError, FileAccessError; the error's details are the report of what was done until then.
    """
    places = places_of(mirrors, offline=offline)
    report = try_fetch(plan, store, places, reporter=reporter, tuning=tuning)
    if report.failed:
        raise failure_error(report, offline=offline)
    return report


def try_fetch(
    plan: FetchPlan,
    store: ContentStore,
    places: Places,
    *,
    reporter: Reporter | None = None,
    tuning: Tuning | None = None,
) -> FetchReport:
    """As fetch(), from those places; the report has what none of them gave, in place of an error."""
    said = reporter if reporter is not None else Silent()
    started = time.monotonic()
    if not plan.missing:
        return FetchReport((), plan.present, plan.unpinned, time.monotonic() - started)
    if not places.any:
        raise offline_error(plan.missing)
    for name in plan.damaged:
        said.warn(f"{name} in the store is damaged; fetching it again")
    for wanted in plan.missing:
        store.remove_damaged(wanted.sha256)
    _check_space(plan, store)
    run = Run(plan.missing, store, places, tuning if tuning is not None else Tuning())

    def report() -> FetchReport:
        fetched, failed = sorted(run.fetched, key=lambda file: file.label), tuple(run.failures)
        return FetchReport(tuple(fetched), plan.present, plan.unpinned, time.monotonic() - started, failed)

    try:
        with said.progress("fetching", total=plan.missing_bytes or None, unit="bytes") as progress:
            run.work(progress)
        run.heal(said)
    except NpuServingError as error:
        error.details = report().to_json()
        raise
    return report()


def fetch_file(
    wanted: WantedFile,
    store: ContentStore,
    *,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """The verified file of that digest in the store, fetched if it isn't there. Raises like fetch()."""
    fetch(plan_fetch([wanted], store), store, mirrors=mirrors, offline=offline, reporter=reporter)
    return store.path(wanted.sha256)


def _check_space(plan: FetchPlan, store: ContentStore) -> None:
    begun = sum(_held_bytes(store.partial / wanted.sha256) for wanted in plan.missing)
    needed = max(plan.missing_bytes - begun, 0)
    fsutil.check_space(store.root, needed, what="The files to fetch", instead=ELSEWHERE)


def _held_bytes(partial: Path) -> int:
    """What a file occupies on the disk: one that comes in ranges has its full size from the beginning, with holes."""
    if not partial.is_file():
        return 0
    status = partial.stat()
    return min(status.st_size, status.st_blocks * 512)
