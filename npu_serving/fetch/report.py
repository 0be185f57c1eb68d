"""What a fetch or an import did, for people and for --json, and the errors for what could not be fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.console import amount_text, duration_text, table
from npu_serving.errors import FetchError, NpuServingError, PinMismatchError
from npu_serving.fetch.transfer import WantedFile

IMPORT_CURE = "download them by hand, under any name, and import the directory: ./inv fetch-deps --import DIR"


@dataclass(frozen=True)
class FileReport:
    """One file that came in. `mirror` is the user's mirror or the host; `retries` counts tries that failed before."""

    label: str
    file_name: str
    sha256: str
    size_bytes: int
    fetched_bytes: int
    """What this run downloaded; less than the size when an earlier run had downloaded a part."""
    seconds: float
    mirror: str
    url: str
    retries: int
    healed: bool = False

    def to_json(self) -> dict[str, object]:
        """For --json."""
        return dict(vars(self))


@dataclass(frozen=True)
class Failure:
    """A file that could not be fetched: what each source answered, and whether wrong bytes came."""

    wanted: WantedFile
    answers: tuple[tuple[str, str], ...]
    wrong_bytes: bool
    fetched_bytes: int = 0
    """What this run downloaded; it is kept for the next run unless the bytes were wrong."""
    seconds: float = 0.0
    retries: int = 0
    healable_from: str = ""
    """The URL whose wrong bytes were set aside, because the right ones may be made from them."""

    def to_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "label": self.wanted.label,
            "file_name": self.wanted.file_name,
            "sha256": self.wanted.sha256,
            "answers": [{"url": url, "answer": answer} for url, answer in self.answers],
            "wrong_bytes": self.wrong_bytes,
            "fetched_bytes": self.fetched_bytes,
            "seconds": self.seconds,
            "retries": self.retries,
        }


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did. `present` were in the store already; `unpinned` have no sha256 and were skipped."""

    fetched: tuple[FileReport, ...]
    present: tuple[str, ...]
    unpinned: tuple[str, ...]
    seconds: float
    failed: tuple[Failure, ...] = ()
    """Those that could not be fetched; the fetch has raised an error then."""

    @property
    def fetched_bytes(self) -> int:
        """The bytes that were downloaded."""
        return sum(file.fetched_bytes for file in self.fetched) + sum(file.fetched_bytes for file in self.failed)

    def to_json(self) -> dict[str, object]:
        """For --json: sizes in bytes, times in seconds."""
        return {
            "fetched": [file.to_json() for file in self.fetched],
            "failed": [file.to_json() for file in self.failed],
            "present": list(self.present),
            "unpinned": list(self.unpinned),
            "fetched_bytes": self.fetched_bytes,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """A line for the total, and one for each file that came in."""
        total = len(self.fetched) + len(self.present)
        if not self.fetched:
            head = f"All {total} files were already here; nothing was fetched."
        else:
            head = (
                f"{len(self.fetched)} of {total} files fetched and verified: "
                f"{amount_text(self.fetched_bytes, 'bytes')} in {duration_text(self.seconds)}"
            )
        rows: list[tuple[str, ...]] = [
            (
                f"  {file.label}",
                amount_text(file.size_bytes, "bytes"),
                duration_text(file.seconds),
                file.mirror + (f", after {file.retries} failed tries" if file.retries else ""),
                "recreated from a recompressed archive" if file.healed else "",
            )
            for file in self.fetched
        ]
        notes = [f"Skipped {name}: no sha256 is pinned for it." for name in self.unpinned]
        return "\n".join(part for part in (head, table(rows), *notes) if part)


def offline_error(missing: Sequence[WantedFile]) -> FetchError:
    """The error for files that are missing while no connection may be opened; it names every one."""
    lines = [f"{_count(missing)} missing, and --offline forbids fetching:"]
    for wanted in missing:
        lines.append(f"  {wanted.file_name}  ({wanted.label}, sha256 {wanted.sha256})")
        lines += [f"      {url}" for url in wanted.urls]
    return FetchError(
        "\n".join(lines),
        cause="they were never fetched on this machine, or build_root names a different store",
        cure=f"run ./inv fetch-deps on a machine with network access and copy its store here; or {IMPORT_CURE}",
    )


def failure_error(report: FetchReport, *, offline: bool = False) -> NpuServingError:
    """The error for files that no source had: PinMismatchError if wrong bytes came for one, else FetchError."""
    error = _failure_error(report, offline)
    error.details = report.to_json()
    return error


def _failure_error(report: FetchReport, offline: bool) -> NpuServingError:
    failures = report.failed
    if offline and not any(failure.wrong_bytes for failure in failures):
        return offline_error([failure.wanted for failure in failures])
    kept = f" {len(report.fetched)} others were fetched and are kept." if report.fetched else ""
    lines = [f"Could not fetch {'1 file' if len(failures) == 1 else f'{len(failures)} files'}.{kept}"]
    for failure in failures:
        lines.append(f"  {failure.wanted.file_name}  ({failure.wanted.label}, sha256 {failure.wanted.sha256})")
        lines += [f"      {url}: {answer}" for url, answer in failure.answers]
    if any(failure.wrong_bytes for failure in failures):
        return PinMismatchError(
            "\n".join(lines),
            cause="the mirror has a different file at that URL, or a proxy answered in its place",
            cure=f"run the same command with another mirror: --mirror URL; or {IMPORT_CURE}",
        )
    return FetchError(
        "\n".join(lines),
        cause="no network, a proxy that isn't set (https_proxy), or the files have moved",
        cure="run the same command again: it resumes where it stopped; or name a mirror with --mirror URL; "
        f"or {IMPORT_CURE}",
    )


def _count(files: Sequence[WantedFile]) -> str:
    return "1 file is" if len(files) == 1 else f"{len(files)} files are"
