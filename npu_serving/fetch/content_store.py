"""The content store: fetched bytes under their sha256, in the layout of Bazel's repository cache, and the distdir.

A file is in the store only when its bytes were verified. Bazel is given both: `--repository_cache=<root>`, which
needs no names, and `--distdir`, which finds archives by name (Bazel 0.24.1 asks the cache first).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from npu_serving import fsutil
from npu_serving.errors import FileAccessError, PinMismatchError, RequestError
from npu_serving.lock.lockfile import SHA256, is_safe_file_name

MEMO_NAME = "memo.json"
PARTIAL_NAME = "partial"
PLACED_NAME = ".placed-by-npu-serving.json"
ELSEWHERE = "set build_root in invoke.yaml to a larger disk"
"""What to do about a disk that is too small for the store."""

_Fingerprint = tuple[int, int, int]  # size in bytes, mtime in ns, inode


class Placeable(Protocol):
    """What has a digest and a name in the distdir, such as an Archive."""

    @property
    def sha256(self) -> str | None:
        """The pinned digest."""

    @property
    def file_name(self) -> str:
        """The name that Bazel looks for."""


@dataclass(frozen=True)
class StoreCheck:
    """What the store has of the digests it was asked for. `damaged` ones were there, but no longer hold their bytes."""

    present: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """What place() did to a distdir: names that are new, that were replaced, that were left, that were taken away."""

    distdir: Path
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything in the distdir is different now."""
        return bool(self.added or self.replaced or self.removed)

    def to_json(self) -> dict[str, object]:
        """For --json: names only."""
        return {
            "distdir": str(self.distdir),
            "added": list(self.added),
            "replaced": list(self.replaced),
            "unchanged": list(self.unchanged),
            "removed": list(self.removed),
        }


class ContentStore:
    """Files by their sha256 below `root`. Two processes may use one store at once; threads may share one object.

    A memo of size, time and inode spares hashing a file again that nothing has touched since. Writing it is skipped
    where the store is read-only, so a read-only store can be used as long as nothing is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._guard = threading.Lock()
        self._memo: dict[str, _Fingerprint] = {}

    @property
    def partial(self) -> Path:
        """Where unfinished files are kept."""
        return self.root / PARTIAL_NAME

    def path(self, sha256: str) -> Path:
        """Where the file of that digest is, or would be."""
        if not SHA256.fullmatch(sha256):
            raise RequestError(
                f"{sha256!r} is not a sha256: it must be 64 lower-case hexadecimal digits.",
                cure="copy the whole digest that sha256sum prints",
            )
        return self.root / "content_addressable" / "sha256" / sha256 / "file"

    def has(self, sha256: str, *, verify: bool = False) -> bool:
        """Whether the store holds these bytes; `verify` reads them again."""
        return sha256 in self.check([sha256], verify=verify).present

    def check(self, digests: Iterable[str], *, verify: bool = False) -> StoreCheck:
        """Which of these digests the store holds. It only looks: damaged files stay where they are."""
        with self._guard:
            memo = self._load_memo()
            asked = list(dict.fromkeys(digests))
            now = {sha256: seen for sha256 in asked if (seen := self._fingerprint_of(sha256)) is not None}
            doubtful = [sha256 for sha256, seen in now.items() if verify or memo.get(sha256) != seen]
            found = dict(zip(doubtful, _digests_of([self.path(sha256) for sha256 in doubtful])))
            right = {sha256: seen for sha256, seen in now.items() if found.get(sha256, sha256) == sha256}
            if any(memo.get(sha256) != right.get(sha256) for sha256 in asked):
                self._save_memo({**{key: seen for key, seen in memo.items() if key not in asked}, **right})
        damaged = tuple(sha256 for sha256 in doubtful if found[sha256] not in (None, sha256))
        missing = tuple(sha256 for sha256 in asked if sha256 not in right and sha256 not in damaged)
        return StoreCheck(tuple(right), missing, damaged)

    def open_verified(self, sha256: str) -> IO[bytes] | None:
        """The file of that digest, open for reading; None where the store doesn't hold these bytes, or by a link."""
        try:
            file = os.fdopen(os.open(self.path(sha256), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb", buffering=0)
        except OSError:  # it isn't there, or is a link
            return None
        if self.has(sha256) and _fingerprint(os.fstat(file.fileno())) == self._fingerprint_of(sha256):
            return file
        file.close()
        return None

    def adopt(self, file: Path, sha256: str) -> Path:
        """Copies a file in and returns its place; PinMismatchError unless it has that sha256."""
        if self.has(sha256):
            return self.path(sha256)
        with fsutil.scratch_directory(self.partial) as scratch:
            copy = scratch / "copy"
            fsutil.copy_file(file, copy, mode=0o644)
            found = fsutil.sha256_of(copy)  # of the copy: the original may be written to meanwhile
            if found != sha256:
                raise _mismatch(file, found, sha256)
            return self.take_verified(copy, sha256)

    def take_verified(self, file: Path, sha256: str) -> Path:
        """Renames a file whose bytes the caller has just hashed into its place, and remembers it."""
        place = self.path(sha256)
        fsutil.make_directory(place.parent)
        with fsutil.explained(place):
            file.chmod(0o644)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            os.replace(file, place)
        self.remember(sha256)
        return place

    def remember(self, sha256: str) -> None:
        """Notes that the file of that digest was verified just now."""
        with self._guard:
            memo = self._load_memo()
            memo[sha256] = _fingerprint(os.stat(self.path(sha256)))
            self._save_memo(memo)

    def remove_damaged(self, sha256: str) -> bool:
        """Removes the file of that digest if it doesn't hold these bytes; True if it was removed.

        Another run may put right bytes there at any moment, so the file is renamed first and judged after that: what
        turns out to be right goes back. Raises FileAccessError where the store can't be written.
        """
        place = self.path(sha256)
        if not place.exists() or _digest_unless_gone(place) in (None, sha256):
            return False
        with fsutil.explained(place, doing="removed"), fsutil.scratch_directory(self.partial) as scratch:
            taken = scratch / "damaged"
            try:
                os.rename(place, taken)
            except FileNotFoundError:
                return False
            if fsutil.sha256_of(taken) == sha256:
                os.replace(taken, place)
                return False
        return True

    def place(self, archives: Iterable[Placeable], distdir: Path) -> Placement:
        """Gives the archives that the store holds their names in `distdir`: hard links, or copies where none reach.

        An entry with other bytes is replaced. Names that an earlier run placed and that are not wanted any more are
        taken away; files that somebody else put there stay.
        """
        wanted = {archive.file_name: archive.sha256 for archive in archives if archive.sha256 is not None}
        held = set(self.check(wanted.values()).present)
        earlier = _read_placed(distdir)
        added: list[str] = []
        replaced: list[str] = []
        unchanged: list[str] = []
        for name, sha256 in sorted(wanted.items()):
            if sha256 not in held:
                continue
            if not is_safe_file_name(name):
                raise RequestError(
                    f"{name!r} can't be used as a file name in {distdir}.", cure="correct the archive's URL in its lock"
                )
            target = distdir / name
            before = target.exists() or target.is_symlink()
            changed = self._place_one(sha256, target, earlier.get(name))
            (unchanged if not changed else replaced if before else added).append(name)
        stale = [name for name, entry in earlier.items() if name not in wanted and self._is_ours(distdir / name, entry)]
        for name in stale:
            fsutil.remove(distdir / name)
        placement = Placement(distdir, tuple(added), tuple(replaced), tuple(unchanged), tuple(sorted(stale)))
        self._write_placed(distdir, {name: wanted[name] for name in (*added, *replaced, *unchanged)}, earlier)
        return placement

    # ---- within

    def _place_one(self, sha256: str, target: Path, earlier: _Placed | None) -> bool:
        source = self.path(sha256)
        if target.is_dir() and not target.is_symlink():
            raise RequestError(
                f"{target} is a directory, but an archive of that name belongs there.",
                cure=f"move {target} away, then run the same command again",
            )
        if target.is_symlink():
            fsutil.remove(target)
        if target.exists() and not target.samefile(source):
            same_copy = earlier is not None and earlier.sha256 == sha256 and self._is_ours(target, earlier)
            if same_copy:
                return False
        return fsutil.link_or_copy(source, target)

    def _is_ours(self, path: Path, entry: _Placed) -> bool:
        """Whether the file there is the one that was placed: untouched since, or still a link to the store.

        (Bazel touches a file of the cache when it uses it, so the time alone says little.)
        """
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            return _fingerprint(status) == entry.was or os.path.samestat(status, os.stat(self.path(entry.sha256)))
        return False

    def _write_placed(self, distdir: Path, names: Mapping[str, str], earlier: Mapping[str, _Placed]) -> None:
        if not names and not earlier:
            return
        document = {
            name: {"sha256": sha256, "was": list(_fingerprint(os.stat(distdir / name)))}
            for name, sha256 in sorted(names.items())
        }
        fsutil.write_file(distdir / PLACED_NAME, json.dumps(document, indent=1) + "\n")

    def _fingerprint_of(self, sha256: str) -> _Fingerprint | None:
        place = self.path(sha256)
        try:
            return _fingerprint(os.stat(place))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise fsutil.as_error(error, place, doing="read") from error

    def _load_memo(self) -> dict[str, _Fingerprint]:
        """What this run or, by the file, another one knows. A file that can't be read costs hashing only."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            document = json.loads((self.root / MEMO_NAME).read_text(encoding="utf-8"))
            return {**{str(key): (int(a), int(b), int(c)) for key, (a, b, c) in document.items()}, **self._memo}
        return dict(self._memo)

    def _save_memo(self, memo: dict[str, _Fingerprint]) -> None:
        self._memo = memo
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix=".memo.", dir=self.root)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(memo, file)
                os.replace(name, self.root / MEMO_NAME)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)


@dataclass(frozen=True)
class _Placed:
    sha256: str
    was: tuple[int, ...]


def _read_placed(distdir: Path) -> dict[str, _Placed]:
    try:
        document = json.loads((distdir / PLACED_NAME).read_text(encoding="utf-8"))
        return {
            name: _Placed(entry["sha256"], tuple(entry["was"]))
            for name, entry in document.items()
            if is_safe_file_name(name) and SHA256.fullmatch(entry["sha256"])
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _digests_of(files: Sequence[Path]) -> list[str | None]:
    """The digest of each file, None for one that is gone; several at once, since hashing leaves other threads alone."""
    if len(files) < 2:
        return [_digest_unless_gone(file) for file in files]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_digest_unless_gone, files))


def _digest_unless_gone(file: Path) -> str | None:
    """The sha256 of a file, or None when another run has just taken it away."""
    try:
        return fsutil.sha256_of(file)
    except FileAccessError:
        if file.exists():
            raise
        return None


def _fingerprint(status: os.stat_result) -> _Fingerprint:
    return (status.st_size, status.st_mtime_ns, status.st_ino)


def _mismatch(file: Path, found: str, expected: str) -> PinMismatchError:
    return PinMismatchError(
        f"{file} has sha256 {found}, not {expected}.",
        cause="it is a different file from the pinned one, or it was damaged in transfer",
        cure="fetch it again: ./inv fetch-deps; if it happens again, name another mirror with --mirror URL",
    )
