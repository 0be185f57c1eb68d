"""dpkg's status file: the records that keep apt from installing anything, and how one of them is removed.

The file is a sequence of records ("Field: value" lines) with an empty line behind each; see deb-control(5), dpkg(1).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ActionNeeded, StateLockedError

STATUS = Path("var/lib/dpkg/status")
REINSTALL_REQUIRED = "reinstreq"
LOCKS = ("lock-frontend", "lock")  # apt takes them in this order

# Installers of Ascend packages leave such a record behind, and no archive exists that could reinstall it (guide 6.7.1).
# Any other package can be reinstalled from its distribution, which is better than forgetting that it is there.
REMOVABLE = "ascend-cann-toolkit"


@dataclass(frozen=True)
class BrokenRecord:
    """A record that says its package has to be reinstalled before apt does anything else."""

    package: str
    status: str

    @property
    def removable(self) -> bool:
        """Whether the cure is to remove the record."""
        return self.package == REMOVABLE


def split_records(data: bytes) -> list[bytes]:
    """The records, each with the empty lines behind it; put together they are `data` again."""
    records: list[bytes] = []
    record: list[bytes] = []
    ended = False
    for line in data.splitlines(keepends=True):
        empty = line == b"\n"
        if ended and not empty:
            records.append(b"".join(record))
            record = []
        record.append(line)
        ended = empty
    if record:
        records.append(b"".join(record))
    return records


def broken_record(record: bytes) -> BrokenRecord | None:
    """What a record says if its package has to be reinstalled, else None."""
    fields = _fields(record)
    words = fields.get(b"status", b"").split()
    if len(words) != 3 or words[1].lower() != REINSTALL_REQUIRED.encode():
        return None
    package = fields.get(b"package", b"").decode("utf-8", "replace")
    return BrokenRecord(package, b" ".join(words).decode("utf-8", "replace"))


def broken_records(data: bytes) -> list[BrokenRecord]:
    """Every record whose package has to be reinstalled."""
    return [found for found in map(broken_record, split_records(data)) if found]


def without_removable(data: bytes) -> bytes:
    """The file without the removable broken records; every other byte is unchanged."""
    return b"".join(record for record in split_records(data) if not _is_removable(record))


def repair(status: Path) -> Path | None:
    """Removes the removable broken records from a status file, and returns the backup that it made first.

    None where there is nothing to remove. Raises StateLockedError while dpkg or apt is running, ActionNeeded when an
    interrupted dpkg has left changes that are not in the file yet, FileAccessError without the right to write.
    """
    file = status.resolve()
    with _locks(file.parent):
        _refuse_pending_updates(file.parent)
        with fsutil.explained(file, doing="read"):
            data = file.read_bytes()
        repaired = without_removable(data)
        if repaired == data:
            return None
        backup = _free_name(file)
        fsutil.write_file(backup, data, mode=0o644)
        fsutil.write_file(file, repaired)
        return backup


def _is_removable(record: bytes) -> bool:
    found = broken_record(record)
    return found is not None and found.removable


def _fields(record: bytes) -> dict[bytes, bytes]:
    """The first line of each field, by its name in lower case; none for what holds two packages.

    Two of them in one record mean that the file isn't separated as dpkg separates it, so that removing this "record"
    would remove too much.
    """
    fields: dict[bytes, bytes] = {}
    for line in record.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and not line.startswith((b" ", b"\t")):
            if name.lower() == b"package" and b"package" in fields:
                return {}
            fields[name.lower()] = value.strip()
    return fields


def _refuse_pending_updates(directory: Path) -> None:
    updates = directory / "updates"
    if updates.is_dir() and any(entry.name.isdigit() for entry in updates.iterdir()):
        raise ActionNeeded(
            f"{updates} contains changes that dpkg has not applied yet.",
            cause="dpkg was interrupted",
            cure="run dpkg --configure -a, then the same command again",
        )


@contextlib.contextmanager
def _locks(directory: Path) -> Iterator[None]:
    """Both locks of dpkg, held while the block runs. They are record locks: fcntl(2), as dpkg takes them."""
    with contextlib.ExitStack() as stack:
        for name in LOCKS:
            path = directory / name
            with fsutil.explained(path, doing="opened"):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            stack.callback(os.close, descriptor)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StateLockedError(
                    f"{path} is locked by another program.",
                    cause="apt or dpkg is running and would overwrite the edit",
                    cure="wait until it has finished, then run the same command again",
                ) from error
        yield


def _free_name(file: Path) -> Path:
    number = 1
    while (backup := file.with_name(f"{file.name}.backup-{number}")).exists():
        number += 1
    return backup
